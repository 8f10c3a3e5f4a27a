"""librdkafka's mock cluster as a broker: inside this process, on loopback TCP, open to other processes.

The library is the one inside the confluent-kafka wheel, called through ctypes, because only so can topics get a wanted
partition count and faults be injected. Where its symbols cannot be reached, `test.mock.num.brokers` gives the same
broker with four partitions a topic and no faults.

Limits of the mock (measured, librdkafka 2.16): about 5 MiB or 100,000 producer batches a partition, older ones are
forgotten without a word (`streams.embedded.lag_guard` speaks up); one batch a partition and fetch; no CreateTopics; no offsets
for times; aborted transactions are visible. Its log lives in memory and begins at offset 0 with every start.
"""

import ctypes
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaError, Producer

from streams.embedded.embedded_errors import EmbeddedUnavailable, MockBrokerError
from streams.embedded.librdkafka import load_library

RETAINED_BYTES = 5 * 1024 * 1024  # a partition; counted as the batches arrive, so compressed if they are
RETAINED_BATCHES = 100_000
ALL_BROKERS = -1
FALLBACK_PARTITIONS = 4  # the mock's default for topics that it creates on demand


class MockBroker:
    """A running mock cluster of `brokers` brokers, with faults on call. `stop()` ends it for good."""

    def __init__(self, topics: Mapping[str, int] | None = None, *, brokers: int = 1) -> None:
        self._lock = threading.Lock()
        self._library = load_library()
        self._client = self._library.new_client()
        self._cluster: int | None = self._library.call("mock_cluster_new", self._client, brokers)
        if not self._cluster:
            self._library.call("destroy", self._client)
            raise MockBrokerError("librdkafka started no mock cluster")
        # Without this the first consumer waits three seconds for company before it is given partitions.
        self._library.call("mock_group_initial_rebalance_delay_ms", self._cluster, 0)
        self.bootstrap_servers = str(self._library.call("mock_cluster_bootstraps", self._cluster).decode())
        self._partitions: dict[str, int] = {}
        try:
            self.create_topics(topics or {})
        except BaseException:
            self.stop()
            raise

    @property
    def topics(self) -> dict[str, int]:
        """Topics created here, name to partition count."""
        return dict(self._partitions)

    def create_topics(self, topics: Mapping[str, int]) -> None:
        """Create what is missing. `MockBrokerError` where a topic exists with another partition count.

        Create topics before any client asks for them: the mock makes an unknown topic on the first question about it,
        with four partitions.
        """
        for name, partitions in topics.items():
            if self._partitions.get(name) == partitions:
                continue
            if partitions < 1:  # the mock would make such a topic, and no client can use it
                raise MockBrokerError(f"topic {name}: {partitions} partitions")
            try:
                self._checked(f"create topic {name}", "mock_topic_create", name.encode(), partitions, 1)
            except MockBrokerError as error:
                known = self._partitions.get(name, "an unknown number of")
                raise MockBrokerError(f"{error}; wanted {partitions} partitions, it has {known}") from error
            self._partitions[name] = partitions

    def set_down(self, broker: int = ALL_BROKERS) -> None:
        """Cut the connections of a broker and refuse new ones; leaders stay where they are."""
        self._checked("take a broker down", "mock_broker_set_down", broker)

    def set_up(self, broker: int = ALL_BROKERS) -> None:
        """Accept connections again."""
        self._checked("bring a broker up", "mock_broker_set_up", broker)

    def set_round_trip(self, milliseconds: int, broker: int = ALL_BROKERS) -> None:
        """Delay every answer of a broker by `milliseconds`; 0 ends it."""
        self._checked("set the round trip", "mock_broker_set_rtt", broker, milliseconds)

    def push_errors(self, api_key: int, errors: Sequence[int]) -> None:
        """Answer the next `len(errors)` requests of `api_key` (see `ApiKey`) with these codes (`KafkaError.NAME`), in
        order.

        `KafkaError._TRANSPORT` cuts the connection instead of answering; 0 lets a request through.
        """
        codes = (ctypes.c_int * len(errors))(*errors)
        self._void("mock_push_request_errors_array", api_key, len(errors), codes)

    def clear_errors(self, api_key: int) -> None:
        """Forget the errors still pushed for `api_key`."""
        self._void("mock_clear_request_errors", api_key)

    def set_leader(self, topic: str, partition: int, broker: int) -> None:
        """Move a partition to `broker`; -1 leaves it without a leader."""
        self._checked("set a leader", "mock_partition_set_leader", topic.encode(), partition, broker)

    def set_coordinator(self, group: str, broker: int) -> None:
        """Make `broker` the coordinator of consumer group `group`."""
        self._checked("set a coordinator", "mock_coordinator_set", b"group", group.encode(), broker)

    def stop(self) -> None:
        """End the cluster; its log is gone. Safe to call twice."""
        with self._lock:
            cluster, self._cluster = self._cluster, None
            if cluster:
                self._library.call("mock_cluster_destroy", cluster)
                self._library.call("destroy", self._client)

    def _void(self, function: str, *arguments: Any) -> Any:
        with self._lock:  # stop() in another thread must not pull the cluster from under a call
            if not self._cluster:
                raise MockBrokerError("the mock broker was stopped")
            return self._library.call(function, self._cluster, *arguments)

    def _checked(self, what: str, function: str, *arguments: Any) -> None:
        code = self._void(function, *arguments)
        if code:
            raise MockBrokerError(f"could not {what}: {KafkaError(code).str()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class PlainMockBroker:
    """The fallback without ctypes: the broker that `test.mock.num.brokers` starts inside a producer. No faults."""

    def __init__(self, topics: Mapping[str, int] | None = None, *, brokers: int = 1) -> None:
        self._producer: Producer | None = Producer({"test.mock.num.brokers": brokers, "log_level": 3})
        found = self._producer.list_topics(timeout=10).brokers.values()
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in found)
        self._partitions: dict[str, int] = {}
        self.create_topics(topics or {})

    @property
    def topics(self) -> dict[str, int]:
        return dict(self._partitions)

    def create_topics(self, topics: Mapping[str, int]) -> None:
        """Create topics, of four partitions only: anything else is an error, not a silent four."""
        for name, partitions in topics.items():
            if partitions != FALLBACK_PARTITIONS:
                raise MockBrokerError(
                    f"topic {name}: without ctypes the mock broker gives {FALLBACK_PARTITIONS} partitions, "
                    f"not {partitions}"
                )
            if self._producer is None:
                raise MockBrokerError("the mock broker was stopped")
            self._producer.list_topics(name, timeout=10)  # asking creates it
            self._partitions[name] = partitions

    def stop(self) -> None:
        self._producer = None  # the producer owns the cluster

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_mock_broker(topics: Mapping[str, int] | None = None, *, brokers: int = 1) -> MockBroker | PlainMockBroker:
    """The mock broker with everything, or the plain one where the library's symbols are out of reach."""
    try:
        return MockBroker(topics, brokers=brokers)
    except EmbeddedUnavailable:
        return PlainMockBroker(topics, brokers=brokers)


__all__ = ["ALL_BROKERS", "RETAINED_BATCHES", "RETAINED_BYTES", "MockBroker", "PlainMockBroker", "start_mock_broker"]
