"""The rows of one source partition: a bounded cache over hashes by time bucket, and the writes that a batch makes.

The store, not this cache, bounds the delay window. A bucket that this owner has seen from its beginning is whole in memory, so that a
request id which is not found there need not be asked for; only buckets that were evicted, or written before a claim, are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from streams.observe.rows import time_of

Floats = npt.NDArray[np.float64]
BUCKETS = (
    8  # a window is cut in so many: expiry drops a whole bucket, so an eighth of the window is kept too long at most
)


class RequestRows:
    """Rows by request id. `kept_s` is how long a row lives in event time; `stored` are the buckets that the store holds, with their
    number of rows."""

    def __init__(self, kept_s: float, cache_rows: int, stored: Mapping[int, int] | None = None) -> None:
        self.width_s = max(kept_s / BUCKETS, 1.0)
        self.kept_s = kept_s
        self.cache_rows = cache_rows
        self.rows: dict[str, bytes] = {}
        self.stored: dict[int, int] = dict(stored or {})
        """Live buckets, and how many rows each was given: what a successor may load whole."""
        self.absent_from_cache: set[int] = set(self.stored)
        self._members: dict[int, list[str]] = {}
        self.writes: dict[str, dict[bytes, bytes]] = {}
        self.removes: dict[str, list[bytes]] = {}

    @staticmethod
    def newest(stored: Mapping[int, int], most_rows: int) -> list[int]:
        """The newest buckets that together hold at most so many rows."""
        chosen: list[int] = []
        for bucket in sorted(stored, reverse=True):
            most_rows -= stored[bucket]
            if most_rows < 0:
                break
            chosen.append(bucket)
        return chosen

    @staticmethod
    def table(bucket: int) -> str:
        return f"b:{bucket}"

    def bucket_of(self, time: float) -> int:
        return int(time // self.width_s)

    def missing(self, ids: Iterable[str]) -> dict[str, list[bytes]]:
        """What to read before these ids can be judged: every bucket that is not whole in memory, newest first."""
        if not self.absent_from_cache:
            return {}
        rows = self.rows
        fields = [name.encode() for name in dict.fromkeys(ids) if name not in rows]
        return {self.table(bucket): fields for bucket in sorted(self.absent_from_cache, reverse=True)} if fields else {}

    def take_found(self, found: Mapping[str, Mapping[bytes, bytes]]) -> None:
        """Rows that the store held; the newest bucket wins."""
        for table in sorted(found, key=lambda name: -int(name[2:])):
            bucket = int(table[2:])
            members = self._members.setdefault(bucket, [])
            for field, row in found[table].items():
                name = field.decode()
                if name not in self.rows:
                    self.rows[name] = row
                    members.append(name)

    def load(self, bucket: int, rows: Mapping[bytes, bytes]) -> None:
        """A whole bucket from the store."""
        self.take_found({self.table(bucket): rows})
        self.absent_from_cache.discard(bucket)

    def put(self, name: str, row: bytes, time: float) -> None:
        """Writes a row; a row of the same id in another bucket (a label that waited) goes."""
        bucket = int(time // self.width_s)
        old = self.rows.get(name)
        self.rows[name] = row
        moved = False
        if old is None:
            self._members.setdefault(bucket, []).append(name)
        elif (before := self.bucket_of(time_of(old))) != bucket:
            moved = True
            self._members.setdefault(bucket, []).append(name)
            table = self.table(before)
            self.removes.setdefault(table, []).append(name.encode())
            self.writes.get(table, {}).pop(name.encode(), None)
        table = f"b:{bucket}"
        writes = self.writes.get(table)
        if writes is None:
            writes = self.writes[table] = {}
        writes[name.encode()] = row
        if old is None or moved:
            self.stored[bucket] = self.stored.get(bucket, 0) + 1

    def put_many(
        self, names: Sequence[str], fields: Sequence[bytes], rows: Sequence[bytes], times: Floats, *, new: bool
    ) -> None:
        """`put` of rows that are all new, or all known with these very times; `fields` are the names as bytes."""
        if not names:
            return
        self.rows.update(zip(names, rows, strict=True))
        buckets = (times // self.width_s).astype(np.int64)
        first, last = int(buckets.min()), int(buckets.max())
        for bucket in range(first, last + 1) if first == last else np.unique(buckets).tolist():
            of_names, of_fields, of_rows = names, fields, rows
            if first != last:
                at = np.flatnonzero(buckets == bucket).tolist()
                of_names = [names[i] for i in at]
                of_fields, of_rows = [fields[i] for i in at], [rows[i] for i in at]
            self.writes.setdefault(self.table(bucket), {}).update(zip(of_fields, of_rows, strict=True))
            if new:
                self._members.setdefault(bucket, []).extend(of_names)
                self.stored[bucket] = self.stored.get(bucket, 0) + len(of_names)

    def expire(self, clock: float) -> list[str]:
        """Drops buckets that no label may join or be told `late` from any more; returns their tables."""
        gone = sorted(bucket for bucket in self.stored if (bucket + 1) * self.width_s + self.kept_s < clock)
        for bucket in gone:
            self.stored.pop(bucket, None)
            self.absent_from_cache.discard(bucket)
            self._forget(bucket)
            self.writes.pop(self.table(bucket), None)
            self.removes.pop(self.table(bucket), None)
        return [self.table(bucket) for bucket in gone]

    def evict(self) -> None:
        """Keeps the cache within its bound, oldest buckets first; what goes is read again when it is asked for."""
        while len(self.rows) > self.cache_rows and len(self._members) > 1:
            oldest = min(self._members)
            self._forget(oldest)
            if oldest in self.stored:
                self.absent_from_cache.add(oldest)

    def _forget(self, bucket: int) -> None:
        for name in self._members.pop(bucket, ()):
            row = self.rows.get(name)
            if row is not None and self.bucket_of(time_of(row)) == bucket:
                del self.rows[name]

    def take_changes(self) -> tuple[dict[str, dict[bytes, bytes]], dict[str, list[bytes]]]:
        """The writes and removes since the last call."""
        writes, removes = self.writes, self.removes
        self.writes, self.removes = {}, {}
        return writes, removes
