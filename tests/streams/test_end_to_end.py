"""One log through Kafka, workers and Redis gives the figures that it gives in a backtest, also when workers are killed."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from confluent_kafka import Producer

from leadline.config import Config, parse_config
from streams.backtest.backtest import Backtest
from streams.backtest.log_files import merge, read_log
from streams.backtest.report import figure_rows
from streams.baselines.reference_book import ReferenceBook
from streams.judge.judge import Judge
from streams.observe.partition_state import Checkpoint
from streams.store.tables import Owner
from streams.store.tables_redis import RedisTables
from streams.transport.configured_topics import topic_specs
from streams.transport.topic_plan import partition_counts
from streams.worker.factories import JudgeFactory
from tests.leadline.cli_log import ROOT
from tests.leadline.kafka_log import Published, read_all
from tests.real.backend import Backend
from tests.streams.fleet import until
from tests.streams.logs import Log, make_log, write_reference

PARTITIONS = 2
NOW = 1.79e9
JOIN_STATES = ("predictions", "joined", "late")


class Way:
    """The whole way on topics of its own: publish, work, read what came out."""

    def __init__(self, backend: Backend, folder: Path, session_timeout: str = "10s") -> None:
        self.backend, self.folder = backend, folder
        fresh = backend.fresh()
        names = fresh.names
        write_reference(folder / "reference.csv")
        roles = ("predictions", "labels", "changes", "digests", "alerts", "rejected")
        text = f"""
kafka:
  bootstrap_servers: {backend.bootstrap_servers}
  group: {fresh.redis_prefix}
  partitions: {PARTITIONS}
  session_timeout: {session_timeout}
  topics: {{{", ".join(f"{role}: {getattr(names, role)}" for role in roles)}}}
redis: {{url: "{fresh.redis_url}", prefix: {fresh.redis_prefix}}}
join: {{delay_window: 8h, late_retention: 30d}}
panes: {{days_kept: 30}}
models: {{risk: {{reference: {folder / "reference.csv"}}}}}
"""
        (folder / "leadline.yaml").write_text(text)
        self.config: Config = parse_config(text)
        backend.create_topics(partition_counts(topic_specs(self.config)))
        self.store = redis.Redis.from_url(fresh.redis_url, decode_responses=True)
        self.workers: list[subprocess.Popen[bytes]] = []

    def write(self, log: Log) -> list[tuple[str, bytes, bytes]]:
        """The log as files for a backtest, and as messages (topic, key, value) in order of arrival. What is no JSON has a key, too."""
        topics = {"predictions": self.config.kafka.topics.predictions, "labels": self.config.kafka.topics.labels}
        messages = []
        for source, record in merge(*(read_log(path, NOW) for path in log.write(self.folder))):
            assert record.value is not None
            try:
                key = json.loads(record.value)["request_id"].encode()
            except (ValueError, TypeError):
                key = b"none"
            messages.append((topics[source], key, record.value))
        return messages

    def publish(self, messages: list[tuple[str, bytes, bytes]]) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self.backend.bootstrap_servers,
                "partitioner": "murmur2_random",
                "linger.ms": 20,
                "enable.idempotence": True,
                "log_level": 3,
            }
        )
        for topic, key, value in messages:
            producer.produce(topic, key=key, value=value)
            producer.poll(0)
        producer.flush()

    def start(self) -> subprocess.Popen[bytes]:
        with (self.folder / f"worker-{len(self.workers)}.log").open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "leadline.cli", "run", "-c", "leadline.yaml"],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.workers.append(worker)
        return worker

    def told(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in sorted(self.folder.glob("worker-*.log"))[-2:])

    def observed(self) -> Counter[str]:
        """The observers' counts, over all partitions."""
        totals: Counter[str] = Counter()
        with redis.Redis.from_url(self.config.redis.url.get_secret_value()) as raw:
            for partition in range(PARTITIONS):
                # What is committed, not what is shown: a killed worker may have died between the two.
                key = f"{self.config.redis.prefix}:i:{{{Owner('observe', partition).tag}}}:meta"
                written: Any = raw.hget(key, "checkpoint")
                if written:
                    kept = msgspec.msgpack.decode(written, type=Checkpoint)
                    totals.update(kept.counts)
                    totals.update({f"rejected:{reason}": n for reason, n in kept.rejected.items()})
        return totals

    def judged(self) -> dict[str, int]:
        """The judge's join states of the model."""
        shown: Any = self.store.hgetall(f"{self.config.redis.prefix}:model:risk")
        return {name: int(shown.get(f"join:{name}", 0)) for name in JOIN_STATES}

    def judge(self) -> Judge:
        """The judge that holds the model, as its next owner would build it. Workers must have stopped."""

        async def load(partition: int) -> Judge:
            tables = RedisTables(self.config.redis.url.get_secret_value(), self.config.redis.prefix)
            await tables.start()
            try:
                owner = Owner("judge", partition)
                claimed = await tables.claim(owner)
                factory = JudgeFactory(self.config, ReferenceBook(self.config))
                return factory.build(
                    partition, claimed.checkpoint, await tables.load(owner, factory.whole(claimed.checkpoint))
                )
            finally:
                await tables.close()

        judges = [asyncio.run(load(partition)) for partition in range(PARTITIONS)]
        (holder,) = [judge for judge in judges if "risk" in judge.models]
        return holder

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait(10)
        self.store.close()


@pytest.fixture
def way(backend: Backend, tmp_path: Path) -> Iterator[Way]:
    made = Way(backend, tmp_path)
    yield made
    made.close()


def backtested(way: Way) -> Backtest:
    backtest = Backtest(way.config)
    backtest.run(way.folder / "predictions.jsonl.gz", way.folder / "labels.jsonl.gz", NOW)
    return backtest


def figures_of(judge: Judge) -> dict[tuple[Any, ...], tuple[float | None, int]]:
    """All but what is due: a backtest ends its log, a worker waits for what is still to come, and so do its last panes."""
    cells = judge.models["risk"].cells
    while cells.open:
        cells.close_panes(math.inf)
    rows = [
        row
        for row in figure_rows(judge.models["risk"])
        if row["axis"] == "cohort" and row["signal"] != "label_coverage_due"
    ]
    names = ("model_version", "segment", "signal", "subject", "window_start")
    return {tuple(row[name] for name in names): (row["value"], row["n"]) for row in rows}


def wait_until_counted(way: Way, backtest: Backtest, seconds: float) -> None:
    """All messages observed, all digests judged."""
    counts = backtest.counts()
    expected = {name: counts[name] for name in JOIN_STATES}

    def counted() -> bool:
        seen = way.observed()
        return (
            seen["predictions"] == counts["predictions"]
            and seen["labels"] == counts["labels"]
            and way.judged() == expected
        )

    until(counted, seconds, lambda: f"{way.judged()} of {expected}, {dict(way.observed())}\n{way.told()}")


def assert_as_the_backtest_says(way: Way, backtest: Backtest) -> None:
    seen, counts = way.observed(), backtest.counts()
    for name in (
        "predictions",
        "labels",
        "joined",
        "late",
        "late_labels",
        "revised",
        "too_early",
        "duplicate_predictions",
    ):
        assert seen[name] == counts[name], name
    rejected = {name.removeprefix("rejected:"): n for name, n in seen.items() if name.startswith("rejected:")}
    assert rejected == backtest.observer.rejected
    found, expected = figures_of(way.judge()), figures_of(backtest.judge)
    assert set(found) == set(expected)
    assert len(expected) > 500
    for key, (value, n) in expected.items():
        assert found[key][1] == n, key
        if value is None:
            assert found[key][0] is None, key
        else:
            other = found[key][0]
            assert other is not None
            assert math.isclose(other, value, rel_tol=1e-9, abs_tol=1e-9), (key, other, value)


def stop(worker: subprocess.Popen[bytes]) -> None:
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0


def test_one_log_gives_the_same_figures_through_kafka_and_in_a_backtest(way: Way) -> None:
    log = make_log(21, 5000, every_s=4.0, new_wards=False)
    messages = way.write(log)
    assert len(messages) > 9_500
    way.publish(messages)
    backtest = backtested(way)
    worker = way.start()
    wait_until_counted(way, backtest, 120)
    bad = sum(log.bad.values()) + backtest.counts()["duplicate_predictions"]

    def rejected() -> list[Published]:
        return read_all(way.backend.bootstrap_servers, way.config.kafka.topics.rejected)

    until(lambda: len(rejected()) == bad, 30, "every rejected message is sent")
    stop(worker)
    assert_as_the_backtest_says(way, backtest)
    reasons = Counter(json.loads(message.value)["reason"] for message in rejected())
    assert reasons.pop("duplicate") == backtest.counts()["duplicate_predictions"]
    assert reasons == log.bad
    for message in rejected():
        told = json.loads(message.value)
        assert told["source_topic"] in (way.config.kafka.topics.predictions, way.config.kafka.topics.labels)
        assert told["original_size"] > 0
    alerts = [
        json.loads(message.value) for message in read_all(way.backend.bootstrap_servers, way.config.kafka.topics.alerts)
    ]
    opened = [alert for alert in alerts if alert["life"] == "open"]
    assert any(alert["subject"] in ("age", "score") for alert in opened)
    assert len({alert["alert_id"] for alert in alerts}) == len(alerts)


def killed_again_and_again(way: Way, kills: int, seed: int) -> None:
    """A part of the log for each worker; each is killed when it has begun to count, sometimes a little later."""
    messages = way.write(make_log(22, 2500, every_s=4.0, new_wards=False))
    backtest = backtested(way)
    dice = random.Random(seed)
    each = len(messages) // (kills + 1)
    for part in range(kills):
        way.publish(messages[part * each : (part + 1) * each])
        worker = way.start()
        before = sum(way.observed().values())
        until(lambda before=before: sum(way.observed().values()) > before, 60, way.told)
        time.sleep(dice.choice((0.0, 0.05, 0.5)) * dice.random())
        worker.kill()
        worker.wait(10)
    way.publish(messages[kills * each :])
    worker = way.start()
    wait_until_counted(way, backtest, 120)
    stop(worker)
    assert_as_the_backtest_says(way, backtest)


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_three_times_changes_no_figure(way: Way) -> None:
    killed_again_and_again(way, 3, 1)


@pytest.mark.slow
@pytest.mark.kafka
def test_a_worker_killed_twenty_times_on_real_kafka_changes_no_figure(kafka: Backend, tmp_path: Path) -> None:
    way = Way(kafka, tmp_path, "6s")
    try:
        killed_again_and_again(way, 20, 2)
    finally:
        way.close()
