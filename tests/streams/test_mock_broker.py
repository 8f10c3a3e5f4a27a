import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from streams.embedded.embedded_errors import EmbeddedDataLost, MockBrokerError
from streams.embedded.lag_guard import PACED_PRODUCER, LagGuard, Pacer
from streams.embedded.librdkafka import ApiKey, candidates
from streams.embedded.mock_broker import MockBroker, PlainMockBroker
from streams.transport.topics import admin_client, describe_partitions

PRODUCE_ELSEWHERE = """
import sys
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": sys.argv[1], "linger.ms": 20})
for number in range(100):
    producer.produce("t", str(number).encode(), partition=2)
sys.exit(producer.flush(20))
"""


@pytest.fixture
def broker() -> Iterator[MockBroker]:
    with MockBroker({"t": 3}) as running:
        yield running


def producer(broker: MockBroker | PlainMockBroker, **settings: object) -> Producer:
    return Producer({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0, "linger.ms": 20, **settings})


def read(broker: MockBroker | PlainMockBroker, topic: str, partition: int, count: int) -> list[Message]:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "g", "log_level": 0})
    consumer.assign([TopicPartition(topic, partition, 0)])
    messages: list[Message] = []
    for _ in range(100):
        messages += consumer.consume(count - len(messages), 0.1)
        if len(messages) >= count:
            break
    consumer.close()
    return messages


def test_topics_have_the_wanted_partition_counts(broker: MockBroker):
    broker.create_topics({"u": 7, "t": 3})
    assert describe_partitions(admin_client(broker.bootstrap_servers)) == {"t": 3, "u": 7}
    assert broker.topics == {"t": 3, "u": 7}


def test_a_topic_is_not_given_a_second_partition_count(broker: MockBroker):
    with pytest.raises(MockBrokerError, match=r"already exists; wanted 5 partitions, it has 3"):
        broker.create_topics({"t": 5})


def test_another_process_can_produce(broker: MockBroker):
    subprocess.run([sys.executable, "-c", PRODUCE_ELSEWHERE, broker.bootstrap_servers], check=True, timeout=60)
    assert [m.value() for m in read(broker, "t", 2, 100)] == [str(number).encode() for number in range(100)]


def test_a_broker_that_is_down_delivers_when_it_is_up_again(broker: MockBroker):
    delivered: list[KafkaError | None] = []
    client = producer(broker, **{"reconnect.backoff.max.ms": 100})
    client.produce("t", b"before", partition=0)
    assert client.flush(10) == 0
    broker.set_down()
    client.produce("t", b"during", partition=0, on_delivery=lambda error, _: delivered.append(error))
    assert client.flush(0.5) == 1
    broker.set_up()
    assert client.flush(20) == 0
    assert delivered == [None]


def test_pushed_errors_are_answered_in_order_and_then_no_more(broker: MockBroker):
    broker.push_errors(ApiKey.PRODUCE, [KafkaError.MSG_SIZE_TOO_LARGE])
    codes: list[int | None] = []

    def report(error: KafkaError | None, _: Message) -> None:
        codes.append(error and error.code())

    client = producer(broker)
    for _ in range(2):
        client.produce("t", b"x", partition=0, on_delivery=report)
        client.flush(10)
    assert codes == [KafkaError.MSG_SIZE_TOO_LARGE, None]


def test_cleared_errors_are_not_answered(broker: MockBroker):
    broker.push_errors(ApiKey.PRODUCE, [KafkaError.MSG_SIZE_TOO_LARGE])
    broker.clear_errors(ApiKey.PRODUCE)
    codes: list[KafkaError | None] = []
    client = producer(broker)
    client.produce("t", b"x", partition=0, on_delivery=lambda error, _: codes.append(error))
    client.flush(10)
    assert codes == [None]


def test_a_round_trip_delays_every_answer(broker: MockBroker):
    client = producer(broker, **{"linger.ms": 0})
    client.produce("t", b"x", partition=0)
    client.flush(10)
    latencies: list[float] = []
    broker.set_round_trip(300)
    client.produce("t", b"x", partition=0, on_delivery=lambda _, message: latencies.append(message.latency() or 0.0))
    client.flush(10)
    assert latencies[0] >= 0.3


def test_a_fault_on_an_unknown_broker_or_after_the_end_is_an_error(broker: MockBroker):
    with pytest.raises(MockBrokerError, match="could not take a broker down"):
        broker.set_down(99)
    broker.stop()
    broker.stop()
    with pytest.raises(MockBrokerError, match="was stopped"):
        broker.set_up()


def test_records_that_the_broker_forgot_unread_are_reported_with_their_range(broker: MockBroker):
    client = producer(broker)
    for _ in range(8):
        for _ in range(1_000):
            client.produce("t", bytes(1_000), partition=1)
        client.flush(20)
    with LagGuard(broker.bootstrap_servers) as guard:
        low, high = (log := guard.logs({("t", 1): 0})["t", 1]).low, log.high
        assert high == 8_000
        assert low > 0, "the broker kept 8 MB: its bound, which the pacing rests on, has changed"
        with pytest.raises(EmbeddedDataLost, match=rf"offsets \[0, {low}\)"):
            guard.check({("t", 0): 0, ("t", 1): 0})
        assert guard.check({("t", 0): 0, ("t", 1): low}) == {("t", 0): 0, ("t", 1): high - low}


def test_a_paced_producer_never_outruns_a_slow_reader(broker: MockBroker):
    positions = {("t", 0): 0}
    pacer = Pacer(lambda: positions)

    def stored(error: KafkaError | None, message: Message) -> None:
        assert error is None
        pacer.sent("t", 0, message.offset() or 0, 1_000)

    reader = Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": "g",
            "auto.offset.reset": "error",
            "queued.max.messages.kbytes": 64,  # it reads ahead little, so that the producer is really ahead of it
        }
    )
    reader.assign([TopicPartition("t", 0, 0)])
    enough = threading.Event()

    def read_slowly() -> None:
        while not enough.is_set() and positions["t", 0] < 15_000:
            for message in reader.consume(500, 0.05):
                if message.error():
                    return
                positions["t", 0] = (message.offset() or 0) + 1

    thread = threading.Thread(target=read_slowly)
    thread.start()
    client = producer(broker, **PACED_PRODUCER)
    try:
        for number in range(15_000):
            if number % 100 == 0:
                pacer.wait_for_lag(timeout_s=30)
            while True:
                try:
                    client.produce("t", bytes(1_000), partition=0, on_delivery=stored)
                    break
                except BufferError:
                    client.poll(0.05)
            client.poll(0)
        client.flush(20)
        thread.join(30)
    finally:
        enough.set()
        thread.join(5)
        reader.close()
    assert positions == {("t", 0): 15_000}, "15 MB went through a log of 5 MB"
    with LagGuard(broker.bootstrap_servers) as guard:
        assert guard.check(positions) == {("t", 0): 0}


def test_the_fallback_without_ctypes_serves_four_partitions_and_refuses_other_counts():
    with PlainMockBroker({"t": 4}) as plain:
        assert describe_partitions(admin_client(plain.bootstrap_servers))["t"] == 4
        client = producer(plain)
        client.produce("t", b"x", partition=3)
        assert client.flush(10) == 0
        assert [m.value() for m in read(plain, "t", 3, 1)] == [b"x"]
        with pytest.raises(MockBrokerError, match="gives 4 partitions, not 6"):
            plain.create_topics({"u": 6})


def test_a_stopped_broker_answers_nobody():
    broker = MockBroker({"t": 1})
    broker.stop()
    with pytest.raises(KafkaException):
        admin_client(broker.bootstrap_servers, {"log_level": 0}).list_topics(timeout=0.3)


@pytest.mark.parametrize(
    "library",
    [
        "confluent_kafka.libs/librdkafka-0cb94173.so.1",
        "confluent_kafka/.dylibs/librdkafka.1.dylib",
        "confluent_kafka.libs/librdkafka-5d2e2910.dll",
    ],
)
def test_the_library_is_found_in_the_layout_of_every_systems_wheel(tmp_path: Path, library: str):
    extension = tmp_path / "confluent_kafka" / "cimpl.so"
    for path in (extension, tmp_path / library):
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
    assert list(candidates(extension)) == [extension, tmp_path / library]
