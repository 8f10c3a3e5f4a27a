"""The relay from the tables' outbox to Kafka: after the commit, in order, until Kafka confirms.

A message leaves at least once, with the same id (header `leadline-id`) every time. What was committed but not
confirmed before a crash is found by the next claim and sent again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from leadline.kafka_refusals import explained
from streams.store.lines import LINE_HEADER, write_line
from streams.store.tables import Outgoing, Owner, StoreUnavailable, Tables

log = logging.getLogger(__name__)

ID_HEADER = "leadline-id"
RETRY_S = 0.5
DEFAULTS: dict[str, Any] = {
    "acks": "all",
    "enable.idempotence": True,
    "partitioner": "murmur2_random",  # Java's: what any other client of the same key would choose
    "compression.type": "lz4",
    "linger.ms": 5,
    "message.timeout.ms": 0,  # a broker that is away is waited for; the bound below stops the owners meanwhile
    "queue.buffering.max.messages": 1_000_000,
    "log_level": 4,
}


class DeliveryFailed(Exception):
    """Kafka refuses a message for good. The worker stops: what it owes stays in the outbox."""

    reason = "delivery_failed"


class Relay:
    """Sends for all owners of this process. Bounded: `room` waits while `bound` messages are unconfirmed."""

    def __init__(self, tables: Tables, options: Mapping[str, Any], bound: int = 20_000) -> None:
        self._tables = tables
        self._producer = Producer({**DEFAULTS, **options, "error_cb": self._on_error}, logger=log)
        self._bound = bound
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()  # tells the waiters below
        self._pending = asyncio.Event()  # tells the task that acknowledges
        self._confirmed: list[tuple[Owner, int, str]] = []  # filled by the polling thread, emptied by the loop
        self._woken = False
        self._failure: DeliveryFailed | None = None
        self._running = False
        self._task: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None
        self._owed: Counter[Owner] = Counter()
        self.waiting = 0  # sent, and still in the tables
        self.sent = 0  # confirmed since the start

    @staticmethod
    def _on_error(error: KafkaError) -> None:
        log.warning("Kafka producer: %s", explained(error))

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._running = True
        self._thread = threading.Thread(target=self._poll, name="leadline-relay", daemon=True)
        self._thread.start()
        self._task = asyncio.create_task(self._acknowledge(), name="leadline-outbox")

    def check(self) -> None:
        """Raise `DeliveryFailed` if Kafka has refused something."""
        if self._failure is not None:
            raise self._failure

    def submit(self, owner: Owner, messages: Sequence[Outgoing]) -> None:
        """Send what a commit has stored."""
        for message in messages:
            send = message.send
            options: dict[str, Any] = {} if send.partition is None else {"partition": send.partition}
            try:
                self._producer.produce(
                    send.topic,
                    key=send.key,
                    value=send.value,
                    headers=[(ID_HEADER, message.id.encode()), (LINE_HEADER, write_line(owner, message))],
                    on_delivery=self._report(owner, message),
                    **options,
                )
            except (BufferError, KafkaException) as error:
                why = explained(error.args[0]) if isinstance(error, KafkaException) else str(error)
                raise DeliveryFailed(f"message {message.id} for {send.topic} not taken: {why}") from error
            self.waiting += 1
            self._owed[owner] += 1

    def owed(self, owner: Owner) -> int:
        """How many messages of an owner are sent, and still in the tables as far as we have seen to it."""
        return self._owed[owner]

    async def room(self) -> None:
        """Wait until there is room for another commit's messages."""
        while self.waiting >= self._bound:
            self.check()
            self._changed.clear()
            await self._changed.wait()
        self.check()

    async def flush(self, seconds: float) -> bool:
        """Wait until everything is confirmed and acknowledged, at most so long. False: something is still owed."""
        try:
            async with asyncio.timeout(seconds):
                while self.waiting and self._failure is None:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return not self.waiting

    async def close(self) -> None:
        """Stop sending. What is unconfirmed stays in the tables."""
        self._running = False
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._producer.purge()
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join, 1.0)

    # The polling thread

    def _poll(self) -> None:
        while self._running:
            self._producer.poll(0.2)

    def _report(self, owner: Owner, message: Outgoing) -> Any:
        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                if self._running:
                    size = len(message.send.value)
                    text = f"message {message.id} ({size} bytes) for {message.send.topic}: {explained(error)}"
                    self._failure = self._failure or DeliveryFailed(text)
            else:
                self._confirmed.append((owner, message.sequence, message.line))
            if not self._woken and self._loop is not None and not self._loop.is_closed():
                self._woken = True
                self._loop.call_soon_threadsafe(self._changed_now)

        return delivered

    # The loop

    def _changed_now(self) -> None:
        self._woken = False
        self._pending.set()

    async def _acknowledge(self) -> None:
        while True:
            await self._pending.wait()
            self._pending.clear()
            confirmed, self._confirmed = self._confirmed, []
            by_owner: dict[Owner, list[tuple[int, str]]] = defaultdict(list)
            for owner, sequence, line in confirmed:
                by_owner[owner].append((sequence, line))
            for owner, messages in by_owner.items():
                try:
                    await self._tables.acknowledge(owner, messages)
                except StoreUnavailable as error:
                    # Nobody else would tell the tables before the next claim, which sends again what it finds.
                    log.warning("outbox of %s not acknowledged yet: %s", owner, error)
                    self._confirmed += [(owner, *message) for message in messages]
                    asyncio.get_running_loop().call_later(RETRY_S, self._pending.set)
                    continue
                self._owed[owner] -= len(messages)
                self.waiting -= len(messages)
                self.sent += len(messages)
            self._changed.set()
