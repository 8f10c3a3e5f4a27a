"""The relay: in order, bounded, with ids; what is owed stays in the tables until Kafka confirms."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from leadline.partition import murmur2
from streams.core.stage import Send
from streams.embedded.librdkafka import ApiKey
from streams.embedded.mock_broker import MockBroker
from streams.store.tables import Change, Outgoing, Owner, StoreUnavailable
from streams.store.tables_memory import MemoryTables
from streams.worker.outbox import DeliveryFailed, Relay

OWNER = Owner("observe", 0)
TOPIC = "digests"


def messages(count: int, partition: int | None = 0, size: int = 10) -> list[Outgoing]:
    return [
        Outgoing(number, f"id-{number}", Send(TOPIC, b"key-%d" % number, b"x" * size, partition))
        for number in range(1, count + 1)
    ]


async def owing(count: int, tables: MemoryTables | None = None, **options: int) -> tuple[MemoryTables, list[Outgoing]]:
    tables, owed = tables or MemoryTables(), messages(count, **options)
    fence = (await tables.claim(OWNER)).fence
    await tables.commit(OWNER, Change(fence, {"t": None}, {"t": 1}, outbox=owed))
    return tables, owed


def received(broker: MockBroker, count: int, partition: int = 0) -> list[tuple[bytes | None, str]]:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "reader", "log_level": 3})
    consumer.assign([TopicPartition(TOPIC, partition, 0)])
    got: list[tuple[bytes | None, str]] = []
    while len(got) < count:
        for message in consumer.consume(count, 5.0):
            headers = dict(message.headers() or [])
            got.append((message.key(), headers["leadline-id"].decode()))
    consumer.close()
    return got


def test_messages_arrive_in_order_with_their_ids_and_are_then_forgotten() -> None:
    with MockBroker({TOPIC: 1}) as broker:

        async def body() -> None:
            tables, owed = await owing(500)
            relay = Relay(tables, {"bootstrap.servers": broker.bootstrap_servers})
            relay.start()
            relay.submit(OWNER, owed)
            assert await relay.flush(20)
            assert (await tables.claim(OWNER)).outbox == []
            assert (relay.waiting, relay.sent) == (0, 500)
            await relay.close()

        asyncio.run(body())
        assert received(broker, 500) == [(b"key-%d" % number, f"id-{number}") for number in range(1, 501)]


def test_a_message_without_a_partition_goes_where_java_would_send_its_key() -> None:
    with MockBroker({TOPIC: 3}) as broker:

        async def body() -> None:
            tables, owed = await owing(30, partition=None)  # type: ignore[arg-type]
            relay = Relay(tables, {"bootstrap.servers": broker.bootstrap_servers})
            relay.start()
            relay.submit(OWNER, owed)
            assert await relay.flush(20)
            await relay.close()

        asyncio.run(body())
        for partition in range(3):
            expected = [b"key-%d" % n for n in range(1, 31) if (murmur2(b"key-%d" % n) & 0x7FFFFFFF) % 3 == partition]
            assert [key for key, _ in received(broker, len(expected), partition)] == expected


def test_a_broker_that_is_away_holds_the_owners_at_the_bound() -> None:
    with MockBroker({TOPIC: 1}) as broker:

        async def body() -> None:
            tables, owed = await owing(20)
            relay = Relay(tables, {"bootstrap.servers": broker.bootstrap_servers}, bound=20)
            relay.start()
            relay.submit(OWNER, owed[:1])
            assert await relay.flush(20)
            broker.set_down()
            relay.submit(OWNER, owed[:19])
            await asyncio.wait_for(relay.room(), 5)
            relay.submit(OWNER, owed[19:])
            waiting = asyncio.create_task(relay.room())
            assert not await relay.flush(0.3)
            assert not waiting.done()
            assert len((await tables.claim(OWNER)).outbox) == 19
            broker.set_up()
            await asyncio.wait_for(waiting, 30)
            assert await relay.flush(30)
            assert (await tables.claim(OWNER)).outbox == []
            await relay.close()

        asyncio.run(body())


class Away(MemoryTables):
    """Does not answer the first acknowledgements."""

    refusals = 2

    async def acknowledge(self, owner: Owner, messages: Sequence[tuple[int, str]]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable("away")
        await super().acknowledge(owner, messages)


def test_tables_that_do_not_answer_are_told_again_until_they_have_heard() -> None:
    with MockBroker({TOPIC: 1}) as broker:

        async def body() -> None:
            tables, owed = await owing(20, tables=Away())
            relay = Relay(tables, {"bootstrap.servers": broker.bootstrap_servers})
            relay.start()
            relay.submit(OWNER, owed)
            assert relay.owed(OWNER) == await tables.owed(OWNER) == 20
            assert await relay.flush(20)
            assert relay.owed(OWNER) == await tables.owed(OWNER) == 0
            assert (relay.waiting, relay.sent) == (0, 20)
            await relay.close()

        asyncio.run(body())
        assert len(received(broker, 20)) == 20


def test_a_message_that_kafka_refuses_for_good_stops_the_owners_and_stays_owed() -> None:
    with MockBroker({TOPIC: 1}) as broker:

        async def body() -> None:
            tables, owed = await owing(3)
            relay = Relay(tables, {"bootstrap.servers": broker.bootstrap_servers})
            relay.start()
            broker.push_errors(ApiKey.PRODUCE, [KafkaError.TOPIC_AUTHORIZATION_FAILED])
            relay.submit(OWNER, owed)
            assert not await relay.flush(20)  # over at once, not after 20 seconds
            with pytest.raises(DeliveryFailed, match="id-1"):
                relay.check()
            with pytest.raises(DeliveryFailed):
                await relay.room()
            assert len((await tables.claim(OWNER)).outbox) == 3
            await relay.close()

        asyncio.run(body())


def test_a_message_beyond_the_size_limit_is_named() -> None:
    with MockBroker({TOPIC: 1}) as broker:

        async def body() -> None:
            tables, owed = await owing(1, size=200_000)
            relay = Relay(tables, {"bootstrap.servers": broker.bootstrap_servers, "message.max.bytes": 100_000})
            relay.start()
            with pytest.raises(DeliveryFailed, match=r"id-1 .*too large"):
                relay.submit(OWNER, owed)
            await relay.close()

        asyncio.run(body())


def test_what_was_not_confirmed_at_the_end_is_owed_to_the_next_worker() -> None:
    with MockBroker({TOPIC: 1}) as broker:

        async def body() -> None:
            tables, owed = await owing(5)
            first = Relay(tables, {"bootstrap.servers": broker.bootstrap_servers})
            first.start()
            broker.set_down()
            first.submit(OWNER, owed)
            assert not await first.flush(0.2)
            await first.close()
            broker.set_up()
            second = Relay(tables, {"bootstrap.servers": broker.bootstrap_servers})
            second.start()
            second.submit(OWNER, (await tables.claim(OWNER)).outbox)
            assert await second.flush(30)
            await second.close()

        asyncio.run(body())
        assert [identity for _, identity in received(broker, 5)][-5:] == [f"id-{number}" for number in range(1, 6)]
