"""A worker made from a configuration: its settings, baselines, gaps, and the embedded run as a user starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from leadline.alert import Alert
from leadline.config import Config, parse_config
from leadline.events import Digest
from leadline.publisher import Publisher
from streams.baselines.reference_book import ReferenceBook
from streams.baselines.reference_files import build_reference
from streams.baselines.stored_reference import dump_reference
from streams.core.stage import Effects, Record
from streams.embedded.embedded_errors import EmbeddedDataLost
from streams.embedded.embedded_watch import GRACE_S, EmbeddedWatch
from streams.embedded.lag_guard import LagGuard, LogRange
from streams.observe.observe import Observer
from streams.transport.beginning import DataGap
from streams.transport.configured_topics import check_present, topic_specs
from streams.transport.topics import TopicMissing
from streams.worker.factories import JudgeFactory, ObserveFactory
from streams.worker.learned import LearnedBaselines
from streams.worker.run import GapTold, worker_settings
from tests.real.backend import Backend
from tests.streams.fleet import ROOT, until


def test_the_configuration_becomes_settings() -> None:
    config = parse_config(
        "kafka: {bootstrap_servers: 'a:1', group: g, session_timeout: 12s, topics: {labels: other.labels}}\n"
        "redis: {url: 'redis://x:1/2', prefix: p}\naccept_new_state: true\n"
    )
    settings = worker_settings(config, worker_id="w", instance_id="i", log_id="l")
    assert (settings.bootstrap_servers, settings.group, settings.redis_url) == ("a:1", "g", "redis://x:1/2")
    assert (settings.key_prefix, settings.topics.labels, settings.worker_id) == ("p", "other.labels", "w")
    assert (settings.session_timeout_s, settings.group_instance_id, settings.log_id) == (12.0, "i", "l")
    assert settings.heartbeat_s * 2 <= settings.session_timeout_s
    assert settings.accept_new_state is True


def test_a_missing_topic_is_named_with_the_remedy() -> None:
    found = {spec.name: spec.partitions for spec in topic_specs(Config())}
    check_present(Config(), found)
    del found["leadline.alerts"]
    with pytest.raises(TopicMissing, match=r"leadline\.alerts; create them with: leadline topics create"):
        check_present(Config(), found)


def test_an_idle_judge_says_only_what_changed() -> None:
    config = Config()
    judge = JudgeFactory(config, ReferenceBook(config)).build(0, b"", {})
    digest = msgspec.json.encode(Digest(0, 1, "", "", 1.7e9, 1.7e9, []))
    assert judge.fold({"digests": [Record(0, b"", digest, 1.7e9)]}, {}, 1.7e9).checkpoint
    assert judge.fold({}, {}, 1.7e9 + 3) == Effects()


def test_an_idle_observer_shows_once_what_the_one_before_it_may_not_have_shown() -> None:
    config = Config()
    record = Record(0, b"r", b'{"request_id": "r", "label": true, "timestamp": 1.7e9}', 1.7e9)
    before = Observer(0, config, ReferenceBook(config))
    committed = before.fold({"labels": [record]}, {}, 1.7e9)
    after = ObserveFactory(config, ReferenceBook(config), 1).build(0, committed.checkpoint, {})
    assert after.fold({}, {}, 1.7e9 + 3) == Effects(views=committed.views)
    assert after.fold({}, {}, 1.7e9 + 6) == Effects()


def test_a_gap_becomes_an_operational_alert_with_the_range_and_a_stable_id() -> None:
    told = GapTold(Config())
    gap = DataGap("leadline.labels", 3, 100, 250)
    first, again = told(gap)[0], told(gap)[0]
    alert = Alert.model_validate_json(first.value)
    assert first.topic == "leadline.alerts"
    assert (alert.layer, alert.severity, alert.n) == ("operation", "critical", 150)
    assert "100 to 249" in alert.summary
    assert alert.alert_id == Alert.model_validate_json(again.value).alert_id
    assert told.seen == [gap, gap]


def test_a_baseline_that_another_worker_learned_is_taken_over_once(embedded: Backend) -> None:
    fresh = embedded.fresh()
    config = parse_config(f"redis: {{url: '{fresh.redis_url}', prefix: {fresh.redis_prefix}}}")
    columns = {"age": [float(n) for n in range(200)], "score": [n / 200 for n in range(200)]}
    learned = build_reference(columns, source="first live rows", learned=True)
    book = ReferenceBook(config)
    with redis.Redis.from_url(fresh.redis_url) as client, LearnedBaselines(config, book) as baselines:
        assert book.is_learning("m:1")
        client.set(f"{fresh.redis_prefix}:model:m:1:reference", dump_reference(learned))
        client.set(f"{fresh.redis_prefix}:model:broken:reference", "{")
        assert baselines.poll() == ["m:1"]
        assert baselines.poll() == []
    found = book.find("m:1")
    assert found is not None
    assert found.fingerprint == learned.fingerprint
    assert book.is_learning("broken")


def test_a_position_below_the_log_that_does_not_move_is_lost_data(embedded: Backend) -> None:
    now = [0.0]
    with LagGuard(embedded.bootstrap_servers) as guard:
        watch = EmbeddedWatch(
            Config(), "l", guard, on_ready=lambda: None, on_lost=lambda error: None, clock=lambda: now[0]
        )
    place = ("leadline.predictions", 0)
    logs = {place: LogRange(50, 90)}
    watch.judge({place: 10}, logs)
    now[0] = GRACE_S + 1
    watch.judge({place: 20}, logs)  # it moves: the worker had the records in memory
    now[0] += GRACE_S - 1
    watch.judge({place: 20}, logs)
    now[0] += 1
    with pytest.raises(EmbeddedDataLost, match=r"forgot 30 unread records"):
        watch.judge({place: 20}, logs)


@contextmanager
def run_embedded(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """`leadline run --embedded --json`, and the addresses that it prints once it is ready."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LEADLINE_")}
    command = [sys.executable, "-m", "leadline.cli", "run", "--embedded", "--json", *options]
    with (folder / "run.log").open("a") as log:
        process = subprocess.Popen(
            command, cwd=folder, env={**clean, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (folder / "run.log").read_text()
        yield process, json.loads(line)
    finally:
        process.kill()
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()


def publish(bootstrap_servers: str, first: int, count: int) -> None:
    with Publisher(bootstrap_servers) as publisher:
        for number in range(first, first + count):
            publisher.predict(
                request_id=f"r{number}",
                model_id="m",
                model_version="1",
                score=0.25,
                features={"age": float(number % 90)},
            )
            publisher.label(request_id=f"r{number}", label=number % 4 == 0)


def joined(url: str) -> int:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return int(client.hget("leadline:model:m", "join:joined") or 0)  # type: ignore[arg-type]


def refused(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as client:
            client.ping()
    except redis.ConnectionError:
        return True
    return False


def test_an_embedded_run_counts_what_a_service_publishes_and_keeps_it_over_a_restart(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    with run_embedded(tmp_path, "--data", "kept") as (process, told):
        publish(told["bootstrap_servers"], 0, 300)
        until(lambda: joined(told["redis_url"]) == 300, 60, log.read_text)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert refused(told["redis_url"])
    with run_embedded(tmp_path, "--data", "kept", "--no-deliver") as (process, told):
        publish(told["bootstrap_servers"], 300, 100)
        until(lambda: joined(told["redis_url"]) == 400, 60, log.read_text)
        state = subprocess.run(
            [sys.executable, "-m", "leadline.cli", "request", "r7", "--json", "--redis-url", told["redis_url"]],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert json.loads(state.stdout)["state"] == "joined"
        process.kill()
        until(lambda: refused(told["redis_url"]), 20, "Redis ends with the killed worker")
    assert "DATA GAP" not in log.read_text()


def test_a_worker_starts_without_what_only_tests_and_tools_need() -> None:
    heavy = ("pandas", "sklearn", "scipy.stats", "pyarrow", "hypothesis")
    loaded = "import sys; import leadline.cli.app, streams.worker.run, sinks.deliver"
    script = f"{loaded}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
