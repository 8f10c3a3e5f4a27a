"""Topics that are not what they were: made anew, given partitions. Refused with a text, between runs and within one."""

from __future__ import annotations

import asyncio
import time

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from streams.embedded.mock_broker import MockBroker
from streams.store import log_identity
from streams.store.log_identity import Identity, PartitionsChanged, TopicRecreated, check_same, rows_of
from streams.store.tables import Owner
from streams.transport.topics import TopicMissing, admin_client, describe_partitions
from tests.real.backend import Backend
from tests.streams.inside import PARTITIONS, Inside, until


@pytest.fixture
def inside(kafka: Backend) -> Inside:
    return Inside(kafka)


@pytest.fixture
def admin(kafka: Backend) -> AdminClient:
    return admin_client(kafka.bootstrap_servers)


def delete(admin: AdminClient, topic: str) -> None:
    admin.delete_topics([topic])[topic].result(10)


def create(inside: Inside, topic: str) -> None:
    """The broker may still be about to forget the old one."""
    deadline = time.monotonic() + 20
    while True:
        try:
            inside.backend.create_topics({topic: PARTITIONS})
            return
        except (KafkaException, RuntimeError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def grow(admin: AdminClient, topic: str, count: int) -> None:
    admin.create_partitions([NewPartitions(topic, count)])[topic].result(10)
    deadline = time.monotonic() + 20
    while describe_partitions(admin)[topic] != count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def run_once(inside: Inside, **options: object) -> None:
    async with inside.worker(**options) as worker:  # type: ignore[arg-type]
        await until(lambda: worker.progress().state == "stopping", 30, worker)


async def count_all(inside: Inside, **options: object) -> None:
    async with inside.worker(**options) as worker:  # type: ignore[arg-type]
        await inside.counted(worker)


def test_a_topic_is_the_same_as_long_as_its_id_and_count_are() -> None:
    was = {"t": Identity(4, "a"), "u": Identity(4, "")}
    check_same(was, was)
    check_same(was, {"t": Identity(4, "a")})  # no answer for one of them
    check_same(was, {"t": Identity(4, ""), "u": Identity(4, "b")})  # a broker that names no ids says nothing by it
    with pytest.raises(TopicRecreated, match="t was deleted and made anew"):
        check_same(was, {"t": Identity(4, "b")})
    with pytest.raises(PartitionsChanged, match=r"u had 4 partitions and has 6\..*create topics with new names"):
        check_same(was, {"t": Identity(4, "a"), "u": Identity(6, "")})


def test_another_broker_log_has_its_own_ids_and_the_same_partition_counts() -> None:
    kept = rows_of({"t": Identity(4, "a")}, "monday")
    assert log_identity.recreated(kept, {"t": Identity(4, "b")}, "monday") == ["t"]
    assert log_identity.recreated(kept, {"t": Identity(4, "b")}, "tuesday") == []
    with pytest.raises(PartitionsChanged):
        log_identity.check_counts(kept, {"t": Identity(8, "b")})


@pytest.mark.kafka
@pytest.mark.parametrize("records", [20, 900])
def test_a_topic_made_anew_between_runs_is_refused_even_when_its_log_is_long_enough(
    inside: Inside, admin: AdminClient, records: int
) -> None:
    inside.send(300)
    asyncio.run(count_all(inside))
    before = inside.totals()
    delete(admin, inside.topics.labels)
    create(inside, inside.topics.labels)
    inside.send(records, [inside.topics.labels])
    with pytest.raises(TopicRecreated, match=r"labels was deleted and made anew.*accept-new-state"):
        asyncio.run(run_once(inside))
    assert inside.totals() == before


@pytest.mark.kafka
def test_a_topic_made_anew_is_counted_from_its_beginning_when_that_is_accepted(
    inside: Inside, admin: AdminClient
) -> None:
    inside.send(300)
    asyncio.run(count_all(inside))
    delete(admin, inside.topics.labels)
    create(inside, inside.topics.labels)
    inside.sent = 0
    inside.send(300, [inside.topics.labels])  # again, as from a backup
    inside.send(100, [inside.topics.labels])
    inside.sent = 300
    inside.send(100, [inside.topics.predictions])

    async def body() -> None:
        async with inside.worker(accept_new_state=True) as worker:
            await until(lambda: inside.totals().get("labels") == 700, 30, worker)
            await until(lambda: inside.totals().get("predictions") == 400, 30, worker)

    asyncio.run(body())
    assert inside.totals() == {"predictions": 400, "labels": 700, "pairs": 400, "repeats": 300}
    asyncio.run(run_for_a_moment(inside))  # and is the log from now on


async def run_for_a_moment(inside: Inside) -> None:
    async with inside.worker() as worker:
        await until(lambda: len(worker.progress().partitions) == 4 * PARTITIONS, 30, worker)


@pytest.mark.kafka
def test_a_topic_made_anew_during_the_run_stops_the_worker(inside: Inside, admin: AdminClient) -> None:
    """Offsets of the old one fit into the new one: librdkafka reads on from them without a word."""

    async def body() -> None:
        async with inside.worker(topics_s=0.3) as worker:
            inside.send(300)
            await inside.counted(worker)
            delete(admin, inside.topics.labels)
            create(inside, inside.topics.labels)
            inside.send(900, [inside.topics.labels])
            await until(lambda: worker.progress().state == "stopping", 30, worker)

    with pytest.raises(TopicRecreated, match="labels was deleted and made anew"):
        asyncio.run(body())
    with pytest.raises(TopicRecreated):
        asyncio.run(run_once(inside))


@pytest.mark.kafka
def test_a_topic_deleted_during_the_run_stops_the_worker(inside: Inside, admin: AdminClient) -> None:
    async def body() -> None:
        async with inside.worker(topics_s=0.3) as worker:
            inside.send(100)
            await inside.counted(worker)
            delete(admin, inside.topics.labels)
            await until(lambda: worker.progress().state == "stopping", 30, worker)

    with pytest.raises(TopicMissing, match="labels"):
        asyncio.run(body())


@pytest.mark.kafka
def test_partitions_added_during_the_run_stop_the_worker_with_the_way_out(inside: Inside, admin: AdminClient) -> None:
    async def body() -> None:
        async with inside.worker(topics_s=0.3) as worker:
            inside.send(100)
            await inside.counted(worker)
            for topic in (inside.topics.predictions, inside.topics.labels):
                grow(admin, topic, PARTITIONS + 2)
            await until(lambda: worker.progress().state == "stopping", 30, worker)

    with pytest.raises(PartitionsChanged, match=r"had 2 partitions and has 4\..*another kafka\.group"):
        asyncio.run(body())


@pytest.mark.kafka
def test_partitions_added_between_runs_are_refused_by_old_and_new_owners_and_nothing_of_them_is_counted(
    inside: Inside, admin: AdminClient
) -> None:
    inside.send(100)
    asyncio.run(count_all(inside))
    for topic in (inside.topics.predictions, inside.topics.labels):
        grow(admin, topic, PARTITIONS + 1)
    inside.send(100)
    before = inside.totals()
    with pytest.raises(PartitionsChanged, match="had 2 partitions and has 3"):
        asyncio.run(run_once(inside))
    # The same for a worker that is given the added partition alone.
    with pytest.raises(PartitionsChanged, match="had 2 partitions and has 3"):
        asyncio.run(claim_alone(inside, PARTITIONS))
    assert inside.totals() == before
    assert not inside.tables._state(Owner("observe", PARTITIONS)).known


async def claim_alone(inside: Inside, partition: int) -> None:
    from streams.transport.beginning import beginning
    from streams.transport.topic_watch import TopicWatch

    owner, topics = Owner("observe", partition), (inside.topics.predictions, inside.topics.labels)
    now = await TopicWatch(admin_client(inside.backend.bootstrap_servers), topics).now()
    claimed = await inside.tables.claim(owner)
    settings = inside.settings()
    await beginning(
        owner,
        topics,
        claimed,
        {},
        now,
        settings=settings,
        tables=inside.tables,
        intake=None,  # type: ignore[arg-type]
    )


def test_partitions_of_a_kept_state_may_not_change_on_another_broker_in_memory() -> None:
    """As `leadline run --embedded --data FOLDER` with another `kafka.partitions`: that broker has no ids, but counts."""
    with MockBroker() as first, MockBroker() as second:
        inside = Inside(Backend("mock", first.bootstrap_servers, "redis://127.0.0.1:1/0", first.create_topics))
        inside.send(40)
        asyncio.run(count_all(inside, log_id="monday"))
        inside.backend = Backend("mock", second.bootstrap_servers, "redis://127.0.0.1:1/0", second.create_topics)
        second.create_topics(dict.fromkeys(inside.all_topics, PARTITIONS + 1))
        with pytest.raises(PartitionsChanged, match="had 2 partitions and has 3"):
            asyncio.run(run_once(inside, log_id="tuesday"))
