"""Kafka as the delivery process sees it: alerts in, dead letters out. Every call that can block is made in a thread of
its own.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any, Literal

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from pydantic import Field, SecretStr

from leadline.kafka_refusals import explained, final, named
from sinks.base import Settings
from sinks.progress import Progress, Ticket
from sinks.secrets import Secret
from sinks.threads import CallThread

log = logging.getLogger(__name__)
BATCH = 100
SILENCE_S = 60.0  # an outage repeats itself many times a second

Outcome = Literal["sent", "too_large", "failed"]


class KafkaSettings(Settings):
    """Where the alerts are. `client` goes to librdkafka as it is: `security.protocol`, `sasl.password:
    ${KAFKA_PASSWORD}`, …
    """

    bootstrap_servers: str = Field(min_length=1)
    topic: str = "leadline.alerts"
    undelivered_topic: str = Field(default="", description="default: the topic's name with .undelivered")
    group_id: str = "leadline-deliver"
    session_timeout_s: float = Field(default=10.0, ge=6, description="takeover time after a kill")
    commit_interval_s: float = Field(default=1.0, gt=0)
    client: dict[str, Secret | bool | int | float] = Field(default={})

    @property
    def dead_letters(self) -> str:
        return self.undelivered_topic or f"{self.topic}.undelivered"

    def common(self) -> dict[str, Any]:
        """librdkafka properties of both clients."""
        given = {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value
            for name, value in self.client.items()
        }
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "client.id": "leadline-deliver",
            "log_level": 2,  # librdkafka logs each attempt to connect; `AlertReader` says it once a minute
            **given,
        }


class DeliverError(RuntimeError):
    """The process cannot go on."""


@dataclass(frozen=True, slots=True)
class Record:
    """One message of the alerts topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


Taken = list[tuple[Record, Ticket]]


class AlertReader:
    """A member of the consumer group. Offsets are stored when done and committed by librdkafka (interval, revocation,
    close).
    """

    def __init__(self, settings: KafkaSettings, progress: Progress) -> None:
        self._progress = progress
        self._thread = CallThread("alerts-consumer")
        self._rebalanced = False
        self._paused = False
        self._said: dict[int, float] = {}
        self._ever_assigned = False
        self._topic = settings.topic
        properties = {
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 100,
            **settings.common(),
            "group.id": settings.group_id,
            "session.timeout.ms": round(settings.session_timeout_s * 1000),
            "heartbeat.interval.ms": round(settings.session_timeout_s * 1000 / 5),
            "enable.auto.commit": True,
            "auto.commit.interval.ms": round(settings.commit_interval_s * 1000),
            "enable.auto.offset.store": False,  # only what is delivered may be committed
            "error_cb": self._complain,
        }
        try:
            self._consumer = Consumer(properties, logger=log)
        except KafkaException as error:
            raise DeliverError(f"no Kafka client can be made: {named(error.args[0].str())}") from error
        self._consumer.subscribe(
            [settings.topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )

    async def read(self, done: dict[int, int], *, pause: bool, wait_s: float) -> tuple[Taken, bool]:
        """Store the offsets in `done`, take what has come within `wait_s`. Also: whether the assignment has changed.

        With `pause`, keeps the membership alive and (but for what a new assignment brings) takes nothing.
        """
        return await self._thread.call(self._step, done, pause, wait_s)

    async def close(self, done: dict[int, int]) -> None:
        """Store, commit, leave the group."""
        try:
            await self._thread.call(self._leave, done)
        finally:
            self._thread.stop()

    def _step(self, done: dict[int, int], pause: bool, wait_s: float) -> tuple[Taken, bool]:
        self._store(done)
        if pause:
            self._consumer.pause(self._consumer.assignment())  # each time: an assignment may have come since
        elif self._paused:
            self._consumer.resume(self._consumer.assignment())
        self._paused = pause
        taken: Taken = []
        # One poll a message: a ticket is made before the next callback can change the assignment.
        while len(taken) < BATCH and (message := self._consumer.poll(0 if taken else wait_s)) is not None:
            if (error := message.error()) is not None:
                self._complain(error)
                break
            if (pair := self._begin(message)) is not None:
                taken.append(pair)
        rebalanced, self._rebalanced = self._rebalanced, False
        return taken, rebalanced

    def _begin(self, message: Message) -> tuple[Record, Ticket] | None:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None  # only error events lack a place
        assert partition is not None
        assert offset is not None
        ticket = self._progress.begin(partition, offset)
        if ticket is None:
            return None
        return Record(topic, partition, offset, _bytes(message.key()), _bytes(message.value())), ticket

    def _store(self, done: dict[int, int]) -> None:
        for partition, offset in done.items():
            try:
                self._consumer.store_offsets(offsets=[TopicPartition(self._topic, partition, offset)])
            except KafkaException as error:
                # _STATE: revoked between the look and the call; its new owner begins where we had committed.
                if error.args[0].code() != KafkaError._STATE:
                    raise

    def _leave(self, done: dict[int, int]) -> None:
        self._store(done)
        self._consumer.close()

    def _complain(self, error: KafkaError) -> None:
        # Refused before it ever worked, somebody has to change something; refused later, it may be a password's rotation.
        if error.fatal() or (final(error) and not self._ever_assigned):
            raise DeliverError(f"Kafka: {explained(error)}")
        if error.code() == KafkaError._PARTITION_EOF:
            return
        now = time.monotonic()
        if now - self._said.get(error.code(), -SILENCE_S) >= SILENCE_S:
            self._said[error.code()] = now
            log.warning("Kafka: %s", explained(error))

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._said.clear()
        self._ever_assigned = self._ever_assigned or bool(partitions)
        self._rebalanced = True
        self._progress.assigned(each.partition for each in partitions)

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._rebalanced = True
        self._store(self._progress.take())  # librdkafka commits them as it lets the partitions go
        self._progress.revoked(each.partition for each in partitions)

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._rebalanced = True
        self._progress.revoked(each.partition for each in partitions)


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


class LetterProducer:
    """The way to the dead letter topic: one message at a time, acknowledged by all replicas."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._topic = settings.dead_letters
        self._thread = CallThread("undelivered-producer")
        self._producer = Producer(
            {
                "message.max.bytes": 8 << 20,
                **settings.common(),
                "enable.idempotence": True,
                "acks": "all",
                "partitioner": "murmur2_random",
                "delivery.timeout.ms": 10_000,
                "linger.ms": 0,
            },
            logger=log,
        )

    async def send(self, key: bytes | None, value: bytes) -> Outcome:
        return await self._thread.call(self._send, key, value)

    async def close(self) -> None:
        self._thread.stop()

    def _send(self, key: bytes | None, value: bytes) -> Outcome:
        result: list[KafkaError | None] = []
        try:
            self._producer.produce(self._topic, value, key, on_delivery=lambda error, _: result.append(error))
            self._producer.flush()  # bounded by delivery.timeout.ms
        except (KafkaException, BufferError) as error:
            failure = error.args[0]
            return self._failed(failure) if isinstance(failure, KafkaError) else "failed"
        if not result:
            return "failed"
        return "sent" if result[0] is None else self._failed(result[0])

    def _failed(self, error: KafkaError) -> Outcome:
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return "too_large"
        log.error("dead letter not sent to %s: %s", self._topic, explained(error))
        return "failed"
