import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from confluent_kafka import Producer

from streams.embedded.embedded import Embedded
from streams.embedded.embedded_errors import EmbeddedStartFailed, FolderInUse, MockBrokerError
from streams.embedded.embedded_redis import RedisServer
from tests.real.process import started_at

PARENT = """
import sys, time
from pathlib import Path
from streams.embedded.embedded import Embedded
folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
with Embedded({"t": 2}, folder=folder) as embedded:
    print(embedded.redis.pid, embedded.redis_url, embedded.bootstrap_servers, embedded.redis.folder, flush=True)
    time.sleep(600)
"""
FORKING_PARENT = PARENT.replace("    time.sleep(600)", "    __import__('os').fork()\n    time.sleep(600)")


def wait_until(true: Callable[[], bool], timeout_s: float = 15.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


def gone(pid: int) -> bool:
    return started_at(pid) is None


def start(script: str, *arguments: str) -> tuple[subprocess.Popen[str], list[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        start_new_session=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().split()


def test_both_parts_serve_and_listen_on_loopback_only():
    with Embedded({"t": 2}) as embedded:
        producer = Producer({"bootstrap.servers": embedded.bootstrap_servers})
        producer.produce("t", b"x")
        assert producer.flush(10) == 0
        with redis.Redis.from_url(embedded.redis_url) as client:
            assert client.set("a", 1)
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("append*")["appendfsync"] == "everysec"
        for port in (embedded.redis.port, int(embedded.bootstrap_servers.rpartition(":")[2])):
            # A server on 0.0.0.0 would answer on the second loopback address too.
            with pytest.raises(OSError):
                socket.create_connection(("127.0.0.2", port), timeout=1)


def test_scratch_data_are_deleted_and_a_named_folder_is_kept(tmp_path: Path):
    with Embedded() as embedded:
        scratch = embedded.redis.folder
        assert scratch.is_dir()
    assert not scratch.exists()
    with Embedded(folder=tmp_path / "data") as embedded, redis.Redis.from_url(embedded.redis_url) as client:
        client.set("kept", "yes")
    with Embedded(folder=tmp_path / "data") as embedded, redis.Redis.from_url(embedded.redis_url) as client:
        assert client.get("kept") == b"yes"


def test_every_start_has_a_log_id_of_its_own():
    with Embedded() as first:
        pass
    with Embedded() as second:
        assert first.log_id != second.log_id


def test_a_folder_serves_one_server_at_a_time(tmp_path: Path):
    with Embedded(folder=tmp_path), pytest.raises(FolderInUse, match="another embedded Redis works in this folder"):
        RedisServer(tmp_path, lock_timeout_s=0)
    Embedded(folder=tmp_path).stop()


def test_a_port_that_is_taken_is_a_clear_error_and_nothing_stays_running(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(EmbeddedStartFailed, match=r"(?s)ended at once.*[Aa]ddress already in use"):
            Embedded(folder=tmp_path, redis_port=taken.getsockname()[1])
    Embedded(folder=tmp_path).stop()  # the folder is free again


def test_redis_ends_too_when_the_broker_does_not_start(tmp_path: Path):
    with pytest.raises(MockBrokerError):
        Embedded({"t": 0}, folder=tmp_path)
    Embedded(folder=tmp_path).stop()


def test_a_killed_redis_starts_again_on_its_port_with_its_data():
    with RedisServer() as server, redis.Redis.from_url(server.url) as client:
        first, url = server.pid, server.url
        client.config_set("appendfsync", "always")
        client.set("a", 1)
        server.kill()
        assert gone(first)
        server.start()
        assert server.url == url
        assert server.pid != first
        assert client.get("a") == b"1"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("script", [PARENT, FORKING_PARENT], ids=["alone", "with a forked child"])
def test_redis_dies_with_its_parent(number: signal.Signals, script: str):
    process, (pid, _, _, folder) = start(script)
    assert not gone(int(pid))
    os.kill(process.pid, number)
    process.wait(20)
    try:
        assert wait_until(lambda: gone(int(pid)))
        assert wait_until(lambda: not Path(folder).exists())
    finally:
        with contextlib.suppress(ProcessLookupError):  # the forked child may have ended by itself
            os.killpg(process.pid, signal.SIGKILL) if script is FORKING_PARENT else None


def test_ctrl_c_in_a_terminal_reaches_us_and_not_redis():
    process, (pid, *_) = start(PARENT)
    assert os.getpgid(int(pid)) != os.getpgid(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(20)
    assert wait_until(lambda: gone(int(pid)))


def test_writes_acknowledged_before_a_kill_9_of_the_parent_are_on_disk(tmp_path: Path):
    process, (pid, url, *_) = start(PARENT, str(tmp_path))
    with redis.Redis.from_url(url) as client:
        for number in range(1_000):
            client.set(f"k{number}", number)
    process.kill()
    process.wait(20)
    assert wait_until(lambda: gone(int(pid)))
    with Embedded(folder=tmp_path) as embedded, redis.Redis.from_url(embedded.redis_url) as client:
        assert client.dbsize() == 1_000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the death signal is Linux's")
def test_redis_dies_with_its_guard_as_well(tmp_path: Path):
    process, (pid, *_) = start(PARENT, str(tmp_path))
    shown = subprocess.run(["ps", "-o", "ppid=", "-p", pid], capture_output=True, text=True, check=True)
    os.kill(int(shown.stdout), signal.SIGKILL)
    assert wait_until(lambda: gone(int(pid)))
    process.kill()
    process.wait(20)
