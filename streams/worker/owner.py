"""One owner at work: claim, load, build; then check the chain, read, fold, commit, send; and claim again if refused."""

from __future__ import annotations

import asyncio
import bisect
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from confluent_kafka import KafkaException

from streams.core.stage import Effects, Send, Stage, StageFactory
from streams.observe import partitioner
from streams.observe.partitioner import Finding, KeyCheck, Keys, Misplacements, unpacked
from streams.store import log_identity
from streams.store.lines import still_known
from streams.store.log_identity import Identity
from streams.store.tables import Change, Kind, Outcome, Outgoing, Owner, StoreUnavailable, Tables, View
from streams.transport.beginning import DataGap, GapHook, StateAhead, StateMissing, beginning, no_alert, stored_name
from streams.transport.chain import Part, Place
from streams.transport.intake import Intake
from streams.transport.settings import WorkerSettings
from streams.transport.topic_watch import TopicWatch
from streams.worker.outbox import Relay

log = logging.getLogger(__name__)

RETRY_S = 0.5


KeyHook = Callable[[Finding], Sequence[Send]]


def no_key_alert(finding: Finding) -> Sequence[Send]:
    """Misplaced keys show in the worker's status only."""
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
    on_keys: KeyHook = no_key_alert
    watch: TopicWatch | None = None
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
        self._now: Mapping[str, Identity] = {}
        self._keys = KeyCheck(owner.partition, {})

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
            return await self._shared.tables.holds(self.owner, self._fence, self._stored_offsets())
        except StoreUnavailable:
            return False

    def _stored_offsets(self) -> dict[str, int]:
        log_id = self._shared.settings.log_id
        return {stored_name(topic, log_id): offset for topic, offset in self.offsets.items()}

    async def compare(self) -> None:
        """While nothing comes no commit would notice that the store has gone back in time, or that we were replaced."""
        async with self._lock:
            if not self.live:
                return
            try:
                if await self._shared.tables.holds(self.owner, self._fence, self._stored_offsets()):
                    return
                log.warning("%s: the store does not stand where we do, beginning again from it", self.owner)
                if await self._shared.tables.holds(self.owner, self._fence):
                    await self._again()
                else:
                    self._fenced()
            except StoreUnavailable as error:
                await self._doubt(error)

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
        kept = await shared.tables.load(self.owner, [log_identity.TABLE, partitioner.TABLE])
        now = {} if shared.watch is None else await shared.watch.now()
        self._now = {topic: now[topic] for topic in self.topics if topic in now}
        found = await beginning(
            self.owner,
            self.topics,
            claimed,
            kept[log_identity.TABLE],
            self._now,
            settings=shared.settings,
            tables=shared.tables,
            intake=shared.intake,
        )
        shared.counters.gaps += len(found.gaps)
        outgoing: list[Outgoing] = []
        for gap in found.gaps:
            identity = f"{gap.topic}-{gap.partition}-{gap.first}-gap"
            outgoing += self._owed(shared.on_gap(gap), identity, claimed.sequence + len(outgoing), claimed.fence)
        change = found.change(claimed, shared.settings.log_id, outgoing)
        if change is not None and await shared.tables.commit(self.owner, change) is not Outcome.COMMITTED:
            return False  # somebody else claims it at this moment
        factory = shared.factories[self.owner.kind]
        tables = await shared.tables.load(self.owner, factory.whole(claimed.checkpoint))
        self._keys = KeyCheck(self.owner.partition, kept[partitioner.TABLE])
        self._stage = factory.build(self.owner.partition, claimed.checkpoint, tables)
        self._fence, self.offsets = claimed.fence, found.begin
        self._sequence = outgoing[-1].sequence if outgoing else claimed.sequence
        shared.relay.submit(self.owner, [*claimed.outbox, *outgoing])
        self.live, self.active_at = True, time.monotonic()
        log.info("%s claimed (%s) at %s, %d unsent", self.owner, claimed.fence, found.begin, len(claimed.outbox))
        return True

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
            effects, outgoing = await self._fold(fresh)
            if self.owner.kind == "observe":
                for part in fresh:
                    self._keys.see(part.topic, part.records, self._partitions(part.topic))
                effects.writes[partitioner.TABLE] = self._keys.rows(part.topic for part in fresh)
            await self._commit(effects, outgoing, {part.topic: part.end for part in fresh})
            self._shared.counters.records += sum(len(part.records) for part in fresh)
            self._shared.counters.batches += 1

    async def _fold(self, parts: Sequence[Part]) -> tuple[Effects, list[Outgoing]]:
        stage = self._stage
        assert stage is not None  # live
        arrived = {self._shared.settings.topics.source(part.topic): part.records for part in parts}
        try:
            wanted = stage.needed(arrived)
            found = await self._shared.tables.read(self.owner, wanted) if wanted else {}
            effects = stage.fold(arrived, found, time.time())
        except StoreUnavailable:
            raise
        except Exception:
            read = ", ".join(f"{part.topic} offsets {part.begin} to {part.end - 1}" for part in parts)
            log.exception("%s failed on %s", self.owner, read)
            raise
        # Every commit moves the offset of its first part on: no two have the same.
        identity = f"{parts[0].topic}-{self.owner.partition}-{parts[0].end - 1}"
        return effects, self._owed(effects.sends, identity, self._sequence, self._fence)

    async def _commit(self, effects: Effects, outgoing: list[Outgoing], ends: Mapping[str, int]) -> None:
        shared, log_id = self._shared, self._shared.settings.log_id
        expected = {stored_name(topic, log_id): self.offsets[topic] for topic in ends}
        offsets = {stored_name(topic, log_id): end for topic, end in ends.items()}
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

    def _partitions(self, topic: str) -> int:
        return self._now[topic].partitions if topic in self._now else 0

    def keys(self) -> dict[Place, Keys]:
        """How many keys were looked at, and lie where they do not belong."""
        return {Place(topic, self.owner.partition): keys for topic, keys in self._keys.topics.items()}

    async def tell_gap(self, gap: DataGap) -> None:
        """A hole that nothing explains was passed over."""
        async with self._lock:
            if not self.live:
                return
            self._shared.counters.gaps += 1
            log.error("DATA GAP: %s/%s has no records from %d to %d", gap.topic, gap.partition, gap.first, gap.end - 1)
            identity = f"{gap.topic}-{gap.partition}-{gap.first}-hole"
            outgoing = self._owed(self._shared.on_gap(gap), identity, self._sequence, self._fence)
            try:
                await self._commit(Effects(), outgoing, dict(self.offsets))
            except StoreUnavailable as error:
                await self._doubt(error)

    async def tell_keys(self) -> None:
        """Add up what all observers have counted of their keys; tell what began or is over. For the first one alone."""
        async with self._lock:
            if not self.live:
                return
            try:
                await self._tell_keys()
            except StoreUnavailable as error:
                await self._doubt(error)

    async def _tell_keys(self) -> None:
        shared, now = self._shared, time.time()
        count = max((self._partitions(topic) for topic in self.topics), default=0)
        rows = {p: await shared.tables.load(Owner("observe", p), [partitioner.TABLE]) for p in range(count)}
        before = rows[0][partitioner.TABLE].get(partitioner.INCIDENTS, b"") if rows else b""
        incidents = Misplacements(before)
        findings = incidents.look({p: unpacked(found[partitioner.TABLE]) for p, found in rows.items()}, now)
        if (row := incidents.row()) == before:
            return
        outgoing: list[Outgoing] = []
        for finding in findings:
            what = "misplaced keys" if finding.begun else "no more misplaced keys"
            log.error("%s in %s: %d, %.1f %% of the last", what, finding.topic, finding.misplaced, 100 * finding.share)
            identity = f"{finding.topic}-keys-{finding.number}-{'open' if finding.begun else 'resolved'}"
            outgoing += self._owed(shared.on_keys(finding), identity, self._sequence + len(outgoing), self._fence)
        effects = Effects(writes={partitioner.TABLE: {partitioner.INCIDENTS: row}})
        active_at = self.active_at  # no batch: who looks for lost ones must not be put off
        await self._commit(effects, outgoing, dict(self.offsets))
        self.active_at = active_at

    async def idle(self) -> None:
        """Let the stage see the time although nothing came."""
        async with self._lock:
            if not self.live or self._stage is None:
                return
            self.active_at = time.monotonic()
            effects = self._stage.fold({}, {}, time.time())
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
    return part._replace(begin=offset, records=part.records[bisect.bisect_left(part.records.offsets, offset) :])


__all__ = ["DataGap", "GapHook", "StateAhead", "StateMissing", "Work", "no_alert"]
