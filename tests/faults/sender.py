"""Services that publish a plan at a steady rate, whatever happens to the broker: as they come, or in transactions."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tests.faults.load import Event

OPTIONS: dict[str, Any] = {
    "partitioner": "murmur2_random",
    "enable.idempotence": True,
    "linger.ms": 20,
    "compression.type": "lz4",
    "reconnect.backoff.max.ms": 500,
    "log_level": 0,
}
ABORT_EVERY = 4  # transactions


class Sender(ABC):
    """A thread that sends `events`, `rate` of them a second, each to the topic of its source."""

    def __init__(self, servers: str, topics: dict[str, str], events: list[Event], rate: float, **options: Any) -> None:
        self._options = {**OPTIONS, "bootstrap.servers": servers, **options}
        self._topics, self._events, self._rate = topics, events, rate
        self.delivered: Counter[tuple[str, bytes | None]] = Counter()
        """(source, value) of what the broker has confirmed, and so owes to readers."""
        self.sent = 0
        self.aborted = 0
        """Events in transactions that were aborted; each was sent again."""
        self.failures: list[str] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)

    def start(self) -> None:
        self._began = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Send no more than was sent by now."""
        self._ended.set()

    def join(self, seconds: float) -> None:
        """Wait until all is sent and confirmed."""
        self._thread.join(seconds)
        if self._thread.is_alive() or self.failures:
            raise AssertionError(f"{self._thread.name} did not finish: {self.sent} sent, {self.failures[:3]}")

    def _ahead(self) -> float:
        """Seconds until the next event is due; negative when it is late."""
        return self.sent / self._rate - (time.monotonic() - self._began)

    @abstractmethod
    def _run(self) -> None:
        """Send until all is sent and confirmed, or `stop` was called."""


class PlainSender(Sender):
    """Sends each event when it is due."""

    def _run(self) -> None:
        producer = Producer({**self._options, "message.timeout.ms": 0})
        for event in self._events:
            while (ahead := self._ahead()) > 0:
                producer.poll(min(ahead, 0.05))
            if self._ended.is_set():
                break
            self._send(producer, event)
        producer.flush()

    def _send(self, producer: Producer, event: Event) -> None:
        def told(error: KafkaError | None, _: Message) -> None:
            if error is None:
                self.delivered[event.source, event.value] += 1
            else:
                self.failures.append(error.str())

        producer.produce(self._topics[event.source], key=event.key, value=event.value, on_delivery=told)
        self.sent += 1
        if self.sent % 50 == 0:
            producer.poll(0)


class TransactionalSender(Sender):
    """Two transactions a second, each fourth aborted and its events sent again in the next one.

    The order of a request's events is kept, because nothing is sent before the transaction before it has ended.
    """

    def __init__(self, servers: str, topics: dict[str, str], events: list[Event], rate: float, name: str) -> None:
        own = {"transactional.id": name, "transaction.timeout.ms": 30_000}
        super().__init__(servers, topics, events, rate, **own)

    def _run(self) -> None:
        producer: Producer | None = None
        size = max(int(self._rate / 2), 1)
        number = 0
        while self.sent < len(self._events) and not self._ended.is_set():
            if (ahead := self._ahead()) > 0:
                self._ended.wait(min(ahead, 0.2))
                continue
            batch = self._events[self.sent : self.sent + size]
            number += 1
            try:
                if producer is None:
                    producer = Producer(self._options)
                    producer.init_transactions(20)
                producer.begin_transaction()
                for event in batch:
                    producer.produce(self._topics[event.source], key=event.key, value=event.value)
                producer.flush(5)
                if number % ABORT_EVERY == 0:
                    producer.abort_transaction(20)
                    self.aborted += len(batch)
                    continue
            except (KafkaException, BufferError):
                producer = None  # a new one fences the old: whatever was open is aborted
                continue
            if self._commit(producer):
                self.sent += len(batch)
                for event in batch:
                    self.delivered[event.source, event.value] += 1
            else:
                producer = None

    def _commit(self, producer: Producer) -> bool:
        """Until it is known how it ended."""
        while True:
            try:
                producer.commit_transaction(20)
                return True
            except KafkaException as error:
                fault = error.args[0]
                if fault.retriable():
                    continue
                if not fault.txn_requires_abort():
                    self.failures.append(f"commit of a transaction: {fault.str()}")
                    self._ended.set()
                return False
