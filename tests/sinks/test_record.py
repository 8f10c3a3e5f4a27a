"""The delivery record: one suite for each place where it can lie, and what is peculiar to each."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from sinks.record import (
    DeliveryRecord,
    FileRecord,
    FileRecordConfig,
    MemoryRecordConfig,
    RecordInUse,
    RedisRecordConfig,
)
from tests.real.backend import Backend

Open = Callable[[], DeliveryRecord]


@pytest.fixture(params=["memory", "file", "redis"])
def open_record(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    if request.param == "memory":
        return MemoryRecordConfig().open
    if request.param == "file":
        return FileRecordConfig(path=tmp_path / "folder" / "delivered.jsonl").open
    backend: Backend = request.getfixturevalue("embedded")
    return RedisRecordConfig(url=SecretStr(backend.fresh().redis_url)).open


def test_what_is_marked_is_seen_for_that_sink_alone(open_record: Open) -> None:
    async def scene() -> None:
        record = open_record()
        assert not await record.seen("slack", "a:1")
        await record.mark("slack", "a:1")
        assert await record.seen("slack", "a:1")
        assert not await record.seen("pager", "a:1")
        assert not await record.seen("slack", "a:2")
        await record.close()
        await record.close()

    asyncio.run(scene())


def test_a_restart_remembers_except_in_memory(open_record: Open) -> None:
    async def scene() -> None:
        first = open_record()
        await first.mark("slack", 'odd "id"\n:é')
        await first.close()
        second = open_record()
        assert await second.seen("slack", 'odd "id"\n:é') == (type(second).__name__ != "MemoryRecord")
        await second.close()

    asyncio.run(scene())


def in_file(path: Path, now: float, ttl_s: float = 100.0) -> FileRecord:
    return FileRecord(FileRecordConfig(path=path, ttl_s=ttl_s), lambda: now)


def test_the_file_forgets_after_its_time_and_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "delivered.jsonl"

    async def scene() -> None:
        early = in_file(path, 0.0)
        await early.mark("s", "old")
        await early.close()
        middle = in_file(path, 90.0)
        await middle.mark("s", "new")
        await middle.close()
        late = in_file(path, 150.0)
        assert not await late.seen("s", "old")
        assert await late.seen("s", "new")
        await late.close()

    asyncio.run(scene())
    assert [json.loads(line)["alert_id"] for line in path.read_text().splitlines()] == ["new"]


def test_a_line_torn_by_a_kill_costs_that_entry_alone(tmp_path: Path) -> None:
    path = tmp_path / "delivered.jsonl"
    good = '{"sink": "s", "alert_id": "a", "at": 1}\n'
    path.write_text(good + '{"sink": "s", "ale')

    async def scene() -> None:
        record = in_file(path, 2.0)
        assert await record.seen("s", "a")
        await record.mark("s", "b")
        await record.close()
        again = in_file(path, 3.0)
        assert await again.seen("s", "a")
        assert await again.seen("s", "b")
        await again.close()

    asyncio.run(scene())


def test_the_same_entries_again_and_again_do_not_grow_the_file(tmp_path: Path) -> None:
    path = tmp_path / "delivered.jsonl"

    async def scene() -> None:
        record = in_file(path, 1.0)
        for n in range(5000):
            await record.mark("s", f"a{n % 10}")
        await record.close()

    asyncio.run(scene())
    assert len(path.read_text().splitlines()) < 1200


def test_a_second_process_on_one_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "delivered.jsonl"
    script = """
import sys
from sinks.record import FileRecord, FileRecordConfig
held = FileRecord(FileRecordConfig(path=sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    with pytest.raises(RecordInUse):
        in_file(path, 0.0)
    child.communicate()
    asyncio.run(in_file(path, 0.0).close())  # the lock went with the process


def test_redis_keys_are_readable_and_expire(embedded: Backend) -> None:
    fresh = embedded.fresh()

    async def scene() -> None:
        record = RedisRecordConfig(url=SecretStr(fresh.redis_url), prefix="p", ttl_s=60).open()
        await record.mark("slack", "inc-1:2")
        await record.close()

    asyncio.run(scene())
    with redis.Redis.from_url(fresh.redis_url, decode_responses=True) as client:
        assert client.keys("*") == ["p:delivered:slack:inc-1:2"]
        assert 0 < client.pttl("p:delivered:slack:inc-1:2") <= 60_000


def test_a_redis_that_is_away_holds_nothing_up_and_is_named_without_its_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)

    async def scene() -> None:
        record = RedisRecordConfig(url=SecretStr("redis://:hunter2@127.0.0.1:1/0"), timeout_s=1).open()
        assert not await record.seen("s", "a")
        await record.mark("s", "a")
        assert await record.seen("s", "a")  # by this process's own memory
        await record.close()

    asyncio.run(scene())
    assert "ConnectionError" in caplog.text
    assert "hunter2" not in caplog.text
