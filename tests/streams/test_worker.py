"""Whole workers, as processes: exact counts through starts, kills, pauses and rebalances."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import seconds
from tests.real.backend import Backend
from tests.streams.fleet import PARTITIONS, Fleet, until

# Most of their time goes into waiting for session timeouts: on the mock broker they run with the long suites.
on_real_kafka_first = pytest.mark.parametrize(
    "backend",
    [pytest.param("embedded", marks=pytest.mark.slow), pytest.param("kafka", marks=pytest.mark.kafka)],
    indirect=True,
)


@pytest.fixture
def fleet(backend: Backend, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(backend, tmp_path)
    yield made
    made.close()


def test_a_worker_counts_everything_and_stops_in_time_when_asked(fleet: Fleet) -> None:
    fleet.send(3_000)
    worker = fleet.start()
    fleet.assert_exact()
    asked = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert time.monotonic() - asked < seconds(3)
    assert fleet.claimed_by(worker) == 0  # its status is gone with it


def test_what_comes_while_nobody_works_is_counted_by_the_next_worker(fleet: Fleet) -> None:
    fleet.send(500)
    first = fleet.start()
    fleet.assert_exact()
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 0
    fleet.send(700)
    fleet.start()
    fleet.assert_exact()


def test_a_worker_shows_where_it_stands(fleet: Fleet) -> None:
    fleet.send(200)
    worker = fleet.start()
    fleet.assert_exact()
    key = f"{fleet.fresh.redis_prefix}:worker:toy-{worker.pid}"
    until(lambda: int(fleet.store.hget(key, "events") or 0) >= 400, 10, "the status is renewed")
    until(lambda: fleet.store.hget(key, "outbox_waiting") == "0", 10, "the status shows an empty outbox")
    shown = fleet.store.hgetall(key)
    assert shown["healthy"] == "yes"
    assert shown["lag"] == "0"
    offsets = [shown[f"{fleet.topics['labels']}/{partition}"].split()[1] for partition in range(PARTITIONS)]
    assert sum(map(int, offsets)) == 200


@on_real_kafka_first
def test_a_worker_killed_again_and_again_loses_and_doubles_nothing(fleet: Fleet) -> None:
    dice = random.Random(7)
    for _ in range(5):
        fleet.send(800)
        worker = fleet.start(batch_records=50)
        before = fleet.counted()
        # Killed somewhere in the middle: as soon as something, not everything, was counted, or a little later.
        until(lambda before=before: fleet.counted() > before, 60, "the worker counts")
        time.sleep(dice.random() * 0.05)
        worker.kill()
        worker.wait(10)
    fleet.start(batch_records=50)
    fleet.assert_exact(90)


@on_real_kafka_first
def test_digests_of_killed_workers_keep_their_ids(fleet: Fleet) -> None:
    fleet.send(2_000)
    for _ in range(2):
        worker = fleet.start(batch_records=20)
        before = fleet.counted()
        until(lambda before=before: fleet.counted() > before, 60, "the worker counts")
        worker.kill()
        worker.wait(10)
    fleet.start()
    fleet.assert_exact(90)
    values: dict[str, bytes] = {}
    for identity, value in fleet.digests():
        assert values.setdefault(identity, value) == value
    assert sum(value.count(b"records") for value in values.values()) == len(values)


@on_real_kafka_first
def test_a_worker_that_was_stopped_too_long_cannot_write_and_recovers(fleet: Fleet) -> None:
    fleet.send(1_000)
    zombie = fleet.start(batch_records=20)
    until(lambda: fleet.counted() > 100, 60, "the first worker counts")
    zombie.send_signal(signal.SIGSTOP)
    fleet.send(1_000)
    other = fleet.start()
    fleet.assert_exact(90)  # the other one has taken over
    fences = [fleet.meta("o", partition)["fence"] for partition in range(PARTITIONS)]
    assert all(int(fence.split(":")[0]) >= 2 for fence in fences)
    zombie.send_signal(signal.SIGCONT)
    fleet.send(1_000)
    fleet.assert_exact(60)
    until(lambda: fleet.claimed_by(zombie) + fleet.claimed_by(other) == 4 * PARTITIONS, 60, "both work again")
    fleet.send(1_000)
    fleet.assert_exact(60)
    assert zombie.poll() is None
    assert other.poll() is None


@on_real_kafka_first
def test_workers_that_come_and_go_share_the_partitions(fleet: Fleet) -> None:
    fleet.send(500)
    first = fleet.start(batch_records=100)
    until(lambda: fleet.counted() > 0, 60, "the first worker counts")
    second = fleet.start(batch_records=100)
    until(lambda: fleet.claimed_by(second) > 0, 60, "the second worker has partitions")
    fleet.send(2_000)
    until(
        lambda: fleet.claimed_by(first) + fleet.claimed_by(second) == 4 * PARTITIONS,
        30,
        "every partition is owned once",
    )
    assert 0 < fleet.claimed_by(first) < 4 * PARTITIONS
    fleet.assert_exact()
    first.send_signal(signal.SIGTERM)
    fleet.send(500)
    assert first.wait(60) == 0
    until(lambda: fleet.claimed_by(second) == 4 * PARTITIONS, 30, "the second worker has everything")
    fleet.assert_exact()


def test_an_empty_redis_under_a_group_with_commits_stops_the_worker(fleet: Fleet) -> None:
    fleet.send(300)
    worker = fleet.start()
    fleet.assert_exact()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    fleet.store.flushdb()
    refused = fleet.start()
    assert refused.wait(30) == 1
    assert "Redis holds no state" in fleet.log_of(refused)
    assert fleet.store.dbsize() <= 2 * PARTITIONS  # claims alone
    fleet.start(accept_new_state=True)
    fleet.assert_exact()


def test_a_worker_refuses_topics_of_unequal_partitions(fleet: Fleet) -> None:
    odd = f"{fleet.fresh.redis_prefix}.odd"
    fleet.backend.create_topics({odd: PARTITIONS + 1})
    worker = fleet.start(topics={**fleet.topics, "labels": odd})
    assert worker.wait(30) == 1
    assert "PartitionsDiffer" in fleet.log_of(worker)


def test_connections_to_redis_cut_in_the_middle_lose_and_double_nothing(fleet: Fleet) -> None:
    worker = fleet.start(batch_records=20)
    killed = 0
    own, database = fleet.store.client_id(), fleet.fresh.redis_url.rpartition("/")[2]
    for _ in range(6):
        fleet.send(300)
        until(lambda: fleet.counted() > 0, 60, "the worker counts")
        for client in fleet.store.client_list():
            if int(client["id"]) != own and client["db"] == database:  # others' tests use this server, too
                killed += fleet.store.client_kill_filter(_id=client["id"])
    assert killed > 0
    fleet.assert_exact()
    assert worker.poll() is None
