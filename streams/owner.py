"""One owner at work: claim, load, build; then check the chain, read, fold, commit, send; and claim again if refused."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from confluent_kafka import KafkaException

from streams.chain import Part, Place
from streams.effects import merge, overlay
from streams.intake import Intake
from streams.lines import still_known
from streams.outbox import Relay
from streams.settings import WorkerSettings
from streams.stage import Effects, Record, Send, Stage, StageFactory
from streams.tables import Change, Claimed, Kind, Outcome, Outgoing, Owner, StoreUnavailable, Tables, View

log = logging.getLogger(__name__)

RETRY_S = 0.5


class StateMissing(Exception):
    """Redis knows nothing of an owner whose offsets Kafka knows; `reason` is the metric label."""

    reason = "state_missing"


class StateAhead(Exception):
    """The tables stand beyond the end of the log: the topic was made anew, or has lost its tail."""

    reason = "state_ahead_of_log"


@dataclass(frozen=True, slots=True)
class DataGap:
    """The log no longer holds [first, end) of a partition, which the tables have not seen."""

    topic: str
    partition: int
    first: int
    end: int


GapHook = Callable[[DataGap], Sequence[Send]]


def no_alert(gap: DataGap) -> Sequence[Send]:
    """The gap is in the worker's log only."""
    return ()


@dataclass(slots=True)
class Counters:
    """Since the start of the process."""

    records: int = 0
    batches: int = 0
    commits: int = 0
    refused: int = 0
    rewinds: int = 0
    claims: int = 0
    gaps: int = 0


@dataclass(slots=True)
class Shared:
    """What all owners of a worker work with. `views` collects what is to be shown, latest wins."""

    settings: WorkerSettings
    tables: Tables
    relay: Relay
    intake: Intake
    factories: Mapping[Kind, StageFactory]
    on_gap: GapHook = no_alert
    counters: Counters = field(default_factory=Counters)
    views: dict[str, View] = field(default_factory=dict)


class Work:
    """One owner's state in this process. One batch at a time: `_lock` is held from its first check to its commit."""

    def __init__(self, owner: Owner, topics: Sequence[str], shared: Shared) -> None:
        self.owner = owner
        self.topics = tuple(topics)
        self.offsets: dict[str, int] = {}
        self.live = False
        self.active_at = time.monotonic()  # the last batch, claim or idle fold
        self._shared = shared
        self._lock = asyncio.Lock()
        self._fence = ""
        self._sequence = 0
        self._stage: Stage | None = None

    @property
    def busy(self) -> bool:
        return self._lock.locked()

    def positions(self) -> dict[Place, int]:
        return {Place(topic, self.owner.partition): offset for topic, offset in self.offsets.items()}

    # Claims

    async def claim(self) -> dict[Place, int]:
        """Own the partition; what is in memory is kept if nobody else has claimed it since."""
        async with self._lock:
            if not (self.live and await self._still_ours()):
                await self._claim()
            return self.positions()

    async def claim_again(self) -> None:
        """Forget everything, begin from the store, and have the log read from there."""
        async with self._lock:
            await self._again()

    async def drop(self) -> None:
        """The partition is somebody else's now."""
        async with self._lock:
            self._forget()

    def _forget(self) -> None:
        self.live, self._stage = False, None

    async def _still_ours(self) -> bool:
        try:
            return await self._shared.tables.holds(self.owner, self._fence)
        except StoreUnavailable:
            return False

    async def _again(self) -> None:
        await self._claim()
        await self._shared.intake.go_back(self.positions())

    async def _doubt(self, error: StoreUnavailable) -> None:
        """The store gave no answer: begin from what it says when it does, if the partition is still ours."""
        log.warning("%s: whether the last commit happened is unknown: %s", self.owner, error)
        fence = self._fence
        self._forget()
        while True:
            try:
                if await self._shared.tables.holds(self.owner, fence):
                    await self._again()
                else:
                    self._fenced()
                return
            except StoreUnavailable:
                await asyncio.sleep(RETRY_S)

    def _fenced(self) -> None:
        """Somebody else has claimed the partition: most likely it is theirs, and our group has not told us yet.

        To claim it now would throw its owner out; `Owners.tend` claims it later, should it still be ours.
        """
        self._forget()
        self.active_at = time.monotonic()

    async def _claim(self) -> None:
        self._forget()
        while True:
            try:
                if await self._try_claim():
                    return
            except (StoreUnavailable, KafkaException) as error:
                log.warning("%s: not claimed yet: %s", self.owner, error)
                await asyncio.sleep(RETRY_S)

    async def _try_claim(self) -> bool:
        shared = self._shared
        claimed = await shared.tables.claim(self.owner)
        shared.counters.claims += 1
        if not claimed.known and not shared.settings.accept_new_state:
            await self._check_new()
        begin, stored, outgoing = await self._begin(claimed)
        if begin != stored:
            expected = {self._field(topic): stored.get(topic) for topic in begin}
            offsets = {self._field(topic): offset for topic, offset in begin.items()}
            change = Change(claimed.fence, expected, offsets, outbox=outgoing)
            if await shared.tables.commit(self.owner, change) is not Outcome.COMMITTED:
                return False  # somebody else claims it at this moment
        factory = shared.factories[self.owner.kind]
        tables = await shared.tables.load(self.owner, factory.whole(claimed.checkpoint))
        self._stage = factory.build(self.owner.partition, claimed.checkpoint, tables)
        self._fence, self.offsets = claimed.fence, begin
        self._sequence = outgoing[-1].sequence if outgoing else claimed.sequence
        shared.relay.submit(self.owner, [*claimed.outbox, *outgoing])
        self.live, self.active_at = True, time.monotonic()
        log.info("%s claimed (%s) at %s, %d unsent", self.owner, claimed.fence, begin, len(claimed.outbox))
        return True

    async def _check_new(self) -> None:
        places = [Place(topic, self.owner.partition) for topic in self.topics]
        committed = {place: offset for place, offset in (await self._shared.intake.committed(places)).items() if offset}
        if committed and not self._shared.settings.log_id:
            where = ", ".join(f"{place.topic}/{place.partition} at {offset}" for place, offset in committed.items())
            raise StateMissing(
                f"Redis holds no state of {self.owner}, but group {self._shared.settings.group} has committed {where}: "
                "Redis came back empty, or is another one. Restore it, or set accept_new_state to count the log again "
                "from its beginning."
            )

    async def _begin(self, claimed: Claimed) -> tuple[dict[str, int], dict[str, int], list[Outgoing]]:
        """Where each topic begins, what the store says, and the alerts of gaps between the two."""
        shared, partition = self._shared, self.owner.partition
        begin: dict[str, int] = {}
        stored: dict[str, int] = {}
        outgoing: list[Outgoing] = []
        for topic in self.topics:
            first, end = await shared.intake.bounds(Place(topic, partition))
            known = claimed.offsets.get(self._field(topic))
            begin[topic] = first if known is None else known
            if known is None:
                continue
            stored[topic] = known
            if known > end:
                raise StateAhead(
                    f"{self.owner} stands at {topic}/{partition} offset {known}, but the log ends at {end}"
                )
            if known < first:
                gap = DataGap(topic, partition, known, first)
                shared.counters.gaps += 1
                log.error(
                    "DATA GAP: %s/%s no longer holds offsets %d to %d, never read", topic, partition, known, first - 1
                )
                sends = shared.on_gap(gap)
                identity = f"{topic}-{partition}-{known}-gap"
                outgoing += self._owed(sends, identity, claimed.sequence + len(outgoing), claimed.fence)
                begin[topic] = first
        return begin, stored, outgoing

    def _field(self, topic: str) -> str:
        """The topic's name in the store's offsets: with another `log_id`, another offset."""
        log_id = self._shared.settings.log_id
        return f"{topic}#{log_id}" if log_id else topic

    @staticmethod
    def _owed(sends: Sequence[Send], identity: str, sequence: int, fence: str) -> list[Outgoing]:
        return [Outgoing(sequence + k, f"{identity}-{k}", send, fence) for k, send in enumerate(sends, 1)]

    # Batches

    async def process(self, parts: Sequence[Part]) -> None:
        """Take a batch in and commit it, or leave all as it is and have the log read from where the store stands."""
        async with self._lock:
            if not self.live:
                return  # dropped, or being claimed: the claim has set the positions anew
            try:
                await self._take(parts)
            except StoreUnavailable as error:
                await self._doubt(error)
            except BaseException:
                self._forget()
                raise

    async def _take(self, parts: Sequence[Part]) -> None:
        fresh: list[Part] = []
        back: dict[Place, int] = {}
        for part in parts:
            offset = self.offsets[part.topic]
            if part.begin > offset:  # a batch before this one was thrown away on its way
                back[Place(part.topic, self.owner.partition)] = offset
            elif part.end > offset:
                fresh.append(part if part.begin == offset else _after(part, offset))
        if back:
            self._shared.counters.rewinds += 1
            log.info("%s: batches were dropped on their way, going back to %s", self.owner, back)
            await self._shared.intake.go_back(back)
        if fresh:
            await self._shared.relay.room()
            if self.owner.kind == "judge":
                tables = self._shared.tables
                fresh = [part._replace(records=await still_known(tables, part.records)) for part in fresh]
            await self._commit(*await self._fold(fresh), {part.topic: part.end for part in fresh})
            self._shared.counters.records += sum(len(part.records) for part in fresh)
            self._shared.counters.batches += 1

    async def _fold(self, parts: Sequence[Part]) -> tuple[Effects, list[Outgoing]]:
        stage = self._stage
        assert stage is not None  # live
        effects: Effects | None = None
        outgoing: list[Outgoing] = []
        for part in parts:
            source = self._shared.settings.topics.source(part.topic)
            try:
                wanted = stage.needed(source, part.records)
                found = await self._shared.tables.read(self.owner, wanted) if wanted else {}
                if effects is not None:
                    overlay(found, wanted, effects)
                new = stage.fold(source, part.records, found, time.time())
            except StoreUnavailable:
                raise
            except Exception:
                log.exception("%s failed on %s offsets %d to %d", self.owner, part.topic, part.begin, part.end - 1)
                raise
            identity = f"{part.topic}-{self.owner.partition}-{part.end - 1}"
            outgoing += self._owed(new.sends, identity, self._sequence + len(outgoing), self._fence)
            effects = new if effects is None else merge(effects, new)
        assert effects is not None  # parts is not empty
        return effects, outgoing

    async def _commit(self, effects: Effects, outgoing: list[Outgoing], ends: Mapping[str, int]) -> None:
        shared = self._shared
        expected = {self._field(topic): self.offsets[topic] for topic in ends}
        offsets = {self._field(topic): end for topic, end in ends.items()}
        outcome = await shared.tables.commit(self.owner, Change(self._fence, expected, offsets, effects, outgoing))
        if outcome is not Outcome.COMMITTED:
            shared.counters.refused += 1
            log.warning("%s: commit refused (%s), beginning again from the store", self.owner, outcome.value)
            if outcome is Outcome.FENCED:
                self._fenced()
            else:
                await self._again()
            return
        self.offsets.update(ends)
        self._sequence += len(outgoing)
        self.active_at = time.monotonic()
        shared.counters.commits += 1
        shared.relay.submit(self.owner, outgoing)
        shared.views.update(effects.views)

    async def idle(self) -> None:
        """Let the stage see the time although nothing came."""
        async with self._lock:
            if not self.live or self._stage is None:
                return
            self.active_at = time.monotonic()
            no_records: Sequence[Record] = ()
            effects = self._stage.fold(self._shared.settings.topics.source(self.topics[0]), no_records, {}, time.time())
            if effects == Effects():
                return
            topic = self.topics[0]
            identity = f"{topic}-{self.owner.partition}-{self.offsets[topic] - 1}-idle{self._sequence}"
            try:
                await self._commit(
                    effects,
                    self._owed(effects.sends, identity, self._sequence, self._fence),
                    {topic: self.offsets[topic]},
                )
            except StoreUnavailable as error:
                await self._doubt(error)


def _after(part: Part, offset: int) -> Part:
    """The part without what lies below `offset`."""
    return part._replace(begin=offset, records=[record for record in part.records if record.offset >= offset])
