import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import redis
from confluent_kafka import Producer

from streams.embedded.lag_guard import LagGuard, LogRange
from tests.real import environment
from tests.real.backend import create_on_kafka
from tests.real.environment import CACHE, Addresses
from tests.real.kafka import KafkaServer
from tests.real.process import NotReady, PidFile, Server, started_at
from tests.real.redis_server import RealRedis


class Sleeper(Server):
    name = "sleeper"
    program = "import time; time.sleep(600)"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-c", self.program]

    def answers(self) -> bool:
        return self.pid is not None


class Crasher(Sleeper):
    program = "raise SystemExit('no such setting')"

    def answers(self) -> bool:
        return False


def test_a_pid_file_of_a_process_that_is_gone_or_was_replaced_reads_as_none(tmp_path: Path):
    file = PidFile(tmp_path / "pid")
    assert file.read() is None
    file.write(os.getpid())
    assert file.read() == os.getpid()
    file.path.write_text(f"{os.getpid()}\nMon Jan  1 00:00:00 2001\n")
    assert file.read() is None
    ended = subprocess.Popen([sys.executable, "-c", ""])
    file.write(ended.pid)
    ended.wait()
    assert file.read() is None
    file.path.write_text("cut o")
    assert file.read() is None


@pytest.mark.parametrize("detached", [False, True])
def test_a_server_starts_once_and_stops_for_good(tmp_path: Path, detached: bool):
    server = Sleeper(tmp_path, detached=detached)
    server.start()
    first = server.pid
    assert first is not None
    Sleeper(tmp_path, detached=detached).start()
    assert server.pid == first
    server.pause()
    server.stop(timeout_s=10)
    assert server.pid is None
    assert started_at(first) is None
    server.stop()


def test_a_detached_server_is_found_and_stopped_by_another_run(tmp_path: Path):
    Sleeper(tmp_path, detached=True).start()
    other = Sleeper(tmp_path, detached=True)
    assert other.pid is not None
    other.kill()
    assert other.pid is None


def test_a_server_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path):
    with pytest.raises(NotReady, match=r"(?s)sleeper ended.*no such setting"):
        Crasher(tmp_path).start()


def test_the_addresses_survive_the_file_and_half_a_file_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(environment, "ENV", tmp_path / "env")
    assert Addresses.read() is None
    written = Addresses("127.0.0.1:9092", "redis://127.0.0.1:6379/0")
    written.write()
    assert Addresses.read() == written
    assert (written.kafka_port, written.redis_port) == (9092, 6379)
    (tmp_path / "env").write_text("export LEADLINE_BOOTSTRAP_SERVERS=127.0.0.1:9092\n")
    assert Addresses.read() is None


@pytest.mark.kafka
@pytest.mark.usefixtures("kafka")
def test_kafka_keeps_its_port_and_its_records_over_a_crash(tmp_path: Path):
    server = KafkaServer(tmp_path, CACHE)
    try:
        server.start()
        create_on_kafka(server.bootstrap_servers)({"t": 1})
        producer = Producer({"bootstrap.servers": server.bootstrap_servers, "acks": "all"})
        producer.produce("t", b"x")
        assert producer.flush(20) == 0
        server.kill()
        assert not server.answers()
        server.start()
        with LagGuard(server.bootstrap_servers) as guard:
            assert guard.logs({("t", 0): 0}) == {("t", 0): LogRange(0, 1)}
    finally:
        server.stop()


@pytest.mark.kafka
@pytest.mark.usefixtures("kafka")
def test_redis_keeps_its_port_and_its_keys_over_a_restart(tmp_path: Path):
    server = RealRedis(tmp_path)
    try:
        server.start()
        with redis.Redis.from_url(server.redis_url) as client:
            client.set("a", 1)
        server.restart()
        with redis.Redis.from_url(server.redis_url) as client:
            assert client.get("a") == b"1"
    finally:
        server.stop()
