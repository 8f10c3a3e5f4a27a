"""Never lose unread records in silence: the mock broker forgets beyond about 5 MiB a partition and says nothing.

Two helpers. `check_positions` and `LagGuard` compare where a reader stands with what the log still holds and raise.
`Pacer` keeps a producer of our own (the demo) from ever getting so far ahead: it counts the bytes that the readers have
not taken.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streams.embedded.embedded_errors import EmbeddedDataLost, EmbeddedError, EmbeddedLogRestarted
from streams.embedded.mock_broker import RETAINED_BATCHES, RETAINED_BYTES

Partition = tuple[str, int]  # topic, partition number
Positions = Mapping[Partition, int]  # the next offset to be read

# What may be unread in one partition; the rest covers what is in flight, and the overhead of batches.
SAFE_BYTES = RETAINED_BYTES * 3 // 5
SAFE_RECORDS = RETAINED_BATCHES * 3 // 5  # at worst every record is a batch
# For a paced producer: at most 1 MiB waits inside it, in batches large enough for the mock's one batch a fetch.
PACED_PRODUCER = {"queue.buffering.max.kbytes": 1024, "linger.ms": 20}


@dataclass(frozen=True, slots=True)
class LogRange:
    """Offsets that a partition's log holds: `[low, high)`."""

    low: int
    high: int


def check_positions(positions: Positions, logs: Mapping[Partition, LogRange]) -> None:
    """Raise for the first position whose next record the log does not hold, in order of topic and partition.

    `EmbeddedDataLost`: forgotten before it was read. `EmbeddedLogRestarted`: beyond the log's end, so of another log.
    """
    for (topic, partition), position in sorted(positions.items()):
        log = logs[topic, partition]
        if position > log.high:
            raise EmbeddedLogRestarted(topic, partition, position, log.high)
        if position < log.low:
            raise EmbeddedDataLost(topic, partition, position, log.low)


class LagGuard:
    """Asks a broker for the ranges of its logs and checks positions against them. Joins no group, reads no record."""

    def __init__(self, bootstrap_servers: str, *, timeout_s: float = 5.0) -> None:
        self._timeout_s = timeout_s
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": "leadline-lag-guard",
                "enable.auto.commit": False,
                "log_level": 3,
            }
        )

    def logs(self, partitions: Positions) -> dict[Partition, LogRange]:
        """Ranges of the named partitions, asked from the broker now."""
        ranges: dict[Partition, LogRange] = {}
        for topic, partition in partitions:
            try:
                low, high = self._consumer.get_watermark_offsets(
                    TopicPartition(topic, partition), timeout=self._timeout_s
                )
            except KafkaException as error:
                raise EmbeddedError(
                    f"{topic}[{partition}]: the broker did not tell the range of its log: {error}"
                ) from error
            ranges[topic, partition] = LogRange(low, high)
        return ranges

    def check(self, positions: Positions) -> dict[Partition, int]:
        """Unread records of each partition, or the errors of `check_positions`.

        Take the positions before you call: a reader that moves on meanwhile only makes the check stricter than needed
        for records it has just read, never blind to lost ones.
        """
        logs = self.logs(positions)
        check_positions(positions, logs)
        return {partition: logs[partition].high - position for partition, position in positions.items()}

    def close(self) -> None:
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Pacer:
    """Backpressure for a producer: what it sent and nobody has read yet, in bytes and records, per partition.

    `positions` says where the readers stand (a callable, so that it is asked anew); a partition that it does not name
    counts as unread from the start. Feed `sent` from delivery reports, in order of offset, and call `wait_for_lag`
    before producing on. What waits inside the producer is not seen here, so bound it: `PACED_PRODUCER`. Not for use
    from several threads.
    """

    def __init__(
        self,
        positions: Callable[[], Positions],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._positions = positions
        self._clock, self._sleep = clock, sleep
        self._unread: dict[Partition, deque[tuple[int, int]]] = {}  # (offset, bytes), oldest first
        self._bytes: dict[Partition, int] = {}

    def sent(self, topic: str, partition: int, offset: int, size: int) -> None:
        """A record of `size` bytes (key and value) was stored at `offset`."""
        self._unread.setdefault((topic, partition), deque()).append((offset, size))
        self._bytes[topic, partition] = self._bytes.get((topic, partition), 0) + size

    def unread(self) -> dict[Partition, tuple[int, int]]:
        """(bytes, records) that the readers have not taken, per partition."""
        positions = self._positions()
        for partition, waiting in self._unread.items():
            position = positions.get(partition, 0)
            while waiting and waiting[0][0] < position:
                self._bytes[partition] -= waiting.popleft()[1]
        return {partition: (self._bytes[partition], len(waiting)) for partition, waiting in self._unread.items()}

    def wait_for_lag(
        self, max_bytes: int = SAFE_BYTES, *, max_records: int = SAFE_RECORDS, timeout_s: float = 60.0
    ) -> float:
        """Wait until no partition has more unread than `max_bytes` and `max_records`; returns the seconds waited.

        `TimeoutError`, naming the partition, when the readers make no room for `timeout_s`.
        """
        begun = self._clock()
        pause_s = 0.002
        while True:
            over = {p: lag for p, lag in self.unread().items() if lag[0] > max_bytes or lag[1] > max_records}
            waited_s = self._clock() - begun
            if not over:
                return waited_s
            if waited_s >= timeout_s:
                (topic, partition), (size, count) = max(over.items(), key=lambda item: item[1])
                raise TimeoutError(
                    f"{topic}[{partition}]: {count} records ({size} bytes) still unread after {timeout_s:g} s; "
                    "does the worker run?"
                )
            self._sleep(pause_s)
            pause_s = min(2 * pause_s, 0.1)
