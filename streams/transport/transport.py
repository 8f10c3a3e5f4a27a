"""The Faust transport: aiokafka holds the group, librdkafka brings the records, the tables hold the offsets.

Faust sees one message for each owner and fetch, whose value is a `Fetched`. Its own read offsets, gaps and
acknowledgements are out of use, because they lose records: the chain of `streams.transport.intake` decides what is
delivered, and `seek_to_committed` is the one place where partitions are claimed and positions set.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Protocol, cast

from aiokafka import TopicPartition
from faust.transport import drivers
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as base
from faust.types import TP, ConsumerMessage, Message

from streams.transport.chain import Place
from streams.transport.group_thread import ConsumerThread
from streams.transport.intake import Fetched, Intake

log = logging.getLogger(__name__)

NAME = "leadline"


class ClaimTooSlow(Exception):
    """The store was away, or too slow for what has to be loaded."""

    reason = "claim_too_slow"


class Claims(Protocol):
    """Who knows where each partition stands. `streams.worker.owners.Owners` is one."""

    intake: Intake
    claim_timeout_s: float

    async def claim(self, places: Iterable[Place]) -> dict[Place, int]:
        """Own exactly these partitions: offsets at which each begins."""
        ...

    async def recover(self, places: Iterable[Place]) -> None:
        """The log does not hold the offsets of these partitions."""
        ...

    def offsets(self) -> Mapping[Place, int]:
        """What is committed to the tables, for the mirror in Kafka."""
        ...

    def fail(self, reason: BaseException) -> None:
        """Stop the worker."""
        ...


class _NothingRead(dict[TP, int | None]):
    """Faust's read offsets. It would drop what lies below them and keep accounts of gaps; the chain does both."""

    def __missing__(self, tp: TP) -> None:
        return None

    def __setitem__(self, tp: TP, offset: int | None) -> None: ...

    def update(self, *_: Any, **__: Any) -> None: ...


class Consumer(base.Consumer):
    """Delivers `Fetched` batches; owns no position."""

    _thread: ConsumerThread

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._read_offset = _NothingRead()
        self._mirrored: dict[Place, int] = {}

    @property
    def claims(self) -> Claims:
        return cast(Claims, self.app.claims)  # type: ignore[attr-defined]  # `streams.worker.agents.App` has it

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def check_group(self) -> None:
        """Once a second; raises `GroupLost` or `ThreadOver`."""
        await self._thread.check_group()

    # Positions

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self.claims.intake.clear()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self.claims.intake.clear()
        try:
            await self._thread.pause_all()
            if not assigned:  # then nobody calls `seek_to_committed`
                await self.claims.claim(())
        except Exception as error:
            await self._fail(error)  # aiokafka would log it and go on
            return
        await super().on_partitions_assigned(assigned, generation_id)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Claim what is assigned and begin where the tables stand. Called once after every rebalance."""
        assigned = [Place(tp.topic, tp.partition) for tp in self.assignment()]
        try:
            # Faust's own time limit would end the wait without a word and leave the worker standing.
            async with asyncio.timeout(self.claims.claim_timeout_s):
                await self._thread.pause_all()
                positions = await self.claims.claim(assigned)
                await self.claims.intake.place(positions)
        except TimeoutError:
            limit = f"{self.claims.claim_timeout_s:g} s"
            return await self._fail(ClaimTooSlow(f"{len(assigned)} partitions not claimed within {limit}"))
        except Exception as error:
            return await self._fail(error)
        self._mirrored.clear()
        return {ensure_TP(TopicPartition(*place)): offset for place, offset in positions.items()}

    async def _fail(self, reason: BaseException) -> Mapping[TP, int]:
        """Have the worker stop, and stand still until it does.

        Whatever is raised into Faust is logged there and passed over, or crashes all of its services at once: they end by
        themselves, in any order, while the worker stops them.
        """
        self.claims.intake.clear()
        self.claims.fail(reason)
        await self.wait()
        return {}

    # Records

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """One round. What is thrown away here, because a rebalance came between, is fetched again by the chain."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type]  # mode wants its own Event, takes any
        if self.should_stop:
            return
        generation = self.app.consumer_generation_id
        claims = self.claims
        try:
            ready = await claims.intake.take()
            if lost := claims.intake.lost():
                await claims.recover(lost)
        except Exception as error:
            await self._fail(error)
            return
        for fetched in ready:
            if not self.flow_active or generation != self.app.consumer_generation_id:
                return
            tp = TP(fetched.parts[0].topic, fetched.owner.partition)
            yield tp, cast(Message, self._to_message(tp, fetched))

    def _to_message(self, tp: TP, record: Fetched) -> ConsumerMessage:
        part = record.parts[0]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            part.end - 1,
            part.records[-1].timestamp,
            0,
            None,
            None,
            cast(Any, record),
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    def highwater(self, tp: TP) -> int:
        return self.claims.intake.lag(Place(*tp), 0) or 0

    # Faust's acknowledgements are out of use; its commit timer drives the mirror.

    def ack(self, message: Message) -> bool:
        self._unacked_messages.discard(message)
        message.acked = True
        return True

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        offsets = {
            place: offset for place, offset in self.claims.offsets().items() if self._mirrored.get(place) != offset
        }
        if not offsets or not await self._thread.mirror(offsets):
            return False
        self._mirrored.update(offsets)
        return True

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None: ...

    async def on_task_error(self, exc: BaseException) -> None: ...

    def verify_event_path(self, now: float, tp: TP) -> None: ...

    def verify_recovery_event_path(self, now: float, tp: TP) -> None: ...


class Transport(base.Transport):
    """`leadline://host:port`; entry point `leadline` of `faust.transports`."""

    Consumer = Consumer


def register() -> None:
    """Make the scheme known to Faust where the package's entry point is not installed."""
    drivers.TRANSPORTS.aliases.setdefault(NAME, "streams.transport.transport:Transport")
