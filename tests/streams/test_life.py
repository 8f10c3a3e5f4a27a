"""Signs of life: there while the worker moves, whatever the store does; gone with it."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from leadline.health import ailment
from streams.store.tables import StoreUnavailable
from streams.worker.life import Life
from streams.worker.watchdog import Progress
from tests.real.backend import Backend
from tests.streams.inside import Inside, until


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "health"


def test_a_partition_that_stands_still_is_told_before_the_watchdog_ends_the_process(file: Path) -> None:
    progress = Progress(stall_s=300.0)
    life = Life("w1", file, progress, 300.0)
    progress.see("a/0", 7, True)
    progress.pass_time(149.0)
    life.beat()
    assert ailment(file) is None
    progress.pass_time(2.0)
    life.beat()
    assert "has not moved for 151 s" in (ailment(file) or "")
    progress.see("a/0", 8, True)
    life.beat()
    assert ailment(file) is None
    life.end()
    assert not file.exists()


def test_a_file_that_cannot_be_written_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    life = Life("w1", tmp_path / "nowhere" / "health", Progress(300.0), 300.0)
    life.beat()
    life.beat()
    life.end()
    assert caplog.text.count("health file not written") == 1


def test_systemd_is_told_what_it_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        progress = Progress(300.0)
        life = Life("w1", None, progress, 300.0)
        told = []
        for state in ("starting", "running", "running", "stopping"):
            life.state = state
            life.beat()
            told.append(systemd.recv(1000).decode().split("\n"))
        assert told == [
            ["STATUS=starting", "WATCHDOG=1"],
            ["STATUS=running", "WATCHDOG=1", "READY=1"],
            ["STATUS=running", "WATCHDOG=1"],
            ["STATUS=stopping", "WATCHDOG=1", "STOPPING=1"],
        ]
        progress.see("a/0", 7, True)
        progress.pass_time(151.0)
        life.beat()
        assert systemd.recv(1000) == b"STATUS=stopping"


def test_a_worker_shows_life_while_it_works_and_while_the_store_is_away(
    embedded: Backend, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = Inside(embedded)
    inside.send(50)
    monkeypatch.setattr("streams.worker.life.BEAT_S", 0.05)
    monkeypatch.setattr("streams.worker.owners.COMPARE_S", 0.1)

    def beat() -> float:
        return float(json.loads(file.read_text())["at"])

    async def away(*_: object) -> bool:
        raise StoreUnavailable("away")

    async def body() -> None:
        async with inside.worker(health_file=file) as worker:
            await until(file.exists, 10, worker)
            await inside.counted(worker)
            assert json.loads(file.read_text())["state"] == "running"
            for name in ("holds", "show", "commit"):
                monkeypatch.setattr(inside.tables, name, away)
            await asyncio.sleep(0.5)  # until whoever tends the owners waits for the store
            before = beat()
            await until(lambda: beat() > before + 0.2, 10, worker)
            assert ailment(file) is None
            monkeypatch.undo()

    asyncio.run(body())
    assert not file.exists()
