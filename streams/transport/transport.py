"""The Faust transport: aiokafka holds the group, librdkafka brings the records, the tables hold the offsets.

Faust sees one message for each owner and fetch, whose value is a `Fetched`. Its own read offsets, gaps and
acknowledgements are out of use, because they lose records: the chain of `streams.transport.intake` decides what is
delivered, and `seek_to_committed` is the one place where partitions are claimed and positions set.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Protocol, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import ConnectionGroup
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError
from aiokafka.protocol.group import LeaveGroupRequest
from aiokafka.structs import OffsetAndMetadata
from faust.transport import drivers
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as base
from faust.types import TP, ConsumerMessage, Message

from leadline.kafka_refusals import RIGHTS
from streams.transport.chain import Place
from streams.transport.intake import Fetched, Intake

log = logging.getLogger(__name__)

NAME = "leadline"
ANSWER_S = 10.0
MIRROR_S = 1.0
LEAVE_S = 0.5
REFUSALS = (GroupAuthorizationFailedError, TopicAuthorizationFailedError)


class ClaimTooSlow(Exception):
    """The store was away, or too slow for what has to be loaded."""

    reason = "claim_too_slow"


class GroupLost(Exception):
    """This worker is no member of the group, and will not be one by waiting."""

    reason = "group_lost"


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


class ConsumerThread(base.AIOKafkaConsumerThread):
    """aiokafka's thread: heartbeats and assignment, no records."""

    _leaving = False

    def _create_worker_consumer(self, transport: base.Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Faust's request timeout has to allow for a long claim; a broker that does not answer must be noticed sooner. A
        # join may take as long as the slowest member does.
        conf = self.app.conf
        patience = max(conf.broker_rebalance_timeout, conf.broker_session_timeout) + ANSWER_S
        consumer._client._request_timeout_ms = int(patience * 1000)
        return consumer

    async def on_thread_stop(self) -> None:
        """Leave the group and go, whatever the broker does.

        aiokafka would first let its coordination end: a commit that is repeated until the broker comes back, or a join
        that lasts as long as the slowest member takes. By then somebody has killed us, and the group waits for our
        session to end.
        """
        self._leaving = True
        await super(base.AIOKafkaConsumerThread, self).on_thread_stop()
        if self._consumer is not None:
            await self._leave(self._consumer)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._consumer.stop(), LEAVE_S)

    async def _leave(self, consumer: AIOKafkaConsumer) -> None:
        coordinator = consumer._coordinator
        joining = getattr(coordinator, "_coordination_task", None)
        if joining is None:  # never subscribed
            return
        joining.cancel()
        await asyncio.wait([joining], timeout=LEAVE_S)
        if not coordinator.member_id or consumer._group_instance_id is not None or coordinator.coordinator_id is None:
            return  # a static member comes back under its name
        request = LeaveGroupRequest(coordinator.group_id, coordinator.member_id)
        try:
            async with asyncio.timeout(LEAVE_S):
                # Not by the coordinator's own connection: a join that waits for other members would hold it.
                await consumer._client.send(coordinator.coordinator_id, request, group=ConnectionGroup.DEFAULT)
        except (KafkaError, TimeoutError) as error:
            log.warning("the group was not left, it will miss us after %g s: %r", self._session_s, error)
        coordinator.reset_generation()

    @property
    def _session_s(self) -> float:
        return float(self.app.conf.broker_session_timeout)

    async def pause_all(self) -> None:
        await self.call_thread(self._pause_all)

    async def _pause_all(self) -> None:
        consumer = self._ensure_consumer()
        consumer.pause(*consumer.assignment())

    async def check_group(self) -> None:
        """Let aiokafka join again after an error; `GroupLost` where that would not help.

        After an error its coordinator waits, without joining, until somebody who fetches takes notice. Nobody fetches here.
        """
        if self._consumer is not None:
            await self.call_thread(self._check_group)

    async def _check_group(self) -> None:
        try:
            self._ensure_consumer()._coordinator.check_errors()
        except REFUSALS as error:
            raise GroupLost(f"the broker refuses this consumer group (kafka.group): {error}; {RIGHTS}") from error
        except KafkaError as error:
            if self._ensure_consumer()._coordinator._coordination_task.done():
                raise GroupLost(f"aiokafka has given the consumer group up: {error}") from error
            log.warning("consumer group: %r, joining again", error)

    async def mirror(self, offsets: Mapping[Place, int]) -> bool:
        """Commit to Kafka what the tables hold, for people and their lag tools."""
        return bool(await self.call_thread(self._mirror, offsets))

    async def _mirror(self, offsets: Mapping[Place, int]) -> bool:
        consumer = self._ensure_consumer()
        assigned = consumer.assignment()
        ours = {
            TopicPartition(*place): OffsetAndMetadata(offset, "")
            for place, offset in offsets.items()
            if TopicPartition(*place) in assigned
        }
        if not ours or self._leaving:
            return False
        try:
            # By itself it would try again until the broker comes back, and hold up whoever wants to stop.
            await asyncio.wait_for(consumer.commit(ours), MIRROR_S)
        except (KafkaError, TimeoutError) as error:  # a rebalance, a broker away: the next second brings another
            log.debug("mirror of offsets not committed: %r", error)
            return False
        return True

    def verify_event_path(self, now: float, tp: TP) -> None: ...  # it looks for aiokafka's fetches; there are none

    def verify_recovery_event_path(self, now: float, tp: TP) -> None: ...


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
        """Once a second; raises `GroupLost`."""
        await self._thread.check_group()

    # Positions

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self.claims.intake.clear()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self.claims.intake.clear()
        await self._thread.pause_all()
        if not assigned:  # then nobody calls `seek_to_committed`
            await self.claims.claim(())
        await super().on_partitions_assigned(assigned, generation_id)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Claim what is assigned and begin where the tables stand. Called once after every rebalance."""
        assigned = [Place(tp.topic, tp.partition) for tp in self.assignment()]
        await self._thread.pause_all()
        try:
            # Faust's own time limit would end the wait without a word and leave the worker standing.
            async with asyncio.timeout(self.claims.claim_timeout_s):
                positions = await self.claims.claim(assigned)
                await self.claims.intake.place(positions)
        except TimeoutError:
            late = ClaimTooSlow(f"{len(assigned)} partitions not claimed within {self.claims.claim_timeout_s:g} s")
            self.claims.fail(late)
            raise late from None
        except Exception as error:
            self.claims.fail(error)  # Faust would log it and go on without records
            raise
        self._mirrored.clear()
        return {ensure_TP(TopicPartition(*place)): offset for place, offset in positions.items()}

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
            claims.fail(error)
            raise
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
