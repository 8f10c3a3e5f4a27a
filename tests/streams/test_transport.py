"""The way from the log to the commit with faults put into it: batches thrown away, answers lost, holes and gaps."""

from __future__ import annotations

import asyncio
import copy
import logging
import random
import time
from collections.abc import Sequence
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.core.records import Records
from streams.core.stage import Arrived, Effects, Record, Send
from streams.embedded.librdkafka import ApiKey
from streams.embedded.mock_broker import MockBroker
from streams.store.tables import Change, Outcome, Owner, StoreUnavailable
from streams.transport.beginning import DataGap, StateAhead, StateMissing
from streams.transport.chain import LONG, Place
from streams.transport.fetcher import Fetcher
from streams.transport.group_thread import GroupLost
from streams.transport.intake import COLLECT_S, DIGEST_BYTES, HELD_WAIT_S, LANE_BYTES, Fetched, Intake
from streams.transport.transport import ClaimTooSlow
from tests.real.backend import Backend
from tests.streams.inside import PARTITIONS, Inside, until
from tests.streams.toy import Adding, Counting


@pytest.fixture
def inside(embedded: Backend) -> Inside:
    return Inside(embedded)


@pytest.fixture
def on_kafka(kafka: Backend) -> Inside:
    return Inside(kafka)


def test_batches_thrown_away_on_their_way_are_fetched_again(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    dice, thrown, take = random.Random(3), [], Intake.take

    async def leaky(self: Intake) -> list[Fetched]:
        ready = await take(self)
        lost = [fetched for fetched in ready if dice.random() < 0.4]
        thrown.extend(lost)
        return [fetched for fetched in ready if fetched not in lost]

    monkeypatch.setattr(Intake, "take", leaky)
    monkeypatch.setattr("streams.worker.owners.STRAY_S", 0.2)
    inside.send(2_000)

    async def body() -> None:
        async with inside.worker(batch_records=50) as worker:
            await inside.counted(worker, 60)
            assert worker.progress().rewinds > 5

    asyncio.run(body())
    assert len(thrown) > 5


def test_a_thrown_away_batch_without_a_successor_is_noticed(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    take, thrown = Intake.take, []

    async def leaky(self: Intake) -> list[Fetched]:
        ready = await take(self)
        if ready and not thrown:
            thrown.extend(ready)
            return []
        return ready

    monkeypatch.setattr(Intake, "take", leaky)
    monkeypatch.setattr("streams.worker.owners.STRAY_S", 1.5)
    inside.send(10)

    async def body() -> None:
        async with inside.worker(idle_fold_s=0.5) as worker:  # more often than that, as `leadline run` does
            await inside.counted(worker)

    asyncio.run(body())
    assert thrown


def test_what_waits_behind_a_judge_that_holds_the_loop_is_not_taken_for_thrown_away(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It was fetched again and again, and the worker never came to the end of it."""
    monkeypatch.setattr("streams.worker.owners.STRAY_S", 0.1)
    monkeypatch.setattr("streams.worker.owners.COMPARE_S", 0.1)
    fold = Adding.fold

    def slow(self: Adding, *arguments: Any) -> Effects:
        time.sleep(1.2)
        return fold(self, *arguments)

    monkeypatch.setattr(Adding, "fold", slow)
    caplog.set_level(logging.WARNING)
    inside.send(200)

    async def body() -> None:
        async with inside.worker(batch_records=20) as worker:
            await inside.counted(worker, 90)
            assert worker.progress().rewinds == 0

    asyncio.run(body())
    assert "the store does not stand where we do" not in caplog.text
    assert {
        inside.tables._state(Owner(kind, at)).claims for kind in ("observe", "judge") for at in range(PARTITIONS)
    } == {1}


@pytest.mark.parametrize("happened", [True, False])
def test_commits_without_an_answer_count_once(inside: Inside, monkeypatch: pytest.MonkeyPatch, happened: bool) -> None:
    dice, commit, failures = random.Random(5), inside.tables.commit, []

    async def silent(owner: Owner, change: Change) -> Outcome:
        fails = change.effects != Effects() and dice.random() < 0.3
        outcome = await commit(owner, change) if happened or not fails else None
        if fails:
            failures.append(owner)
            raise StoreUnavailable("no answer")
        assert outcome is not None
        return outcome

    monkeypatch.setattr(inside.tables, "commit", silent)
    inside.send(1_000)

    async def body() -> None:
        async with inside.worker(batch_records=50) as worker:
            await inside.counted(worker, 60)

    asyncio.run(body())
    assert len(failures) > 5


def test_a_store_that_is_away_for_a_while_is_waited_for(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    read, claim, away = inside.tables.read, inside.tables.claim, []

    async def failing_read(owner: Owner, wanted: object) -> object:
        if len(away) < 3:
            away.append(owner)
            raise StoreUnavailable("away")
        return await read(owner, wanted)  # type: ignore[arg-type]

    async def failing_claim(owner: Owner) -> object:
        if len(away) == 1:
            away.append(owner)
            raise StoreUnavailable("away")
        return await claim(owner)

    monkeypatch.setattr(inside.tables, "read", failing_read)
    monkeypatch.setattr(inside.tables, "claim", failing_claim)
    inside.send(100)

    async def body() -> None:
        async with inside.worker() as worker:
            await inside.counted(worker)

    asyncio.run(body())


def test_a_claim_that_takes_too_long_stops_the_worker(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(owner: Owner) -> object:
        raise StoreUnavailable("away")

    monkeypatch.setattr(inside.tables, "claim", never)

    async def body() -> None:
        async with inside.worker(claim_timeout_s=1.0) as worker:
            await until(lambda: worker.progress().state == "stopping", 30, worker)

    with pytest.raises(ClaimTooSlow):
        asyncio.run(body())


def test_a_stage_that_fails_stops_the_worker_and_says_where(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fold = Counting.fold

    def failing(self: Counting, arrived: Arrived, found: object, now: float) -> Effects:
        if any(record.key == b"id-7" for records in arrived.values() for record in records):
            raise ZeroDivisionError("a fault of the core")
        return fold(self, arrived, found, now)  # type: ignore[arg-type]

    monkeypatch.setattr(Counting, "fold", failing)
    inside.send(20)

    async def body() -> None:
        async with inside.worker() as worker:
            await until(lambda: worker.progress().state == "stopping", 30, worker)

    with caplog.at_level(logging.ERROR), pytest.raises(ZeroDivisionError):
        asyncio.run(body())
    assert any("observe/" in record.message and "offsets 0 to" in record.message for record in caplog.records)
    # Nothing of the failed batch is in the tables, so the next worker finds it again.
    assert inside.totals().get("predictions", 0) < 20


def test_state_that_stands_beyond_the_log_stops_the_worker(inside: Inside) -> None:
    async def body() -> None:
        owner = Owner("observe", 1)
        fence = (await inside.tables.claim(owner)).fence
        offsets = {inside.topics.predictions: 10_000, inside.topics.labels: 0}
        await inside.tables.commit(owner, Change(fence, dict.fromkeys(offsets), offsets))
        async with inside.worker() as worker:
            await until(lambda: worker.progress().state == "stopping", 30, worker)

    with pytest.raises(StateAhead, match="10000, but the log ends at 0"):
        asyncio.run(body())


def test_another_log_begins_anew_and_keeps_the_state(inside: Inside) -> None:
    async def body() -> None:
        owner = Owner("observe", 1)
        fence = (await inside.tables.claim(owner)).fence
        offsets = {f"{inside.topics.predictions}#monday": 10_000, f"{inside.topics.labels}#monday": 10_000}
        state = Effects(checkpoint=b'{"predictions": 10000}')
        await inside.tables.commit(owner, Change(fence, dict.fromkeys(offsets), offsets, state))
        inside.send(50)
        async with inside.worker(log_id="tuesday") as worker:
            await until(lambda: inside.totals().get("predictions") == 10_050, 30, worker)

    asyncio.run(body())


@pytest.mark.kafka
def test_what_the_log_no_longer_holds_is_reported_and_then_left_behind(on_kafka: Inside) -> None:
    inside, gaps = on_kafka, []

    def alert(gap: DataGap) -> Sequence[Send]:
        gaps.append(gap)
        return [Send(inside.topics.changes, b"gap", b"%d" % gap.end)]

    async def first() -> None:
        async with inside.worker() as worker:
            await inside.counted(worker)

    async def second() -> None:
        async with inside.worker(on_gap=alert) as worker:
            await until(lambda: (seen := inside.totals())["predictions"] + seen["labels"] >= 180 + 200, 30, worker)
            await until(lambda: worker.progress().outbox_sent > 0, 30, worker)

    inside.send(100)
    asyncio.run(first())
    stood = inside.tables._state(Owner("observe", 0)).offsets[inside.topics.predictions]
    inside.send(100)
    admin = AdminClient({"bootstrap.servers": inside.backend.bootstrap_servers})
    place = TopicPartition(inside.topics.predictions, 0, stood + 20)
    next(iter(admin.delete_records([place]).values())).result(10)
    asyncio.run(second())
    assert gaps == [DataGap(inside.topics.predictions, 0, stood, stood + 20)]
    assert inside.totals()["predictions"] == 200 - 20
    assert inside.totals()["labels"] == 200


@pytest.mark.kafka
def test_offsets_of_transactions_are_explained_holes(on_kafka: Inside) -> None:
    inside = on_kafka
    producer = Producer(
        {"bootstrap.servers": inside.backend.bootstrap_servers, "transactional.id": inside.group, "log_level": 3}
    )
    producer.init_transactions(30)
    kept = 0
    for number in range(12):
        producer.begin_transaction()
        for record in range(10 if number else 400):  # the first is aborted: a long hole
            key = b"id-%d" % (inside.sent + kept + record) if number % 3 else b"aborted-%d-%d" % (number, record)
            for topic in (inside.topics.predictions, inside.topics.labels):
                producer.produce(topic, key=key, value=b"{}", partition=record % PARTITIONS)
        producer.flush()
        if number % 3:
            producer.commit_transaction(30)
            kept += 10
        else:
            producer.abort_transaction(30)
    inside.sent += kept

    async def body() -> None:
        async with inside.worker(batch_records=7, topics_s=0.2) as worker:
            await inside.counted(worker)
            assert sum(standing.holes for standing in worker.progress().partitions.values()) > 400
            lanes = worker._owners.intake.chain.lanes.values()  # type: ignore[union-attr]
            await until(lambda: not any(lane.long_holes for lane in lanes), 20, worker)
            assert worker.progress().data_gaps == 0

    asyncio.run(body())


def test_a_hole_that_nothing_explains_is_reported(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a compaction, or a fault of the broker: the log shows the same hole however often it is asked."""
    gaps: list[DataGap] = []
    gone = range(30, 30 + 2 * LONG)
    topic = inside.topics.labels

    def there(messages: list[Message]) -> list[Message]:
        return [m for m in messages if (m.topic(), m.partition()) != (topic, 0) or m.offset() not in gone]

    class Forgetful(Consumer):
        def consume(self, *arguments: Any) -> list[Message]:
            return there(super().consume(*arguments))

    def alert(gap: DataGap) -> Sequence[Send]:
        gaps.append(gap)
        return [Send(inside.topics.changes, b"gap", b"{}", 0)]

    monkeypatch.setattr("streams.transport.fetcher.Consumer", Forgetful)
    inside.send(600)

    async def body() -> None:
        async with inside.worker(on_gap=alert, topics_s=0.2) as worker:
            await until(lambda: inside.totals().get("labels") == 600 - len(gone), 30, worker)
            await until(lambda: worker.progress().data_gaps == 1, 20, worker)
            await until(lambda: worker.progress().outbox_sent > 0, 20, worker)
            assert worker.progress().partitions[Place(topic, 0)].holes == len(gone)

    asyncio.run(body())
    assert gaps == [DataGap(topic, 0, gone.start, gone.stop)]


def test_a_worker_whose_store_is_slow_holds_a_bounded_part_of_the_lag(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty thousand records wait in the log; what is not counted yet stays there, but for a few batches."""
    batch, fetch, records = 100, 500, 15_000
    free, commit, most = asyncio.Event(), inside.tables.commit, 0

    async def slow(owner: Owner, change: Change) -> Outcome:
        if change.effects.checkpoint:  # of a batch; claims go on
            await free.wait()
        return await commit(owner, change)

    monkeypatch.setattr(inside.tables, "commit", slow)
    inside.send(records)

    async def body() -> None:
        nonlocal most
        async with inside.worker(batch_records=batch, fetch_records=fetch) as worker:
            await until(lambda: bool(worker._owners and worker._owners.intake.fetched), 20, worker)
            assert worker._owners is not None
            intake = worker._owners.intake
            for _ in range(100):
                await asyncio.sleep(0.02)
                most = max(most, sum(len(lane.records) for lane in intake.chain.lanes.values()))
            fetched = intake.fetched
            free.set()
            await inside.counted(worker, 120)
            assert fetched < records

    asyncio.run(body())
    lanes = 2 * PARTITIONS
    assert 0 < most <= lanes * (4 * batch + fetch)


def test_an_idle_owner_is_folded_without_records(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    folds: list[int] = []
    fold = Counting.fold

    def watched(self: Counting, arrived: Arrived, found: object, now: float) -> Effects:
        folds.append(sum(map(len, arrived.values())))
        return fold(self, arrived, found, now)  # type: ignore[arg-type]

    monkeypatch.setattr(Counting, "fold", watched)

    async def body() -> None:
        async with inside.worker(idle_fold_s=0.1) as worker:
            await until(lambda: folds.count(0) > 5, 30, worker)
        inside.send(10)
        async with inside.worker(idle_fold_s=0.1) as worker:
            await inside.counted(worker)

    asyncio.run(body())


def test_two_topics_of_an_owner_go_side_by_side_in_broker_time(inside: Inside) -> None:
    """Predictions are fetched first and are many; labels of the same times must not be left behind."""
    producer = Producer({"bootstrap.servers": inside.backend.bootstrap_servers, "log_level": 3})
    start = 1_700_000_000_000
    for topic in (inside.topics.predictions, inside.topics.labels):
        for second in range(1_000):
            producer.produce(topic, key=b"k", value=b"{}", partition=0, timestamp=start + second * 1_000)
        producer.flush()

    async def body() -> None:
        fetcher = Fetcher({"bootstrap.servers": inside.backend.bootstrap_servers, "group.id": inside.group})
        topics = (inside.topics.predictions, inside.topics.labels)
        intake = Intake(fetcher, {"observe": topics}, fetch_records=50, batch_records=40, slack_s=5.0)
        await intake.place({Place(topic, 0): 0 for topic in topics})
        reached = dict.fromkeys(topics, start / 1000)
        while min(reached.values()) < start / 1000 + 999:
            for fetched in await intake.take():
                for part in fetched.parts:
                    reached[part.topic] = part.records[-1].timestamp
                assert abs(reached[topics[0]] - reached[topics[1]]) <= 40 + 5
        await intake.close()

    asyncio.run(asyncio.wait_for(body(), 60))


def test_while_it_lingers_small_pieces_are_collected_and_full_ones_go_at_once(inside: Inside) -> None:
    async def body() -> None:
        fetcher = Fetcher({"bootstrap.servers": inside.backend.bootstrap_servers, "group.id": inside.group})
        place = Place(inside.topics.predictions, 0)
        intake = Intake(fetcher, {"observe": (inside.topics.predictions,)}, batch_records=30)
        await intake.place({place: 0})
        intake.linger_s = 3600.0
        producer = Producer({"bootstrap.servers": inside.backend.bootstrap_servers, "log_level": 3})
        sent = 0
        for count in (5, 10, 10):
            for _ in range(count):
                producer.produce(place.topic, key=b"k", value=b"{}", partition=0)
            producer.flush()
            sent += count
            while len(intake.chain.lanes[place].records) < sent:
                assert await intake.take() == []
        for _ in range(5):
            producer.produce(place.topic, key=b"k", value=b"{}", partition=0)
        producer.flush()
        while not (ready := await intake.take()):
            pass
        assert [len(part.records) for fetched in ready for part in fetched.parts] == [30]
        producer.produce(place.topic, key=b"k", value=b"{}", partition=0)
        producer.flush()
        while not intake.chain.lanes[place].records:
            assert await intake.take() == []
        intake.linger_s = 0.0
        while not (ready := await intake.take()):
            pass
        assert ready[0].parts[0].end == 31
        await intake.close()

    asyncio.run(asyncio.wait_for(body(), 60))


class Endless:
    """In place of a fetcher of which there is always more."""

    held: frozenset[Place] = frozenset()

    @property
    def paused(self) -> frozenset[Place]:
        return self.held

    def assign(self, positions: object) -> None: ...

    def hold(self, places: set[Place]) -> None:
        self.held = frozenset(places)

    def close(self) -> None: ...

    def end(self, place: Place) -> int:
        return 1_000_000


def test_few_digests_do_not_wait_until_a_backlog_of_events_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("streams.transport.intake.monotonic", lambda: now)

    async def body() -> None:
        nonlocal now
        intake = Intake(cast(Any, Endless()), {"observe": ("events",), "judge": ("digests",)}, batch_records=30)
        events, digests = Place("events", 0), Place("digests", 0)
        await intake.place({events: 0, digests: 0})
        intake.chain.arrive(digests, records(0, 3), now)
        handed = []
        for at in range(4):
            intake.chain.arrive(events, records(30 * at, 30), now)
            handed += [(now, fetched.owner.kind) for fetched in intake._hand_over(more=True)]
            now += COLLECT_S / 2
        assert [when for when, kind in handed if kind == "judge"] == [COLLECT_S]
        assert [when for when, kind in handed if kind == "observe"] == [at * COLLECT_S / 2 for at in range(4)]
        await intake.close()

    asyncio.run(body())


def test_large_digests_are_handed_over_in_pieces_and_hold_their_lane_before_it_is_full_of_them() -> None:
    async def body() -> None:
        fetcher = Endless()
        intake = Intake(cast(Any, fetcher), {"judge": ("digests",)})
        digests = Place("digests", 0)
        await intake.place({digests: 0})
        size = DIGEST_BYTES // 2
        intake.chain.arrive(digests, records(0, 35, size), 0.0)
        lane, handed = intake.chain.lanes[digests], []
        while lane.records:
            handed += [len(part.records) for fetched in intake._hand_over(more=True) for part in fetched.parts]
            assert fetcher.held == ({digests} if lane.size > LANE_BYTES // 4 else set())
        assert handed == [2] * 17 + [1]
        assert intake.chain.lanes[digests].size == 0
        await intake.close()

    asyncio.run(body())


class Silent(Endless):
    """Of which there is more, but nothing comes; each wait ends when a busy loop looks again, ten seconds later."""

    def __init__(self) -> None:
        self.now = 0.0

    def consume(self, count: int) -> list[Any]:
        return []

    def wait(self, count: int, seconds: float) -> list[Any]:
        self.now += 10.0
        return []


def test_a_lane_of_which_nothing_comes_holds_the_others_for_a_time_of_listening(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A loop that is busy elsewhere hears nothing: labels must not run ahead of predictions, whose rows would expire, for that."""
    fetcher = Silent()
    monkeypatch.setattr("streams.transport.intake.monotonic", lambda: fetcher.now)

    async def body() -> None:
        intake = Intake(cast(Any, fetcher), {"observe": ("predictions", "labels")}, patience_s=1.0)
        predictions, labels = Place("predictions", 0), Place("labels", 0)
        await intake.place({predictions: 0, labels: 0})
        intake.chain.arrive(labels, records(0, 3), 0.0)
        waits = 0
        while not (ready := await intake.take()):
            waits += 1
        assert waits == pytest.approx(1.0 / HELD_WAIT_S, abs=2)  # and not one, after which ten seconds have passed
        assert [(part.topic, part.end) for part in ready[0].parts] == [("labels", 3)]
        intake.chain.arrive(predictions, records(0, 1), fetcher.now)
        intake.chain.arrive(labels, records(3, 1), fetcher.now)
        await intake.take()
        intake.chain.arrive(labels, records(4, 1), fetcher.now)
        assert intake._hand_over(False)  # of the same time as the last prediction
        intake.chain.arrive(labels, Records.of([Record(5, b"k", b"v", 100.0)]), fetcher.now)
        assert not intake._hand_over(False)
        intake.chain.end(predictions, 1)
        assert intake._hand_over(False)
        await intake.close()

    asyncio.run(asyncio.wait_for(body(), 60))


@pytest.mark.kafka
def test_a_transaction_that_stays_open_holds_nobody(on_kafka: Inside) -> None:
    """What it hides lies before the log's end, and cannot be read: that is where the log ends for us."""
    inside = on_kafka
    servers = {"bootstrap.servers": inside.backend.bootstrap_servers, "log_level": 3}
    topics = (inside.topics.predictions, inside.topics.labels)
    first, then = 1_700_000_000_000, 1_700_000_500_000
    hidden = Producer({**servers, "transactional.id": inside.group})
    hidden.init_transactions(30)
    hidden.begin_transaction()
    hidden.produce(topics[1], key=b"k", value=b"{}", partition=0, timestamp=first)
    hidden.flush()
    hidden.commit_transaction(30)
    hidden.begin_transaction()
    hidden.produce(topics[1], key=b"k", value=b"{}", partition=0, timestamp=then)
    hidden.flush()
    plain = Producer(servers)
    for timestamp in (first, then):
        plain.produce(topics[0], key=b"k", value=b"{}", partition=0, timestamp=timestamp)
    plain.flush()

    async def body() -> None:
        fetcher = Fetcher({"bootstrap.servers": inside.backend.bootstrap_servers, "group.id": inside.group})
        intake = Intake(fetcher, {"observe": topics}, patience_s=3600.0)
        await intake.place({Place(topic, 0): 0 for topic in topics})
        reached = dict.fromkeys(topics, 0)
        while reached[topics[0]] < 2:
            for fetched in await intake.take():
                reached |= {part.topic: part.end for part in fetched.parts}
        assert reached[topics[1]] == 1
        hidden.commit_transaction(30)
        while reached[topics[1]] < 3:
            for fetched in await intake.take():
                reached |= {part.topic: part.end for part in fetched.parts}
        await intake.close()

    asyncio.run(asyncio.wait_for(body(), 60))


def records(first: int, count: int, size: int = 1) -> Records:
    return Records.of([Record(first + at, b"k", b"v" * size, 0.0) for at in range(count)])


def test_an_offset_that_the_log_lacks_is_a_fault_and_not_a_jump(inside: Inside) -> None:
    inside.send(20)

    async def body() -> None:
        fetcher = Fetcher({"bootstrap.servers": inside.backend.bootstrap_servers, "group.id": inside.group})
        intake = Intake(fetcher, {"observe": (inside.topics.predictions,)})
        place = Place(inside.topics.predictions, 0)
        await intake.place({place: 5_000})
        while not (lost := intake.lost()):
            assert await intake.take() == []
        assert lost == {place}
        await intake.close()

    asyncio.run(asyncio.wait_for(body(), 60))


def test_redis_that_comes_back_empty_during_the_run_stops_the_worker(inside: Inside) -> None:
    async def body() -> None:
        async with inside.worker() as worker:
            inside.send(50)
            await inside.counted(worker)
            assert worker._app is not None
            await until(lambda: bool(worker._app and worker._app.consumer._mirrored), 10, worker)  # type: ignore[attr-defined]
            inside.tables._owners.clear()
            inside.send(50)
            await until(lambda: worker.progress().state == "stopping", 30, worker)

    with pytest.raises(StateMissing, match="Redis came back empty"):
        asyncio.run(body())


def test_a_store_that_went_back_is_noticed_while_nothing_comes(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.worker.owners.COMPARE_S", 0.2)

    async def body() -> None:
        async with inside.worker() as worker:
            inside.send(50)
            await inside.counted(worker)
            kept = copy.deepcopy(inside.tables._owners)
            inside.send(50)
            await inside.counted(worker)
            inside.tables._owners = kept
            assert inside.totals()["labels"] == 50
            await inside.counted(worker)

    asyncio.run(body())


def test_a_fenced_owner_that_is_still_ours_is_claimed_again_after_a_while(inside: Inside) -> None:
    async def body() -> None:
        async with inside.worker(heartbeat_s=0.5) as worker:
            inside.send(50)
            await inside.counted(worker)
            for partition in range(PARTITIONS):
                await inside.tables.claim(Owner("observe", partition))  # a stranger, who then goes away
            inside.send(50)
            await inside.counted(worker)
            assert worker.progress().commits_refused >= PARTITIONS

    asyncio.run(body())


def test_a_broker_that_goes_away_and_comes_back_loses_and_doubles_nothing() -> None:
    with MockBroker() as broker:
        inside = Inside(Backend("mock", broker.bootstrap_servers, "redis://127.0.0.1:1/0", broker.create_topics))

        async def body() -> None:
            async with inside.worker(batch_records=20) as worker:
                for _ in range(3):
                    inside.send(500)
                    await until(lambda: bool(inside.totals()), 30, worker)
                    broker.set_down()
                    await asyncio.sleep(1.0)
                    broker.set_up()
                await inside.counted(worker, 60)

        asyncio.run(body())


@pytest.mark.parametrize("request_kind", [ApiKey.SYNC_GROUP, ApiKey.JOIN_GROUP, ApiKey.FIND_COORDINATOR])
def test_a_group_that_answers_with_an_error_is_joined_again(request_kind: ApiKey) -> None:
    with MockBroker() as broker:
        inside = Inside(Backend("mock", broker.bootstrap_servers, "redis://127.0.0.1:1/0", broker.create_topics))
        broker.push_errors(request_kind, [KafkaError.INVALID_REQUEST])
        inside.send(20)

        async def body() -> None:
            async with inside.worker() as worker:
                await inside.counted(worker)

        asyncio.run(body())


def test_a_group_that_is_forbidden_stops_the_worker() -> None:
    with MockBroker() as broker:
        inside = Inside(Backend("mock", broker.bootstrap_servers, "redis://127.0.0.1:1/0", broker.create_topics))
        broker.push_errors(ApiKey.JOIN_GROUP, [KafkaError.GROUP_AUTHORIZATION_FAILED] * 3)

        async def body() -> None:
            async with inside.worker() as worker:
                await until(lambda: worker.progress().state == "stopping", 30, worker)

        with pytest.raises(GroupLost):
            asyncio.run(body())
