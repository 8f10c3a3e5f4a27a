"""SIGTERM: the process is gone and somebody else at work within three seconds, whatever Kafka and the group are doing."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streams.embedded.mock_broker import MockBroker
from tests.real.backend import Backend, create_on_kafka
from tests.real.environment import CACHE
from tests.real.kafka import KafkaServer
from tests.streams.fleet import PARTITIONS, Fleet, until

AIM_S = 3.0
OWNED = 4 * PARTITIONS  # two kinds, two topics each


@contextmanager
def fleet_on(backend: Backend, folder: Path) -> Iterator[Fleet]:
    made = Fleet(backend, folder)
    try:
        yield made
    finally:
        made.close()


def seconds_to_stop(fleet: Fleet, number: int = 0) -> float:
    """From SIGTERM to the end of the process, which is a clean one."""
    worker = fleet.processes[number]
    asked = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    status = worker.wait(20)
    took = time.monotonic() - asked
    assert status == 0, fleet.log_of(worker)[-3000:]
    return took


def test_a_worker_stops_in_time_while_no_broker_answers(embedded: Backend, tmp_path: Path) -> None:
    with MockBroker() as broker:
        backend = Backend("mock", broker.bootstrap_servers, embedded.redis_url, broker.create_topics)
        with fleet_on(backend, tmp_path) as fleet:
            fleet.send(200)
            fleet.start()
            fleet.assert_exact()
            broker.set_down()
            time.sleep(1.5)  # until the mirror and the heartbeat have met it
            assert seconds_to_stop(fleet) < AIM_S


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.parametrize("silent", [True, False], ids=["silent", "gone"])
def test_a_worker_stops_in_time_while_kafka_is(kafka: Backend, tmp_path: Path, silent: bool) -> None:
    server = KafkaServer(tmp_path / "kafka", CACHE, heap_mb=512)
    try:
        server.start()
        servers = server.bootstrap_servers
        backend = Backend("kafka", servers, kafka.redis_url, create_on_kafka(servers))
        with fleet_on(backend, tmp_path) as fleet:
            fleet.send(200)
            fleet.start()
            fleet.assert_exact()
            if silent:
                server.pause()
            else:
                server.kill()
            time.sleep(1.5)
            assert seconds_to_stop(fleet) < AIM_S
    finally:
        server.stop()


@pytest.mark.kafka
def test_another_worker_takes_over_in_time_after_sigterm(kafka: Backend, tmp_path: Path) -> None:
    with fleet_on(kafka, tmp_path) as fleet:
        fleet.send(500)
        first = fleet.start()
        until(lambda: fleet.claimed_by(first) == OWNED, 30, "the first has everything")
        second = fleet.start()
        until(lambda: 0 < fleet.claimed_by(second) < OWNED, 30, "both have something")
        until(lambda: fleet.claimed_by(first) + fleet.claimed_by(second) == OWNED, 30, "all is owned once")
        asked = time.monotonic()
        first.send_signal(signal.SIGTERM)
        fleet.send(500)
        until(lambda: fleet.claimed_by(second) == OWNED, 20, "the second has everything")
        assert time.monotonic() - asked < AIM_S
        assert first.wait(10) == 0
        fleet.assert_exact()


@pytest.mark.kafka
@pytest.mark.slow
def test_a_worker_stops_in_time_during_a_rebalance_that_another_one_holds_up(kafka: Backend, tmp_path: Path) -> None:
    with fleet_on(kafka, tmp_path) as fleet:
        fleet.options = {"session_timeout_s": 20.0}  # so long the group waits for who does not answer
        first = fleet.start()
        until(lambda: fleet.claimed_by(first) == OWNED, 30, "the first has everything")
        second = fleet.start()
        until(lambda: fleet.claimed_by(second) > 0, 30, "the second has something")
        second.send_signal(signal.SIGSTOP)
        fleet.start()
        until(lambda: fleet.log_of(first).count("(Re-)joining group") >= 3, 20, lambda: fleet.log_of(first)[-2000:])
        assert seconds_to_stop(fleet) < AIM_S
        # Not by the last resort, which would leave the group to find out by itself.
        assert "ending the process" not in fleet.log_of(first)
        assert "the group was not left" not in fleet.log_of(first)
