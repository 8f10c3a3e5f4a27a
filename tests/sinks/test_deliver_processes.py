"""Delivery in processes of their own: kills, signals, and two that share the work."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streams.embedded.mock_broker import MockBroker
from tests.patience import seconds
from tests.sinks.bench import Bench, ids, own
from tests.sinks.samples import alert
from tests.sinks.server import Request, Server, response

CHILD = """
import sys
from sinks.deliver import run_deliver
from sinks.settings import DeliverSettings
sys.exit(run_deliver(DeliverSettings.model_validate_json(sys.stdin.read())))
"""


def start(settings: dict[str, Any]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(settings).encode())
    process.stdin.close()
    return process


def plain(bench: Bench, *sinks: dict[str, Any], **kafka: Any) -> dict[str, Any]:
    """Settings as JSON for a process of its own (a dump would hide the addresses)."""
    known = bench.settings({"kind": "console"}).kafka.model_dump()
    return {
        "kafka": {**known, **kafka},
        "sinks": sinks,
        "record": {"kind": "file", "path": str(bench.folder / "delivered.jsonl")},
    }


async def until(condition: Callable[[], bool], process: subprocess.Popen[bytes], timeout_s: float = 90) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            assert process.poll() is None, "the process ended"
            await asyncio.sleep(0.02)


def key_of(request: Request) -> str:
    return request.headers["idempotency-key"]


def test_a_kill_between_sending_and_recording_repeats_the_alert_under_the_same_id(bench: Bench) -> None:
    answered = asyncio.Event()

    async def hold(request: Request) -> bytes:
        if key_of(request) == "inc-1:2" and not answered.is_set():
            await answered.wait()  # taken by the receiver, never acknowledged
        return response(200)

    async def scene() -> list[str]:
        async with Server(hold) as server:
            settings = plain(
                bench, {"kind": "webhook", "url": f"{server.url}/h", "timeout_s": 60}, commit_interval_s=60
            )
            process = start(settings)
            try:
                await until(lambda: len(server.requests) == 3, process)
            finally:
                process.kill()
                process.wait()
            answered.set()
            process = start(settings)
            try:
                await until(lambda: len(server.requests) == 6, process, timeout_s=60)
                process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(process.wait, 60) == 0
            finally:
                process.kill()
                process.wait()
            return [key_of(request) for request in server.requests]

    bench.publish([alert(n) for n in range(5)])
    got = asyncio.run(scene())
    # 0 and 1 were recorded, so their uncommitted offsets repeat nothing; 2 was not, so it comes twice under its id.
    assert got == ["inc-1:0", "inc-1:1", "inc-1:2", "inc-1:2", "inc-1:3", "inc-1:4"]


def test_sigterm_ends_the_process_in_three_seconds_though_the_broker_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"

    async def scene(bench: Bench, broker: MockBroker) -> float:
        process = start(plain(bench, {"kind": "jsonl", "path": str(path)}))
        try:
            await until(lambda: len(ids(path)) == 2, process)
            broker.set_down()
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 60) == 0
            return time.monotonic() - began
        finally:
            process.kill()
            process.wait()

    with MockBroker() as broker:
        bench = own(broker, tmp_path)
        bench.publish([alert(1), alert(2)])
        assert asyncio.run(scene(bench, broker)) < seconds(3)


def test_sigterm_ends_the_process_in_three_seconds_though_a_sink_hangs(bench: Bench) -> None:
    async def hang(request: Request) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def scene() -> float:
        async with Server(hang) as server:
            process = start(plain(bench, {"kind": "webhook", "url": f"{server.url}/h", "timeout_s": 60}))
            try:
                await until(lambda: bool(server.requests), process)
                began = time.monotonic()
                process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(process.wait, 60) == 0
                return time.monotonic() - began
            finally:
                process.kill()
                process.wait()

    bench.publish([alert(1)])
    assert asyncio.run(scene()) < seconds(3)


def test_two_processes_share_the_work_and_a_redis_record_keeps_repetitions_away(bench: Bench) -> None:
    sent = 0

    def publish_some() -> None:
        nonlocal sent
        bench.publish([alert(n, f"inc-{n % 7}") for n in range(sent, sent + 10)])
        sent += 10

    async def scene() -> list[str]:
        async with Server(lambda request: response(200)) as server:

            def of(name: str) -> list[str]:
                return [key_of(each) for each in server.requests if each.headers["x-process"] == name]

            def settings(name: str) -> dict[str, Any]:
                sink = {"kind": "webhook", "url": f"{server.url}/h", "headers": {"X-Process": name}}
                record = {"kind": "redis", "url": bench.redis_url, "prefix": bench.topic}
                return {**plain(bench, sink), "record": record}

            processes = [start(settings("first"))]
            try:
                publish_some()
                await until(lambda: len(of("first")) == 10, processes[0])
                processes.append(start(settings("second")))
                async with asyncio.timeout(120):
                    while not of("second"):  # the second takes a partition over while alerts flow
                        await asyncio.to_thread(publish_some)
                        await asyncio.sleep(0.1)
                await until(lambda: len({key_of(each) for each in server.requests}) == sent, processes[1])
                for process in processes:
                    process.send_signal(signal.SIGTERM)
                assert [await asyncio.to_thread(process.wait, 60) for process in processes] == [0, 0]
            finally:
                for process in processes:
                    process.kill()
                    process.wait()
            return of("first") + of("second")

    got = asyncio.run(scene())
    assert len(set(got)) == len(got) == sent
