"""The partitioner, against vectors of Apache Kafka's own test (UtilsTest.testMurmur2) and librdkafka."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer
from hypothesis import given
from hypothesis import strategies as st

from leadline.partition import murmur2, partition_of
from streams.embedded.mock_broker import start_mock_broker
from tests.leadline.kafka_log import read_all

JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("key", JAVA)
def test_murmur2_is_that_of_apache_kafkas_own_test(key: bytes) -> None:
    assert murmur2(key) == JAVA[key]


def test_partitions_are_those_that_librdkafka_chooses() -> None:
    keys = (
        [b"x" * length for length in range(1, 12)] + [f"patient-{n}-ä".encode() for n in range(200)] + [b"\xff\x00\x80"]
    )
    with start_mock_broker({"keys": 4}) as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "partitioner": "murmur2_random"})
        for key in keys:
            producer.produce("keys", b"", key)
        assert producer.flush(20) == 0
        chosen = {message.key: message.partition for message in read_all(broker.bootstrap_servers, "keys")}
    assert chosen == {key: partition_of(key, 4) for key in keys}
    assert set(chosen.values()) == {0, 1, 2, 3}


@given(st.binary(max_size=64), st.integers(1, 1000))
def test_a_partition_exists(key: bytes, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions
    assert -(2**31) <= murmur2(key) < 2**31


def test_a_topic_without_partitions_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one partition"):
        partition_of(b"key", 0)
