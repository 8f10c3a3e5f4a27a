"""From the log to the owners: one lock over fetching and positioning, the chain between them, balanced batches out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import NamedTuple, TypeVar, TypeVarTuple

from confluent_kafka import Message

from streams.store.tables import Kind, Owner
from streams.transport.chain import LONG, Chain, Lane, Part, Place, share
from streams.transport.fetcher import Fetcher, sort_out

WAIT_S = 0.1
HELD_WAIT_S = 0.02
COLLECT_S = 1.0
BATCH_BYTES = 16 * 2**20
DIGEST_BYTES = 4 * 2**20
"""Of a judge's batch: with digests of many panes a second's work, for which the loop stands still."""
LANE_BYTES = 2 * BATCH_BYTES  # a digest of many panes has hundreds of kilobytes, an event hundreds of bytes

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


class Fetched(NamedTuple):
    """One message to an agent: what came for one owner, a part for each of its topics that has something."""

    owner: Owner
    parts: tuple[Part, ...]
    number: int = 0
    """Ascending. What is for owners of one kind arrives in this order, or not at all."""


class Intake:
    """`groups`: the topics of each kind of owner, whose partitions of one number belong together.

    Records wait in their lanes until they are handed over, at most `batch_records` and about `BATCH_BYTES` for an owner
    at a time (`DIGEST_BYTES` for a judge). Where the log holds more than that, small pieces are collected first, for
    `COLLECT_S` at most (digests are few while events are many); where it does not, they wait for `linger_s` at most.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        groups: Mapping[Kind, Sequence[str]],
        *,
        fetch_records: int = 10_000,
        batch_records: int = 8_000,
        held_records: int = 200_000,
        slack_s: float = 2.0,
        patience_s: float = 30.0,
    ) -> None:
        self.chain = Chain()
        self._fetcher = fetcher
        self._kinds: dict[str, Kind] = {topic: kind for kind, topics in groups.items() for topic in topics}
        self._lined = frozenset(groups.get("judge", ()))
        self._order = {topic: index for topics in groups.values() for index, topic in enumerate(topics)}
        self._fetch, self._batch, self._held = fetch_records, batch_records, held_records
        self._slack, self._patience = slack_s, patience_s
        self._lock = asyncio.Lock()  # fetch or position, never both
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="leadline-fetch")
        self._waiting: asyncio.Future[list[Message]] | None = None
        self._lost: set[Place] = set()
        self._owners: dict[Owner, list[Lane]] = {}
        self.fetched = 0  # records, since the start
        self.handed: dict[Owner, int] = {}
        """The last number of what was handed over for each owner."""
        self._number = 0
        self.linger_s = 0.0

    def owner_of(self, place: Place) -> Owner:
        return Owner(self._kinds[place.topic], place.partition)

    # Positions

    def clear(self) -> None:
        """Take nothing from now on: the partitions may belong to somebody else."""
        self.chain.clear()
        self._owners.clear()

    async def place(self, positions: Mapping[Place, int]) -> None:
        """Read exactly these lanes, from these offsets."""
        async with self._lock:
            self.clear()
            await self._position(positions)

    async def go_back(self, positions: Mapping[Place, int]) -> None:
        """Begin these lanes anew at these offsets, where they are still ours; the others go on."""
        async with self._lock:
            ours = {place: offset for place, offset in positions.items() if place in self.chain.lanes}
            if ours:
                await self._position(ours)

    async def _position(self, positions: Mapping[Place, int]) -> None:
        if self._waiting is not None:  # a fetch whose taker was cancelled; what it brings is from before
            await asyncio.wait([self._waiting])
            self._waiting = None
        self.chain.place(positions)
        self._lost -= positions.keys()
        self._owners.clear()
        for place in sorted(self.chain.lanes, key=lambda place: (place.partition, self._order[place.topic])):
            self._owners.setdefault(self.owner_of(place), []).append(self.chain.lanes[place])
        await self._run(self._fetcher.assign, self.chain.positions())

    async def bounds(self, place: Place) -> tuple[int, int]:
        """First offset and end of the log, asked of the broker."""
        return await self._run(self._fetcher.bounds, place)

    async def committed(self, places: Sequence[Place]) -> dict[Place, int]:
        """What the consumer group has committed to Kafka."""
        return await self._run(self._fetcher.committed, places)

    async def _run(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    # Records

    async def take(self) -> list[Fetched]:
        """What is ready for owners, after a wait of at most a tenth of a second."""
        async with self._lock:
            full = False
            if self._waiting is None:
                full = await self._accept(self._fetcher.consume(self._fetch))
            ready = self._hand_over(full)
            if not ready and not full:
                held = any(lane.records for lane in self.chain.lanes.values())
                await self._accept(await self._wait(HELD_WAIT_S if held else WAIT_S))
                ready = self._hand_over(False)
            return ready

    async def _wait(self, seconds: float) -> list[Message]:
        if self._waiting is None:
            loop = asyncio.get_running_loop()
            self._waiting = loop.run_in_executor(self._thread, self._fetcher.wait, self._fetch, seconds)
        began = monotonic()
        # Shielded: a taker that is cancelled leaves its messages to the next one.
        messages = await asyncio.shield(self._waiting)
        self._waiting = None
        # A loop that was busy with something else has not listened meanwhile.
        self.chain.listened(min(monotonic() - began, seconds))
        return messages

    async def _accept(self, messages: list[Message]) -> bool:
        """Put messages into their lanes. True: there is probably more of them."""
        if not messages:
            return False
        found = sort_out(messages, self._lined)
        now = monotonic()
        whole = True
        for place, records in found.records.items():
            whole &= self.chain.arrive(place, records, now)
        if not whole:
            await self._run(self._fetcher.assign, self.chain.positions())
        else:
            for place, offset in found.ends.items():
                self.chain.end(place, offset)
        self._lost |= found.lost & self.chain.lanes.keys()
        self.fetched += len(messages)
        return len(messages) == self._fetch

    def _hand_over(self, more: bool) -> list[Fetched]:
        """Cut batches. With `more` to come at once, full ones first, as long as memory allows."""
        now = monotonic()
        total = sum(len(lane.records) for lane in self.chain.lanes.values())
        if not total:
            return []
        collect = more and total < self._held
        ready: list[Fetched] = []
        for owner, lanes in self._owners.items():
            held, size = sum(len(lane.records) for lane in lanes), sum(lane.size for lane in lanes)
            bound = DIGEST_BYTES if owner.kind == "judge" else BATCH_BYTES
            most = self._batch if size <= bound else max(1, min(self._batch, held * bound // size))
            wait = max(self.linger_s, COLLECT_S) if collect else self.linger_s
            if held >= most or (held and self._has_waited(lanes, now, wait)):
                behind = [len(lanes) > 1 and self._behind(lane) for lane in lanes]
                counts = share(lanes, behind, most, self._slack)
                parts = tuple(lane.take(count) for lane, count in zip(lanes, counts, strict=True) if count)
                if parts:
                    self._number += 1
                    self.handed[owner] = self._number
                    ready.append(Fetched(owner, parts, self._number))
        self._hold()
        return ready

    @staticmethod
    def _has_waited(lanes: Sequence[Lane], now: float, seconds: float) -> bool:
        return now - min(lane.waiting_since for lane in lanes if lane.records) >= seconds

    def _hold(self) -> None:
        """Bound the memory of lanes that run ahead; a pause costs a new fetch, so none is short."""
        held = self._fetcher.paused
        stop = {
            place
            for place, lane in self.chain.lanes.items()
            if len(lane.records) > (self._batch if place in held else 4 * self._batch)
            or lane.size > (LANE_BYTES // 4 if place in held else LANE_BYTES)
        }
        self._fetcher.hold(stop)

    def _behind(self, lane: Lane) -> bool:
        """Whether the log holds more of a lane than has come: then it holds the others, until their broker has been silent too long."""
        if lane.at_end or lane.silent_s > self._patience:
            return False
        end = self._fetcher.end(lane.place)
        return end is None or lane.upto < end

    def lost(self) -> set[Place]:
        """Lanes whose offset the log no longer holds, told once."""
        lost, self._lost = self._lost, set()
        return lost

    async def unexplained(self) -> list[tuple[Place, int, int]]:
        """Ranges [from, to) that the log does not hold, and that neither markers nor aborted records explain; told once.

        The log is asked: what transactions hide is there for a reader that does not care. What compaction or a fault of
        the broker has removed is not.
        """
        found = []
        for place, lane in list(self.chain.lanes.items()):
            while lane.long_holes:
                begin, end = lane.long_holes[0]
                first, last = await asyncio.to_thread(self._fetcher.emptiest, place, begin, end)
                lane.long_holes.remove((begin, end))
                if last - first > LONG:
                    found.append((place, first, last))
        return found

    def lag(self, place: Place, offset: int) -> int | None:
        """Offsets between `offset` and the end of the log as last heard."""
        end = self._fetcher.end(place) if place in self.chain.lanes else None
        return None if end is None else max(0, end - offset)

    async def close(self) -> None:
        self.clear()
        await self._run(self._fetcher.close)
        self._thread.shutdown(wait=False)
