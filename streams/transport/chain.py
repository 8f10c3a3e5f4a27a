"""The chain of offsets: what arrived from the log, what was handed over, and no hole between that is not explained.

Each topic-partition is a *lane*. `place` says where it must begin; nothing is taken from a lane that has no place.
Records below the place are cut; a record above it leaves a hole, and a hole is believed only when the log, asked again
from its beginning, shows the same one: then it is compaction or the markers and aborted records of transactions.
Otherwise what was missing arrives on the second asking, and nothing is lost. Pure: no Kafka, no clock.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from streams.core.records import Records

LONG = 64  # offsets in a row without a record: more than the markers of transactions that end one after another
TRUST_S = 60.0  # how long a lane that has shown a hole twice is believed without asking again


class Place(NamedTuple):
    """A topic-partition. Compares equal to any tuple (topic, partition), so also to Faust's and aiokafka's."""

    topic: str
    partition: int


class Part(NamedTuple):
    """Records of one lane for its owner. They are all that the log holds of [begin, end). `placing`: after which placing of the lane they
    were handed over."""

    topic: str
    begin: int
    end: int
    records: Records
    placing: int = 0


@dataclass(slots=True)
class Lane:
    """One topic-partition: the next part begins at `begin`, `upto` is to arrive next, `records` lie between."""

    place: Place
    begin: int
    upto: int
    records: Records = field(default_factory=lambda: Records.of(()))
    size: int = 0  # bytes of the values of `records`
    silent_s: float = 0.0  # of listening, since something last came or the lane was placed
    at_end: bool = False  # nothing to read followed what came last
    waiting_since: float = 0.0  # when the first of `records` came
    handed: float | None = None  # broker timestamp of the last record handed over
    asked: tuple[int, int] | None = None  # the hole [from, to) that the log was asked about again
    trusted_until: float = 0.0
    placing: int = 0  # how often the lane was placed before
    holes: int = 0  # offsets without a record, believed
    long_holes: list[tuple[int, int]] = field(default_factory=list)  # [from, to), to be explained

    def extend(self, records: Records) -> None:
        """Records that follow those it holds."""
        self.records.extend(records)
        self.size += records.size()

    def take(self, count: int) -> Part:
        """The first `count` records leave the lane."""
        if count >= len(self.records):
            records, self.records, end = self.records, Records.of(()), self.upto
            self.size = 0
        else:
            records = self.records.cut(count)
            end = self.records.offsets[0]
            self.size -= records.size()
        if records:
            self.handed = records.timestamps[-1]
        part = Part(self.place.topic, self.begin, end, records, self.placing)
        self.begin = end
        return part


class Chain:
    """The lanes of this process."""

    def __init__(self) -> None:
        self.lanes: dict[Place, Lane] = {}

    def clear(self) -> None:
        """No lane has a place: nothing is taken until `place` is called again."""
        self.lanes.clear()

    def place(self, positions: Mapping[Place, int]) -> None:
        """Begin these lanes anew at their offsets; what they held is forgotten."""
        for place, offset in positions.items():
            old = self.lanes.get(place)
            lane = self.lanes[place] = Lane(place, offset, offset)
            if old is not None:
                # Not `asked`: the log may have shown since what was missing, and be read once more where it was.
                lane.placing, lane.handed, lane.trusted_until, lane.holes, lane.long_holes = (
                    old.placing + 1,
                    old.handed,
                    old.trusted_until,
                    old.holes,
                    old.long_holes,
                )

    def is_read_again(self, place: Place, part: Part) -> bool:
        """Whether the lane was placed anew since the part was handed over: what is missing before it is on its way."""
        lane = self.lanes.get(place)
        return lane is not None and part.placing != lane.placing

    def positions(self) -> dict[Place, int]:
        """Where the log must be read on, for every lane."""
        return {place: lane.upto for place, lane in self.lanes.items()}

    def arrive(self, place: Place, records: Records, now: float) -> bool:
        """Take records in. False: there is a hole, and the log must be read again from `lane.upto`."""
        lane = self.lanes.get(place)
        if lane is None or not records:
            return True
        if records.offsets[0] < lane.upto:
            records = records[bisect.bisect_left(records.offsets, lane.upto) :]
            if not records:
                return True
        lane.silent_s, lane.at_end = 0.0, False
        if not lane.records:
            lane.waiting_since = now
        missing = records.offsets[-1] + 1 - lane.upto - len(records)
        if missing:
            if now >= lane.trusted_until and not self._believed(lane, records, now):
                return False
            # Counted anew: what came before a hole may have been taken just now.
            missing = records.offsets[-1] + 1 - lane.upto - len(records)
            lane.holes += missing
            if missing > LONG:
                lane.long_holes += _long_holes(lane.upto, records.offsets)
        lane.extend(records)
        lane.upto = records.offsets[-1] + 1
        return True

    def end(self, place: Place, offset: int) -> None:
        """The log was read up to `offset`, where it ends: what lies between are markers, or what a transaction still hides."""
        lane = self.lanes.get(place)
        if lane is not None and offset >= lane.upto:
            lane.at_end = True

    def listened(self, seconds: float) -> None:
        """Nothing came for so long, but for the lanes that something arrives for now."""
        for lane in self.lanes.values():
            lane.silent_s += seconds

    @staticmethod
    def _believed(lane: Lane, records: Records, now: float) -> bool:
        """Whether the first hole is the one asked about. If not, the records before it are taken, and it is noted."""
        before = next(index for index, offset in enumerate(records.offsets) if offset != lane.upto + index)
        hole = (lane.upto + before, records.offsets[before])
        if lane.asked == hole:
            lane.trusted_until = now + TRUST_S
            return True
        if before:
            lane.extend(records[:before])
            lane.upto += before
        lane.asked = hole
        return False


def _long_holes(upto: int, offsets: Iterable[int]) -> list[tuple[int, int]]:
    found = []
    for offset in offsets:
        if offset - upto > LONG:
            found.append((upto, offset))
        upto = offset + 1
    return found


def count_until(records: Records, timestamp: float) -> int:
    """How many leading records are not later than `timestamp`, supposing that timestamps ascend."""
    stamps = records.timestamps
    return len(stamps) if not stamps or stamps[-1] <= timestamp else bisect.bisect_right(stamps, timestamp)


def share(lanes: Iterable[Lane], behind: Iterable[bool], limit: int, slack_s: float) -> list[int]:
    """How many records each of an owner's lanes may hand over, at most `limit` together.

    A lane that is `behind` (the log holds more of it than has arrived) holds the others at its own time, so that none
    of them runs more than `slack_s` of broker time ahead of it.
    """
    held = list(lanes)
    horizon = float("inf")
    for lane, late in zip(held, behind, strict=True):
        if late:
            front = lane.records.timestamps[-1] if lane.records else lane.handed
            horizon = min(horizon, float("-inf") if front is None else front)
    counts = [count_until(lane.records, horizon + slack_s) for lane in held]
    return counts if sum(counts) <= limit else _cap(held, counts, limit)


def _cap(lanes: list[Lane], counts: list[int], limit: int) -> list[int]:
    """`counts` cut to `limit` at one point of broker time."""
    low = min(lane.records.timestamps[0] for lane, count in zip(lanes, counts, strict=True) if count)
    high = max(lane.records.timestamps[count - 1] for lane, count in zip(lanes, counts, strict=True) if count)
    kept = [0] * len(lanes)
    for _ in range(40):  # halves a day to below a microsecond
        middle = (low + high) / 2
        tried = [min(count, count_until(lane.records, middle)) for lane, count in zip(lanes, counts, strict=True)]
        if sum(tried) <= limit:
            low, kept = middle, tried
        else:
            high = middle
    for index, count in enumerate(counts):  # what is left is at one and the same time
        kept[index] += min(count - kept[index], limit - sum(kept))
    return kept
