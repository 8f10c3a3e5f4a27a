"""aiokafka's thread: heartbeats, joins, assignment; no records. It ends when it is told to, and nobody waits for it for ever.

mode runs it as a service with an event loop of its own. When anything inside Faust crashes, that loop ends by itself
while the main one is still stopping, and a call that is then on its way to it would never be answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import ConnectionGroup
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError
from aiokafka.protocol.group import LeaveGroupRequest
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as base
from faust.types import TP
from mode.services import Service
from mode.threads import QueueServiceThread, WorkerThread

from leadline.kafka_refusals import RIGHTS
from streams.transport.chain import Place

log = logging.getLogger(__name__)

ANSWER_S = 10.0
MIRROR_S = 1.0
LEAVE_S = 0.5
END_S = 3.0
REFUSALS = (GroupAuthorizationFailedError, TopicAuthorizationFailedError)


class GroupLost(Exception):
    """This worker is no member of the group, and will not be one by waiting."""

    reason = "group_lost"


class ThreadOver(Exception):
    """The thread has ended, or does so before it comes to what it was asked."""

    reason = "thread_over"


class Daemon(WorkerThread):
    """A process that ends does not wait for it."""

    def __init__(self, service: QueueServiceThread, **options: Any) -> None:
        super().__init__(service, **options)
        self.daemon = True


class MortalThread(QueueServiceThread):
    """A service thread whose end is no secret: calls into it end with it, and stopping it does not block the loop."""

    abstract = True
    Worker = Daemon

    async def call_thread(self, fun: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Any:
        """What `fun` returns or raises in the thread; `ThreadOver` where the thread ends first."""
        promise: asyncio.Future[Any] = self.parent_loop.create_future()
        over = asyncio.ensure_future(self._shutdown.wait())
        try:
            if not self._shutdown.is_set():
                with contextlib.suppress(RuntimeError):  # its loop is closed
                    await self.method_queue.call(promise, fun, *arguments, **options)
                    await asyncio.wait({promise, over}, return_when=asyncio.FIRST_COMPLETED)
            if not promise.done() or isinstance(promise.exception(), asyncio.CancelledError):
                raise ThreadOver(f"{self.label} has ended")
            return promise.result()
        finally:
            over.cancel()
            promise.cancel()

    async def stop(self) -> None:
        """At most so long as a few seconds, and without blocking the loop, which what ends in the thread may need."""
        if not self._thread_started.is_set():
            return
        try:
            async with asyncio.timeout(END_S):
                await Service.stop(self)
                while self._thread is not None and self._thread.is_alive():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            log.error("%s does not end; nobody waits for it", self.label)

    def _stopped_set(self) -> None:
        with contextlib.suppress(RuntimeError):  # its loop is closed: it has ended by itself
            super()._stopped_set()

    def set_shutdown(self) -> None:
        with contextlib.suppress(RuntimeError):  # nobody is there any more to be told
            super().set_shutdown()

    async def _shutdown_thread(self) -> None:
        try:
            await super()._shutdown_thread()
        finally:
            self.set_shutdown()

    def _crash(self, reason: BaseException) -> None:
        """Called from the main thread when something else has crashed: events of a loop may be set by that loop alone."""
        with contextlib.suppress(RuntimeError):  # closed: it has ended anyway
            self.thread_loop.call_soon_threadsafe(super()._crash, reason)


class ConsumerThread(MortalThread, base.AIOKafkaConsumerThread):
    """The member of the consumer group."""

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
        try:
            return bool(await self.call_thread(self._mirror, offsets))
        except ThreadOver:  # whoever stops us commits a last time
            return False

    async def _mirror(self, offsets: Mapping[Place, int]) -> bool:
        consumer = self._ensure_consumer()
        assigned = consumer.assignment()
        ours = {
            TopicPartition(*place): OffsetAndMetadata(offset, "")
            for place, offset in offsets.items()
            if TopicPartition(*place) in assigned
        }
        subscription = consumer._subscription.subscription
        joining = subscription is None or consumer._coordinator.need_rejoin(subscription)
        if not ours or self._leaving or joining:  # the group would refuse it, and aiokafka say so for each partition
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
