"""The delivery process end to end: a broker, sinks on loopback, outages."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

from leadline.alert import Alert
from sinks.base import RetryLater
from sinks.deliver import deliver
from sinks.stats import DeliverStats
from streams.embedded.mock_broker import MockBroker
from tests.sinks.bench import QUICK, Bench, ids, own, written
from tests.sinks.samples import alert
from tests.sinks.server import Request, Server, response


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


def test_a_sink_that_hangs_while_closing_does_not_keep_the_process(bench: Bench) -> None:
    class Hanging:
        name = "console"

        async def send(self, what: Alert, /) -> None:
            pass

        async def close(self) -> None:
            await asyncio.Event().wait()

    async def scene() -> DeliverStats:
        stop = asyncio.Event()

        def tick(stats: DeliverStats) -> None:
            if stats.committed:
                stop.set()

        async with asyncio.timeout(20):
            return await deliver(
                bench.settings({"kind": "console"}), stop=stop, sinks={"console": Hanging()}, on_tick=tick
            )

    bench.publish([alert(1)])
    assert asyncio.run(scene()).delivered == {"console": 1}
