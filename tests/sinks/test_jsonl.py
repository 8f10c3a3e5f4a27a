"""The file of alerts: each id once, over restarts, kills and full disks."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from leadline.alert import Alert
from sinks.base import RetryLater
from sinks.jsonl import JsonlConfig, JsonlSink
from tests.sinks.samples import alert


def send(path: Path, *alerts: Alert, **config: object) -> None:
    """One life of a sink."""

    async def scene() -> None:
        sink = JsonlSink(JsonlConfig.model_validate({"path": path, **config}))
        for each in alerts:
            await sink.send(each)
        await sink.close()

    asyncio.run(scene())


def read(path: Path) -> list[str]:
    return [json.loads(line)["alert_id"] for line in path.read_bytes().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "alerts.jsonl"


@pytest.mark.parametrize("fsync", [False, True])
def test_a_line_is_the_alert(path: Path, fsync: bool) -> None:
    send(path, alert(1), alert(2), fsync=fsync)
    assert [Alert.model_validate_json(line) for line in path.read_bytes().splitlines()] == [alert(1), alert(2)]


def test_an_alert_is_written_once_in_one_life_and_over_restarts(path: Path) -> None:
    send(path, alert(1), alert(1), alert(2))
    send(path, alert(2), alert(1), alert(3))
    assert read(path) == ["inc-1:1", "inc-1:2", "inc-1:3"]


def test_only_the_end_of_a_large_file_is_read(path: Path) -> None:
    send(path, *(alert(n) for n in range(20)))
    send(path, alert(19), alert(0), tail_bytes=3 * len(alert(1).model_dump_json()))
    assert read(path).count("inc-1:19") == 1  # recent: known
    assert read(path).count("inc-1:0") == 2  # beyond the tail: the price of not reading gigabytes


def test_half_a_line_of_a_killed_process_is_taken_away_and_the_alert_comes_again(path: Path) -> None:
    send(path, alert(1), alert(2))
    whole = path.read_bytes()
    for cut in range(1, len(alert(2).model_dump_json())):
        path.write_bytes(whole[:-cut])
        if cut > 1 and len(whole[:-cut].split(b"\n")[-1]) < 20:
            break
        send(path, alert(2))
        assert path.read_bytes() == whole


def test_a_foreign_last_line_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"notes of somebody")
    send(path, alert(1))
    assert path.read_bytes().startswith(b"notes of somebody\n{")


def test_a_full_disk_means_later_and_leaves_no_half_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send(path, alert(1))

    async def scene() -> None:
        sink = JsonlSink(JsonlConfig(path=path, fsync=True))
        await sink.send(alert(2))

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device", str(path))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(RetryLater) as error:
                await sink.send(alert(3))
        assert error.value.reason == "io_error"
        assert read(path) == ["inc-1:1", "inc-1:2"]
        await sink.send(alert(3))
        await sink.close()

    asyncio.run(scene())
    assert read(path) == ["inc-1:1", "inc-1:2", "inc-1:3"]


def test_a_folder_that_cannot_be_made_means_later(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def scene() -> None:
        sink = JsonlSink(JsonlConfig(path=tmp_path / "file" / "alerts.jsonl"))
        with pytest.raises(RetryLater):
            await sink.send(alert())
        await sink.close()

    asyncio.run(scene())


def test_a_file_moved_away_by_rotation_is_not_our_concern_within_one_life(path: Path) -> None:
    async def scene() -> None:
        sink = JsonlSink(JsonlConfig(path=path))
        await sink.send(alert(1))
        path.rename(path.with_suffix(".1"))
        await sink.send(alert(2))
        await sink.close()

    asyncio.run(scene())
    assert read(path.with_suffix(".1")) + (read(path) if path.exists() else []) == ["inc-1:1", "inc-1:2"]
