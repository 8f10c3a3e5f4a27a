"""The delivery process end to end: a broker, sinks on loopback, kills and outages."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from leadline.alert import Alert, Undelivered
from sinks.base import RetryLater
from sinks.deliver import deliver
from sinks.settings import DeliverSettings
from sinks.stats import DeliverStats
from streams.mock_broker import MockBroker
from tests.leadline.kafka_log import read_all
from tests.real.backend import Backend
from tests.sinks.samples import alert
from tests.sinks.server import Request, Server, response

QUICK = {"base_s": 0.02, "cap_s": 0.05}


class Bench:
    """One test's topic, and the settings to deliver from it."""

    def __init__(self, backend: Backend, folder: Path, topic: str = "") -> None:
        self.topic = topic or backend.fresh().names.alerts
        self.letters = f"{self.topic}.undelivered"
        backend.create_topics({self.topic: 2, self.letters: 1})
        self.servers = backend.bootstrap_servers
        self.redis_url = backend.redis_url
        self.folder = folder

    def publish(self, alerts: Iterable[Alert | bytes]) -> None:
        producer = Producer({"bootstrap.servers": self.servers, "partitioner": "murmur2_random"})
        for each in alerts:
            value, key = (each, "k") if isinstance(each, bytes) else (each.model_dump_json(), each.incident_id)
            producer.produce(self.topic, value, key)
        assert producer.flush(10) == 0

    def settings(self, *sinks: dict[str, Any], **changes: Any) -> DeliverSettings:
        kafka = {
            "bootstrap_servers": self.servers,
            "topic": self.topic,
            "group_id": f"{self.topic}.deliver",
            "session_timeout_s": 6,
            "commit_interval_s": 0.2,
        }
        record = {"kind": "file", "path": self.folder / "delivered.jsonl"}
        return DeliverSettings.model_validate({"kafka": kafka, "sinks": sinks, "record": record, **changes})

    async def run(
        self, settings: DeliverSettings, until: Callable[[DeliverStats], bool], *, timeout_s: float = 30
    ) -> DeliverStats:
        """Deliver until the counters say so."""
        stop = asyncio.Event()

        def tick(stats: DeliverStats) -> None:
            if until(stats):
                stop.set()

        async with asyncio.timeout(timeout_s):
            return await deliver(settings, stop=stop, on_tick=tick)

    def dead(self) -> list[Undelivered]:
        return [Undelivered.model_validate_json(each.value) for each in read_all(self.servers, self.letters)]


@pytest.fixture
def bench(backend: Backend, tmp_path: Path) -> Bench:
    return Bench(backend, tmp_path)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def ids(path: Path) -> list[str]:
    return [line["alert_id"] for line in lines(path)]


def test_every_alert_reaches_every_sink_that_wants_it_and_a_restart_repeats_none(bench: Bench) -> None:
    everything, grave = bench.folder / "all.jsonl", bench.folder / "grave.jsonl"
    settings = bench.settings(
        {"kind": "jsonl", "name": "all", "path": everything},
        {"kind": "jsonl", "name": "grave", "path": grave, "minimum_severity": "critical"},
    )
    sent = [alert(n, f"inc-{n % 3}", severity="critical" if n % 2 else "warn") for n in range(20)]
    bench.publish(sent)
    stats = asyncio.run(bench.run(settings, lambda stats: sum(stats.committed.values()) == 20))
    assert sorted(ids(everything)) == sorted(each.alert_id for each in sent)
    assert sorted(ids(grave)) == sorted(each.alert_id for each in sent if each.severity == "critical")
    assert stats.delivered == {"all": 20, "grave": 10}

    bench.publish([alert(99)])
    again = asyncio.run(bench.run(settings, lambda stats: stats.delivered["all"] >= 1))
    assert again.read == 1  # the offsets of the first run were committed
    assert ids(everything)[-1] == "inc-1:99"


def test_a_message_that_is_no_alert_goes_to_the_dead_letters_and_stops_nothing(bench: Bench) -> None:
    path = bench.folder / "all.jsonl"
    newer = alert(2).model_dump_json().replace('"schema_version":1', '"schema_version":2').encode()
    bad = [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"schema_version": 1}', newer]
    bench.publish([*bad, alert(1)])
    settings = bench.settings({"kind": "jsonl", "path": path})
    asyncio.run(bench.run(settings, lambda stats: sum(stats.committed.values()) == 7))
    assert ids(path) == ["inc-1:1"]
    dead = bench.dead()
    assert sorted(each.reason for each in dead) == ["undecodable"] * 5 + ["unknown_version"]
    assert all(each.sink is None and each.detail for each in dead)
    originals = [base64.b64decode(each.original or "") for each in dead]
    assert sorted(originals) == sorted(each[: 64 * 1024] for each in bad)


def test_an_alert_that_a_sink_refuses_goes_to_the_dead_letters_for_that_sink_alone(bench: Bench) -> None:
    async def scene() -> None:
        async with Server(lambda request: response(404, b"no_service")) as server:
            settings = bench.settings(
                {"kind": "slack", "webhook_url": f"{server.url}/s"},
                {"kind": "jsonl", "path": bench.folder / "all.jsonl"},
            )
            await bench.run(settings, lambda stats: sum(stats.committed.values()) == 1)

    bench.publish([alert(1)])
    asyncio.run(scene())
    [dead] = bench.dead()
    assert (dead.reason, dead.sink, dead.alert) == ("rejected", "slack", alert(1))
    assert ids(bench.folder / "all.jsonl") == ["inc-1:1"]


def test_an_outage_of_slack_delays_slack_alone_and_then_everything_comes_in_order(bench: Bench) -> None:
    sent = [alert(n, f"inc-{n % 4}") for n in range(24)]
    path = bench.folder / "all.jsonl"
    taken: list[str] = []

    def handler(request: Request) -> bytes:
        if len(ids(path)) < 24:  # down until the other sink has everything
            return response(503)
        taken.append(json.loads(request.body)["blocks"][-1]["elements"][0]["text"].split("alert ")[1])
        return response(200, b"ok")

    async def scene() -> DeliverStats:
        async with Server(handler) as server:
            settings = bench.settings(
                {"kind": "slack", "webhook_url": f"{server.url}/s", "retry": QUICK}, {"kind": "jsonl", "path": path}
            )
            return await bench.run(settings, lambda stats: sum(stats.committed.values()) == 24)

    bench.publish(sent)
    stats = asyncio.run(scene())
    assert stats.retries["slack", "server_error"] > 0
    for incident in {each.incident_id for each in sent}:
        expected = [each.alert_id for each in sent if each.incident_id == incident]
        assert [each for each in taken if each.startswith(incident + ":")] == expected
    assert len(taken) == 24


def test_what_a_failing_sink_holds_is_not_committed_and_comes_again(bench: Bench) -> None:
    path = bench.folder / "all.jsonl"

    async def scene() -> tuple[DeliverStats, DeliverStats]:
        async with Server(lambda request: response(500)) as server:
            settings = bench.settings(
                {"kind": "webhook", "url": f"{server.url}/h", "retry": QUICK}, {"kind": "jsonl", "path": path}
            )
            first = await bench.run(settings, lambda stats: stats.delivered["jsonl"] == 3)
            server.handler = lambda request: response(200)
            return first, await bench.run(settings, lambda stats: sum(stats.committed.values()) == 3)

    bench.publish([alert(n) for n in range(3)])
    first, second = asyncio.run(scene())
    assert sum(first.committed.values()) == 0
    assert second.delivered == {"webhook": 3}
    assert second.duplicates == {"jsonl": 3}
    assert len(ids(path)) == 3


def test_a_full_queue_gives_up_after_its_patience_and_the_others_go_on(bench: Bench) -> None:
    path = bench.folder / "all.jsonl"

    async def scene() -> DeliverStats:
        async with Server(lambda request: response(500)) as server:
            settings = bench.settings(
                {"kind": "webhook", "url": f"{server.url}/h", "queue_size": 2, "retry": QUICK},
                {"kind": "jsonl", "path": path},
                full_patience_s=0.3,
            )
            return await bench.run(settings, lambda stats: stats.undelivered["webhook", "queue_full"] == 8)

    bench.publish([alert(n) for n in range(10)])
    stats = asyncio.run(scene())
    assert stats.delivered["jsonl"] == 10
    assert stats.waiting["webhook"] == 2
    assert sorted(each.alert.alert_id for each in bench.dead() if each.alert) == [f"inc-1:{n}" for n in range(2, 10)]


def test_an_alert_too_old_for_a_failing_sink_is_given_up_and_committed(bench: Bench) -> None:
    async def scene() -> None:
        async with Server(lambda request: response(500)) as server:
            retry = {**QUICK, "give_up_after_s": 0.4}
            settings = bench.settings({"kind": "webhook", "url": f"{server.url}/h", "retry": retry})
            await bench.run(settings, lambda stats: sum(stats.committed.values()) == 2)

    bench.publish([alert(1), alert(2)])
    asyncio.run(scene())
    assert [(each.reason, each.sink) for each in bench.dead()] == [("gave_up", "webhook")] * 2


def test_a_sink_with_a_fault_in_its_code_does_not_end_the_process(bench: Bench) -> None:
    class Faulty:
        name = "webhook"
        left = 2

        async def send(self, what: Alert, /) -> None:
            if self.left:
                self.left -= 1
                raise KeyError("token=hunter2")

        async def close(self) -> None:
            raise RetryLater(None, "closed")

    async def scene() -> DeliverStats:
        settings = bench.settings({"kind": "webhook", "url": "http://127.0.0.1:9", "retry": QUICK})
        stop, stats = asyncio.Event(), DeliverStats()

        def tick(_: DeliverStats) -> None:
            if stats.committed:
                stop.set()

        async with asyncio.timeout(20):
            return await deliver(settings, stop=stop, stats=stats, sinks={"webhook": Faulty()}, on_tick=tick)

    bench.publish([alert(1)])
    stats = asyncio.run(scene())
    assert stats.retries == {("webhook", "fault"): 2}
    assert stats.delivered == {"webhook": 1}


def test_a_broker_that_goes_away_and_comes_back_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"

    async def scene(bench: Bench, broker: MockBroker) -> None:
        settings = bench.settings({"kind": "jsonl", "path": path})
        stop = asyncio.Event()
        task = asyncio.create_task(deliver(settings, stop=stop))
        async with asyncio.timeout(30):
            await asyncio.to_thread(bench.publish, [alert(n) for n in range(3)])
            await written(path, 3)
            broker.set_down()
            await asyncio.sleep(0.5)
            broker.set_up()
            await asyncio.to_thread(bench.publish, [alert(n) for n in range(3, 6)])
            await written(path, 6)
            stop.set()
            stats = await task
        assert sum(stats.committed.values()) == 6

    with MockBroker() as broker:
        asyncio.run(scene(own(broker, tmp_path), broker))
    assert ids(path) == [f"inc-1:{n}" for n in range(6)]


def own(broker: MockBroker, folder: Path) -> Bench:
    return Bench(Backend("own", broker.bootstrap_servers, "", broker.create_topics), folder, "own.alerts")


async def written(path: Path, count: int) -> None:
    while len(ids(path)) < count:
        await asyncio.sleep(0.02)


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


async def until(condition: Callable[[], bool], process: subprocess.Popen[bytes], timeout_s: float = 30) -> None:
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
                assert await asyncio.to_thread(process.wait, 10) == 0
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
            assert await asyncio.to_thread(process.wait, 10) == 0
            return time.monotonic() - began
        finally:
            process.kill()
            process.wait()

    with MockBroker() as broker:
        bench = own(broker, tmp_path)
        bench.publish([alert(1), alert(2)])
        assert asyncio.run(scene(bench, broker)) < 3


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
                assert await asyncio.to_thread(process.wait, 10) == 0
                return time.monotonic() - began
            finally:
                process.kill()
                process.wait()

    bench.publish([alert(1)])
    assert asyncio.run(scene()) < 3


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
                async with asyncio.timeout(60):
                    while not of("second"):  # the second takes a partition over while alerts flow
                        await asyncio.to_thread(publish_some)
                        await asyncio.sleep(0.1)
                await until(lambda: len({key_of(each) for each in server.requests}) == sent, processes[1])
                for process in processes:
                    process.send_signal(signal.SIGTERM)
                assert [await asyncio.to_thread(process.wait, 10) for process in processes] == [0, 0]
            finally:
                for process in processes:
                    process.kill()
                    process.wait()
            return of("first") + of("second")

    got = asyncio.run(scene())
    assert len(set(got)) == len(got) == sent
