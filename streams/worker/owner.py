"""One owner at work: check the chain, fold, commit, send; and claim again if refused. One thing at a time, under one lock."""

from __future__ import annotations

import asyncio
import bisect
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from confluent_kafka import KafkaException

from streams.core.stage import Effects
from streams.observe.partitioner import Keys
from streams.store.tables import Change, Outcome, Outgoing, Owner, StoreUnavailable
from streams.transport.beginning import stored_name
from streams.transport.chain import Part, Place
from streams.worker.claiming import Held, try_claim
from streams.worker.folding import fold
from streams.worker.shared import Shared

log = logging.getLogger(__name__)

RETRY_S = 0.5

Say = Callable[[Held], Awaitable[tuple[Effects, list[Outgoing]] | None]]


class Work:
    """One owner's state in this process, while it has one (`live`)."""

    def __init__(self, owner: Owner, topics: Sequence[str], shared: Shared) -> None:
        self.owner = owner
        self.topics = tuple(topics)
        self.active_at = time.monotonic()  # the last batch, claim or idle fold
        self._shared = shared
        self._lock = asyncio.Lock()
        self._held: Held | None = None
        self._offsets: dict[str, int] = {}
        self._keys: dict[str, Keys] = {}

    @property
    def live(self) -> bool:
        return self._held is not None

    @property
    def busy(self) -> bool:
        return self._lock.locked()

    def positions(self) -> dict[Place, int]:
        """Where the store stood when we last knew."""
        return {Place(topic, self.owner.partition): offset for topic, offset in self._offsets.items()}

    def keys(self) -> dict[Place, Keys]:
        """How many keys were looked at, and lie where they do not belong."""
        return {Place(topic, self.owner.partition): keys for topic, keys in self._keys.items()}

    # Claims

    async def claim(self) -> dict[Place, int]:
        """Own the partition; what is in memory is kept if nobody else has claimed it since."""
        async with self._lock:
            if not await self._still_ours():
                await self._claim()
            return self.positions()

    async def claim_again(self) -> None:
        """Forget everything, begin from the store, and have the log read from there."""
        async with self._lock:
            await self._again()

    async def drop(self) -> None:
        """The partition is somebody else's now."""
        async with self._lock:
            self._held = None

    async def compare(self) -> None:
        """While nothing comes no commit would notice that the store has gone back in time, or that we were replaced."""
        async with self._lock:
            held = self._held
            if held is None:
                return
            try:
                if await self._stands(held) and not await self._forgotten():
                    return
                log.warning("%s: the store does not stand where we do, beginning again from it", self.owner)
                if await self._shared.tables.holds(self.owner, held.fence):
                    await self._again()
                else:
                    self._fenced()
            except StoreUnavailable as error:
                await self._doubt(held, error)

    async def _still_ours(self) -> bool:
        try:
            return self._held is not None and await self._stands(self._held)
        except StoreUnavailable:
            return False

    async def _stands(self, held: Held) -> bool:
        """Whether the store stands where this state does, under our fence."""
        return await self._shared.tables.holds(self.owner, held.fence, self._stored(held.offsets))

    async def _forgotten(self) -> bool:
        """Whether the store holds messages that nobody here is sending: it went back to before it was told that Kafka has them."""
        sending = self._shared.relay.owed(self.owner)  # before the store is asked: it becomes less meanwhile
        return await self._shared.tables.owed(self.owner) > sending

    def _stored(self, offsets: Mapping[str, int]) -> dict[str, int]:
        log_id = self._shared.settings.log_id
        return {stored_name(topic, log_id): offset for topic, offset in offsets.items()}

    async def _claim(self) -> None:
        self._held = None
        while self._held is None:
            try:
                if (claimed := await try_claim(self.owner, self.topics, self._shared)) is None:
                    continue
            except (StoreUnavailable, KafkaException) as error:
                log.warning("%s: not claimed yet: %s", self.owner, error)
                await asyncio.sleep(RETRY_S)
                continue
            held, unsent = claimed
            self._shared.relay.submit(self.owner, unsent)
            self._held, self._offsets, self._keys = held, held.offsets, held.keys.topics
            self.active_at = time.monotonic()

    async def _again(self) -> None:
        await self._claim()
        await self._shared.intake.go_back(self.positions())

    async def _doubt(self, held: Held, error: StoreUnavailable) -> None:
        """The store gave no answer: begin from what it says when it does, if the partition is still ours."""
        log.warning("%s: whether the last commit happened is unknown: %s", self.owner, error)
        self._held = None
        while True:
            try:
                if await self._shared.tables.holds(self.owner, held.fence):
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
        self._held = None
        self.active_at = time.monotonic()

    # Commits

    async def process(self, parts: Sequence[Part]) -> None:
        """Take a batch in and commit it, or leave all as it is and have the log read from where the store stands."""
        async with self._lock:
            held = self._held
            if held is None:
                return  # dropped, or being claimed: the claim has set the positions anew
            try:
                await self._take(held, parts)
            except StoreUnavailable as error:
                await self._doubt(held, error)
            except BaseException:
                self._held = None
                raise

    async def say(self, what: Say) -> None:
        """Commit what `what` returns, if anything, although nothing was read."""
        async with self._lock:
            held = self._held
            if held is None:
                return
            try:
                if (said := await what(held)) is not None:
                    await self._commit(held, *said, held.offsets)
            except StoreUnavailable as error:
                await self._doubt(held, error)

    async def _take(self, held: Held, parts: Sequence[Part]) -> None:
        fresh: list[Part] = []
        back: dict[Place, int] = {}
        for part in parts:
            offset = held.offsets[part.topic]
            if part.begin > offset:  # a batch before this one was thrown away on its way
                place = Place(part.topic, self.owner.partition)
                if not self._shared.intake.chain.is_read_again(place, part):
                    back[place] = offset
            elif part.end > offset:
                fresh.append(part if part.begin == offset else _after(part, offset))
        if back:
            self._shared.counters.rewinds += 1
            log.info("%s: batches were dropped on their way, going back to %s", self.owner, back)
            await self._shared.intake.go_back(back)
        if fresh:
            await self._shared.relay.room()
            effects, outgoing = await fold(self.owner, held, fresh, self._shared)
            if await self._commit(held, effects, outgoing, {part.topic: part.end for part in fresh}):
                self.active_at = time.monotonic()
                self._shared.counters.records += sum(len(part.records) for part in fresh)
                self._shared.counters.batches += 1

    async def _commit(self, held: Held, effects: Effects, outgoing: list[Outgoing], ends: Mapping[str, int]) -> bool:
        """Whether it happened; if not, the owner has begun again from the store, or is not ours any more."""
        shared = self._shared
        # Of all topics, also of those that the batch has nothing of: the checkpoint holds what came from each.
        after = {**held.offsets, **ends}
        change = Change(held.fence, self._stored(held.offsets), self._stored(after), effects, outgoing)
        outcome = await shared.tables.commit(self.owner, change)
        if outcome is not Outcome.COMMITTED:
            shared.counters.refused += 1
            log.warning("%s: commit refused (%s), beginning again from the store", self.owner, outcome.value)
            if outcome is Outcome.FENCED:
                self._fenced()
            else:
                await self._again()
            return False
        held.offsets.update(ends)
        held.sequence += len(outgoing)
        shared.counters.commits += 1
        shared.relay.submit(self.owner, outgoing)
        shared.views.update(effects.views)
        return True


def _after(part: Part, offset: int) -> Part:
    """The part without what lies below `offset`."""
    return part._replace(begin=offset, records=part.records[bisect.bisect_left(part.records.offsets, offset) :])
