"""All owners of a worker: who is claimed, what is committed, how far behind the log everybody is."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from streams.observe.partitioner import Keys
from streams.store.tables import Kind, Owner
from streams.transport.beginning import DataGap
from streams.transport.chain import Place
from streams.transport.intake import Fetched, Intake
from streams.worker.owner import Work
from streams.worker.shared import Shared
from streams.worker.telling import fold_idle, tell_gap, tell_keys

log = logging.getLogger(__name__)

STRAY_S = 5.0
FENCED_S = 1.0
KEYS_S = 5.0
COMPARE_S = 5.0
FIRST = Owner("observe", 0)
NO_KEYS = Keys()


class CopartitionBroken(Exception):
    """One worker was given a part of an owner's topics only."""

    reason = "copartition_broken"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one partition stands: `offset` is what the tables hold, `lag` None while the log's end is unknown."""

    owner: Owner
    offset: int
    lag: int | None
    holes: int
    misplaced: float = 0.0
    """Share of the keys looked at that Java's partitioner puts into another partition."""


class Owners:
    """`streams.transport.transport.Claims` and the agents' way to their owners."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.intake: Intake = shared.intake
        self.claim_timeout_s = shared.settings.claim_timeout_s
        self._topics: dict[Kind, tuple[str, ...]] = shared.settings.topics.groups(shared.settings.roles)
        self._works: dict[Owner, Work] = {}
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self.stopping = False
        self._keys_told_at = 0.0
        self._compared_at = 0.0
        self._room = asyncio.Semaphore(shared.settings.owners_at_once)
        self._running: set[asyncio.Task[None]] = set()
        self._arrived: dict[Kind, int] = {}
        """The number of the last batch that arrived for owners of a kind."""
        self._inside: Counter[Owner] = Counter()
        """Batches that have arrived and are not done."""
        self._moved_at = time.monotonic()

    def fail(self, reason: BaseException) -> None:
        """The worker must stop; the first reason is kept."""
        if not self.failed.done():
            log.error("stopping because of %s: %s", type(reason).__name__, reason)
            self.failed.set_result(reason)

    async def claim(self, places: Iterable[Place]) -> dict[Place, int]:
        assigned = set(places)
        wanted = {self.intake.owner_of(place) for place in assigned}
        for owner in wanted:
            missing = [topic for topic in self._topics[owner.kind] if Place(topic, owner.partition) not in assigned]
            if missing:
                raise CopartitionBroken(f"{owner} was assigned without {', '.join(missing)}")
        for owner in self._works.keys() - wanted:
            await self._works.pop(owner).drop()
        positions: dict[Place, int] = {}
        for owner in sorted(wanted):
            work = self._works.get(owner)
            if work is None:
                work = self._works[owner] = Work(owner, self._topics[owner.kind], self.shared)
            positions.update(await work.claim())
        return positions

    async def recover(self, places: Iterable[Place]) -> None:
        """The log lacks what these owners ask for: the claim finds out what, and reports it."""
        for owner in {self.intake.owner_of(place) for place in places}:
            if work := self._works.get(owner):
                await work.claim_again()

    async def submit(self, fetched: Fetched) -> None:
        """Take a batch for its owner, and return as soon as there is room for another.

        While Redis works on one owner's commit, another owner's batch is computed. Batches of one owner stay in order:
        its lock is fair.
        """
        owner = fetched.owner
        self._arrived[owner.kind] = fetched.number
        self._inside[owner] += 1
        self._moved_at = time.monotonic()
        try:
            await self._room.acquire()
        except asyncio.CancelledError:
            self._inside[owner] -= 1
            raise
        task = asyncio.create_task(self._process(fetched))
        self._running.add(task)
        task.add_done_callback(partial(self._done, owner))

    async def _process(self, fetched: Fetched) -> None:
        work = self._works.get(fetched.owner)
        if work is not None and not self.stopping:
            await work.process(fetched.parts)

    def _done(self, owner: Owner, task: asyncio.Task[None]) -> None:
        self._inside[owner] -= 1
        self._moved_at = time.monotonic()
        self._running.discard(task)
        self._room.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    async def tend(self) -> None:
        """Once a second: idle folds, fenced owners that are still ours, batches lost without a successor to show it."""
        self.shared.relay.check()
        now = time.monotonic()
        idle = self.shared.settings.idle_fold_s
        compare = now - self._compared_at >= COMPARE_S
        if compare:
            self._compared_at = now
        for work in list(self._works.values()):
            if work.busy or self.stopping or not self._placed(work):
                continue
            quiet = now - work.active_at
            if not work.live:
                if quiet > self.shared.settings.heartbeat_s + FENCED_S:  # long enough to have heard that it is not ours
                    await work.claim_again()
                continue
            if work.owner == FIRST and now - self._keys_told_at >= KEYS_S:
                self._keys_told_at = now
                await tell_keys(work, self.shared)
            if compare:
                await work.compare()
            if idle is not None and quiet >= idle:
                await fold_idle(work, self.shared)
            stray = self._stray(work)
            if stray and not work.busy and self._is_thrown_away(work.owner):
                self.shared.counters.rewinds += 1
                log.info("%s: a batch was dropped on its way, going back to %s", work.owner, stray)
                await self.intake.go_back(stray)

    async def explain_holes(self) -> None:
        """Report ranges of the log that are not there and that no transaction hides."""
        for place, first, end in await self.intake.unexplained():
            if work := self._works.get(self.intake.owner_of(place)):
                await tell_gap(work, self.shared, DataGap(*place, first, end))

    def _placed(self, work: Work) -> bool:
        """Whether the group's last word is that the owner is ours."""
        lanes = self.intake.chain.lanes
        return all(Place(topic, work.owner.partition) in lanes for topic in work.topics)

    def _is_thrown_away(self, owner: Owner) -> bool:
        """Whether what was handed over for an owner does not come any more: later batches have arrived, or nothing moves at all.

        A judge that works off a backlog holds the loop for seconds, and what waits behind it is not lost.
        """
        if self._inside[owner]:
            return False
        if self.intake.handed.get(owner, 0) <= self._arrived.get(owner.kind, 0):
            return True
        return not self._running and time.monotonic() - self._moved_at > STRAY_S

    def _stray(self, work: Work) -> dict[Place, int]:
        """Lanes that have handed over more than was committed."""
        lanes = self.intake.chain.lanes
        return {p: offset for p, offset in work.positions().items() if p in lanes and lanes[p].begin > offset}

    async def quiesce(self) -> None:
        """Let what is being committed end, and start nothing new."""
        self.stopping = True
        for work in list(self._works.values()):
            await work.drop()

    def offsets(self) -> dict[Place, int]:
        return {place: offset for work in self._works.values() for place, offset in work.positions().items()}

    def standings(self) -> dict[Place, Standing]:
        """Every partition that is ours."""
        found: dict[Place, Standing] = {}
        lanes = self.intake.chain.lanes
        for work in self._works.values():
            for place, offset in work.positions().items():
                if place in lanes:
                    lag, keys = self.intake.lag(place, offset), work.keys().get(place, NO_KEYS)
                    found[place] = Standing(work.owner, offset, lag, lanes[place].holes, keys.share)
        return found

    def marks(self) -> dict[str, tuple[int, bool]]:
        """For the watchdog: where each partition stands, and whether there is something to read in it."""
        return {
            f"{place.topic}/{place.partition}": (standing.offset, bool(standing.lag))
            for place, standing in self.standings().items()
        }
