"""The rows of one source partition: a bounded cache over hashes by time bucket, and the writes that a batch makes.

The store, not this cache, bounds the delay window. A bucket that this owner has seen from its beginning is whole in memory, so that a
request which is not found there need not be asked for; only buckets that were evicted, or written before a claim, are read.
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
    """Rows by their keys (`row_keys.py`). `kept_s` is how long a row lives in event time; `stored` are the buckets that the store
    holds, with their number of rows."""

    def __init__(self, kept_s: float, cache_rows: int, stored: Mapping[int, int] | None = None) -> None:
        self.width_s = max(kept_s / BUCKETS, 1.0)
        self.kept_s = kept_s
        self.cache_rows = cache_rows
        self.rows: dict[bytes, bytes] = {}
        self.stored: dict[int, int] = dict(stored or {})
        """Live buckets, and how many rows each was given: what a successor may load whole."""
        self.absent_from_cache: set[int] = set(self.stored)
        self._members: dict[int, list[bytes]] = {}
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

    def missing(self, keys: Iterable[bytes]) -> dict[str, list[bytes]]:
        """What to read before these requests can be judged: every bucket that is not whole in memory, newest first."""
        if not self.absent_from_cache:
            return {}
        rows = self.rows
        fields = [key for key in dict.fromkeys(keys) if key not in rows]
        return {self.table(bucket): fields for bucket in sorted(self.absent_from_cache, reverse=True)} if fields else {}

    def take_found(self, found: Mapping[str, Mapping[bytes, bytes]]) -> None:
        """Rows that the store held; the newest bucket wins."""
        for table in sorted(found, key=lambda name: -int(name[2:])):
            bucket = int(table[2:])
            members = self._members.setdefault(bucket, [])
            for key, row in found[table].items():
                if key not in self.rows:
                    self.rows[key] = row
                    members.append(key)

    def load(self, bucket: int, rows: Mapping[bytes, bytes]) -> None:
        """A whole bucket from the store."""
        self.take_found({self.table(bucket): rows})
        self.absent_from_cache.discard(bucket)

    def put(self, key: bytes, row: bytes, time: float) -> None:
        """Writes a row; a row of the same request in another bucket (a label that waited) goes."""
        bucket = self.bucket_of(time)
        old = self.rows.get(key)
        self.rows[key] = row
        moved = False
        if old is not None and (before := self.bucket_of(time_of(old))) != bucket:
            moved = True
            table = self.table(before)
            self.removes.setdefault(table, []).append(key)
            self.writes.get(table, {}).pop(key, None)
        self.writes.setdefault(self.table(bucket), {})[key] = row
        if old is None or moved:
            self._members.setdefault(bucket, []).append(key)
            self.stored[bucket] = self.stored.get(bucket, 0) + 1

    def put_many(self, keys: Sequence[bytes], rows: Sequence[bytes], times: Floats, *, new: bool) -> None:
        """`put` of rows that are all new, or all known with these very times."""
        if not keys:
            return
        self.rows.update(zip(keys, rows, strict=True))
        buckets = (times // self.width_s).astype(np.int64)
        first, last = int(buckets.min()), int(buckets.max())
        for bucket in range(first, last + 1) if first == last else np.unique(buckets).tolist():
            of_keys, of_rows = keys, rows
            if first != last:
                at = np.flatnonzero(buckets == bucket).tolist()
                of_keys, of_rows = [keys[i] for i in at], [rows[i] for i in at]
            self.writes.setdefault(self.table(bucket), {}).update(zip(of_keys, of_rows, strict=True))
            if new:
                self._members.setdefault(bucket, []).extend(of_keys)
                self.stored[bucket] = self.stored.get(bucket, 0) + len(of_keys)

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
        for key in self._members.pop(bucket, ()):
            row = self.rows.get(key)
            if row is not None and self.bucket_of(time_of(row)) == bucket:
                del self.rows[key]

    def take_changes(self) -> tuple[dict[str, dict[bytes, bytes]], dict[str, list[bytes]]]:
        """The writes and removes since the last call."""
        writes, removes = self.writes, self.removes
        self.writes, self.removes = {}, {}
        return writes, removes
