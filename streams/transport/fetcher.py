"""The librdkafka side: a consumer that is only ever assigned, never subscribed. Nothing but us moves a position.

Methods that say *blocks* ask the broker; call them from a thread. Offsets missing from the log come back as faults,
never as a jump: `auto.offset.reset` is `error`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from leadline.kafka_refusals import explained
from streams.core.records import Records
from streams.store.lines import LINE_HEADER
from streams.transport.chain import Place

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 5.0  # claims ask again
SEARCH_S = 20.0
OUT_OF_RANGE = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})
PASSING = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.BROKER_NOT_AVAILABLE,
    }
)
DEFAULTS: dict[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    "fetch.queue.backoff.ms": 5,  # its default of a second stops the fetch whenever the queue was full once
    "fetch.wait.max.ms": 100,
    "fetch.error.backoff.ms": 200,
    "queued.min.messages": 200_000,
    "queued.max.messages.kbytes": 65_536,
    "check.crcs": True,
    "log_level": 4,
}


class FetchFailed(Exception):
    """The broker refuses us for good; `reason` is the metric label."""

    reason = "fetch_failed"


class SortedOut(NamedTuple):
    """What a fetch brought: records by lane, in order; lanes whose offset the log lacks; lanes whose end came after their records, with
    the offset of that end."""

    records: dict[Place, Records]
    lost: set[Place]
    ends: dict[Place, int]


class Fetcher:
    """Reads the lanes that it is assigned, in order, from where it is told."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """`options`: librdkafka's; `group.id` is for reading committed offsets, we never join by it."""
        self._options = {**DEFAULTS, **options, "error_cb": self._on_error}
        self._consumer = Consumer(self._options, logger=log)
        self._paused: set[Place] = set()
        self._closed = False

    @property
    def paused(self) -> frozenset[Place]:
        return frozenset(self._paused)

    @staticmethod
    def _on_error(error: KafkaError) -> None:
        log.warning("Kafka: %s", explained(error))

    def consume(self, count: int) -> list[Message]:
        """What has been fetched already, at most `count`."""
        return self._consumer.consume(count, 0)

    def wait(self, count: int, seconds: float) -> list[Message]:
        """*Blocks* until something has come or `seconds` have passed."""
        first: list[Message] = self._consumer.consume(1, seconds)
        return first + self._consumer.consume(count - 1, 0) if first else first

    def assign(self, positions: Mapping[Place, int]) -> None:
        """Read exactly these lanes, from these offsets. Whatever was fetched before is thrown away by librdkafka."""
        self.hold(set())  # a paused partition would stay paused under its new assignment
        if positions:
            self._consumer.assign([TopicPartition(*place, offset) for place, offset in positions.items()])
        else:
            self._consumer.unassign()

    def hold(self, places: set[Place]) -> None:
        """Stop fetching for these lanes, and only for these."""
        if stop := places - self._paused:
            self._consumer.pause([TopicPartition(*place) for place in stop])
        if go := self._paused - places:
            self._consumer.resume([TopicPartition(*place) for place in go])
        self._paused = set(places)

    def end(self, place: Place) -> int | None:
        """The log's end as last heard, without asking; None before the first answer."""
        high = int(self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)[1])
        return high if high >= 0 else None

    def bounds(self, place: Place) -> tuple[int, int]:
        """*Blocks*: first offset and end of the log."""
        low, high = self._consumer.get_watermark_offsets(
            TopicPartition(*place), timeout=REQUEST_TIMEOUT_S, cached=False
        )
        return int(low), int(high)

    def committed(self, places: Sequence[Place]) -> dict[Place, int]:
        """*Blocks*: what the group has committed to Kafka; lanes without a commit are left out."""
        answers = self._consumer.committed([TopicPartition(*place) for place in places], timeout=REQUEST_TIMEOUT_S)
        for answer in answers:
            if answer.error is not None:
                raise KafkaException(answer.error)
        return {Place(answer.topic, answer.partition): answer.offset for answer in answers if answer.offset >= 0}

    def emptiest(self, place: Place, begin: int, end: int) -> tuple[int, int]:
        """*Blocks*: the longest run of offsets in [begin, end) without any record, not even of an aborted transaction.

        Reads the range once more by itself, so that the lanes are not disturbed; `end` holds a record.
        """
        longest, upto, deadline = (begin, begin), begin, monotonic() + SEARCH_S
        consumer = Consumer({**self._options, "isolation.level": "read_uncommitted"}, logger=log)
        try:
            consumer.assign([TopicPartition(*place, begin)])
            while upto < end:
                for message in consumer.consume(1000, 0.2):
                    offset = message.offset()
                    if message.error() is None and offset is not None and offset >= upto:
                        longest = max(longest, (upto, min(offset, end)), key=lambda found: found[1] - found[0])
                        upto = offset + 1
                if monotonic() > deadline or self._closed:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        finally:
            consumer.close()
        return longest

    def close(self) -> None:
        """*Blocks* shortly."""
        self._closed = True
        self._consumer.close()


def sort_out(messages: Sequence[Message], lined: frozenset[str] = frozenset()) -> SortedOut:
    """`FetchFailed` where waiting would not help.

    `lined`: topics whose messages carry a line (`streams.store.lines`).
    """
    lanes: dict[Place, Records] = {}
    found = SortedOut(lanes, set(), {})
    if any(map(Message.error, messages)):
        for message in messages:
            if (error := message.error()) is None:
                continue
            if error.code() == KafkaError._PARTITION_EOF:
                found.ends[_place((message.topic(), message.partition()))] = int(message.offset() or 0)
            else:
                _heed(error, (message.topic(), message.partition()), found.lost)
        messages = [message for message in messages if message.error() is None]
    if not messages:
        return found
    # Columns in C calls, of methods that are not looked up again for each message: a loop would cost four times as much.
    topics = list(map(Message.topic, messages))
    partitions = np.fromiter(map(Message.partition, messages), np.int64, len(messages))
    numbers = {topic: number for number, topic in enumerate(dict.fromkeys(topics))}
    lane_of = partitions * len(numbers) + np.fromiter(map(numbers.__getitem__, topics), np.int64, len(messages))
    starts = np.flatnonzero(np.diff(lane_of, prepend=lane_of[0] - 1)).tolist()
    offsets: list[Any] = list(map(Message.offset, messages))
    keys, values = list(map(Message.key, messages)), list(map(Message.value, messages))
    timestamps = [stamp[1] / 1e3 for stamp in map(Message.timestamp, messages)]
    for begin, end in zip(starts, [*starts[1:], len(messages)], strict=True):
        place = _place((topics[begin], int(partitions[begin])))
        lines = [_line_of(message) for message in messages[begin:end]] if place.topic in lined else None
        records = Records(offsets[begin:end], keys[begin:end], values[begin:end], timestamps[begin:end], lines)
        if place in lanes:
            lanes[place].extend(records)
        else:
            lanes[place] = records
    return found


def _heed(error: KafkaError, lane: tuple[str | None, int | None], lost: set[Place]) -> None:
    """An error that came in place of a message."""
    if error.code() in OUT_OF_RANGE:
        lost.add(_place(lane))
    elif lane[0] is None and not error.fatal():
        log.warning("Kafka: %s", error.str())  # of librdkafka's own group, of which we are no member
    elif error.code() in PASSING or error.retriable():
        log.warning("fetching %s/%s: %s", *lane, error.str())
    else:
        raise FetchFailed(f"fetching {lane[0]}/{lane[1]}: {explained(error)}")


def _line_of(message: Message) -> bytes | None:
    headers = message.headers()
    value = dict(headers).get(LINE_HEADER) if headers else None
    return value if isinstance(value, bytes) else None


def _place(lane: tuple[str | None, int | None]) -> Place:
    topic, partition = lane
    assert topic is not None  # librdkafka names the topic of every message and of every fault of one partition
    assert partition is not None
    return Place(topic, partition)
