"""Whether keys lie in the partition where Java's partitioner puts them; if not, a label may never meet its prediction.

A producer with another partitioner shows in its keys alone: each event is right, and half of each pair is elsewhere.
So each observer counts a sample of its batches' keys, and the observer of partition 0 adds up what all of them have
counted and says once, for each topic, that it began and that it is over. What lies in a partition of its own is joined
there all the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from leadline.partition import partition_of
from streams.core.records import Records

TABLE = "keys"
INCIDENTS = b"incidents"
SAMPLE = 200  # keys of one batch: a few tens of microseconds
SCALAR_BELOW = 16  # keys of one length; numpy's calls cost as much
ENOUGH = 5  # misplaced keys: one is somebody's try by hand
CALM = 2_000  # keys looked at since the last misplaced one: then it is over
RECENT = 1_000  # keys that a share is of, at least

_MULTIPLIER = np.uint32(0x5BD1E995)
_SEED = 0x9747B28C


def partitions_of(keys: Sequence[bytes], partitions: int) -> npt.NDArray[np.int64]:
    """`leadline.partition.partition_of` for many keys, keys of one length at a time."""
    found = np.empty(len(keys), np.int64)
    by_length: dict[int, list[int]] = defaultdict(list)
    for at, key in enumerate(keys):
        by_length[len(key)].append(at)
    for length, places in by_length.items():
        if len(places) < SCALAR_BELOW:
            found[places] = [partition_of(keys[at], partitions) for at in places]
        else:
            table = np.frombuffer(b"".join([keys[at] for at in places]), np.uint8).reshape(len(places), length)
            found[places] = (_murmur2(table) & np.uint32(0x7FFFFFFF)) % partitions
    return found


def _murmur2(keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """MurmurHash2 (Austin Appleby) with Kafka's seed, of equally long keys, shape (keys, bytes). Wraps at 32 bits."""
    count, length = keys.shape
    whole = length & ~3
    hashed = np.full(count, _SEED ^ length, np.uint32)
    words = np.ascontiguousarray(keys[:, :whole]).view("<u4")
    for column in range(whole // 4):
        mixed = words[:, column] * _MULTIPLIER
        mixed ^= mixed >> np.uint32(24)
        hashed = hashed * _MULTIPLIER ^ mixed * _MULTIPLIER
    if length > whole:
        last = np.zeros((count, 4), np.uint8)
        last[:, : length - whole] = keys[:, whole:]
        hashed = (hashed ^ last.view("<u4")[:, 0]) * _MULTIPLIER
    hashed ^= hashed >> np.uint32(13)
    hashed *= _MULTIPLIER
    hashed ^= hashed >> np.uint32(15)
    return hashed


class Keys(msgspec.Struct):
    """What one observer has seen of one topic's keys. `example`: offset of the last misplaced one, and where it belongs."""

    looked_at: int = 0
    misplaced: int = 0
    example: tuple[int, int] | None = None
    mark: int = 0
    mark_misplaced: int = 0
    before: float = 0.0

    def see(self, looked_at: int, misplaced: int) -> None:
        """Count a sample."""
        if self.looked_at - self.mark >= RECENT:
            self.before = self.share
            self.mark, self.mark_misplaced = self.looked_at, self.misplaced
        self.looked_at += looked_at
        self.misplaced += misplaced

    @property
    def share(self) -> float:
        """Of the last thousand keys or so."""
        recent = self.looked_at - self.mark
        if recent < SAMPLE and self.mark:
            return self.before
        return (self.misplaced - self.mark_misplaced) / recent if recent else 0.0


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Keys).decode


class KeyCheck:
    """One observer's counts, by topic. A record without a key lies anywhere, so it is misplaced too."""

    def __init__(self, partition: int, rows: Mapping[bytes, bytes]) -> None:
        self.partition = partition
        self.topics = unpacked(rows)

    def see(self, topic: str, records: Records, partitions: int) -> None:
        """Look at some of a batch's keys, evenly spread."""
        if partitions < 2 or not records:
            return
        step = -(-len(records) // SAMPLE)
        sample = records.keys[::step]
        wrong = np.array([key is None for key in sample])
        belongs = partitions_of([key or b"" for key in sample], partitions)
        wrong |= belongs != self.partition
        keys = self.topics.setdefault(topic, Keys())
        at = np.flatnonzero(wrong)
        keys.see(len(sample), len(at))
        if len(at):
            keys.example = (records.offsets[int(at[-1]) * step], int(belongs[at[-1]]))

    def rows(self, topics: Iterable[str]) -> dict[bytes, bytes]:
        """What is to be committed with a batch of these topics."""
        return {topic.encode(): _pack(self.topics[topic]) for topic in topics if topic in self.topics}


def unpacked(rows: Mapping[bytes, bytes]) -> dict[str, Keys]:
    """Rows of one owner, by topic."""
    return {name.decode(): _unpack(row) for name, row in rows.items() if name != INCIDENTS}


class Misplacement(msgspec.Struct):
    """A topic's incident: its number, whether it is open and since when (epoch seconds, this process' clock).

    The other fields are totals of all observers: `base` when the last incident ended, `grew_at` (keys looked at) when
    misplaced ones last came, `mark` and `mark_misplaced` where the share is counted from.
    """

    number: int = 0
    since: float | None = None
    base: int = 0
    misplaced: int = 0
    grew_at: int = 0
    mark: int = 0
    mark_misplaced: int = 0
    share: float = 0.0


class Finding(msgspec.Struct, frozen=True):
    """What people are told: `begun`, or over. `share` of the recent keys, `n` keys looked at."""

    topic: str
    number: int
    begun: bool
    share: float
    misplaced: int
    n: int
    since: float
    example: tuple[int, int, int] | None
    """Partition, offset, and the partition where that key belongs."""


class Misplacements:
    """All topics' incidents, as the observer of partition 0 keeps them."""

    def __init__(self, row: bytes) -> None:
        self.topics = msgspec.msgpack.decode(row, type=dict[str, Misplacement]) if row else {}

    def row(self) -> bytes:
        return _pack(self.topics) if self.topics else b""

    def look(self, seen: Mapping[int, Mapping[str, Keys]], now: float) -> list[Finding]:
        """Compare what all observers have counted (by partition, by topic) with the last look."""
        found = []
        for topic in sorted({topic for topics in seen.values() for topic in topics}):
            of_topic = {partition: topics[topic] for partition, topics in seen.items() if topic in topics}
            finding = self._look(topic, of_topic, now)
            if finding is not None:
                found.append(finding)
        return found

    def _look(self, topic: str, seen: Mapping[int, Keys], now: float) -> Finding | None:
        looked_at = sum(keys.looked_at for keys in seen.values())
        misplaced = sum(keys.misplaced for keys in seen.values())
        state = self.topics.get(topic)
        if state is None:
            if not misplaced:
                return None
            state = self.topics[topic] = Misplacement()
        if misplaced < state.misplaced or looked_at < state.mark:  # a store that went back in time
            state.misplaced, state.grew_at = misplaced, looked_at
            state.base, state.mark, state.mark_misplaced = min(state.base, misplaced), looked_at, misplaced
        if misplaced > state.misplaced:
            state.misplaced, state.grew_at = misplaced, looked_at
        if looked_at > state.mark:
            state.share = (misplaced - state.mark_misplaced) / (looked_at - state.mark)
        if looked_at - state.mark >= RECENT:
            state.mark, state.mark_misplaced = looked_at, misplaced
        if state.since is None and misplaced - state.base >= ENOUGH:
            state.number, state.since = state.number + 1, now
            return self._finding(topic, state, seen, True)
        if state.since is not None and looked_at - state.grew_at >= CALM:
            finding = self._finding(topic, state, seen, False)
            state.since, state.base = None, misplaced
            return finding
        if state.since is None and looked_at - state.grew_at >= CALM:
            state.base = misplaced  # a few keys by hand, long ago, are nothing
        return None

    @staticmethod
    def _finding(topic: str, state: Misplacement, seen: Mapping[int, Keys], begun: bool) -> Finding:
        assert state.since is not None  # open
        looked_at = sum(keys.looked_at for keys in seen.values())
        examples = [(partition, *keys.example) for partition, keys in seen.items() if keys.example is not None]
        return Finding(
            topic,
            state.number,
            begun,
            state.share,
            state.misplaced - state.base,
            looked_at,
            state.since,
            max(examples, key=lambda example: example[1], default=None),
        )
