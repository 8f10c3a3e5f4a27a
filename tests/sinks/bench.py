"""One topic of alerts, and what was delivered from it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from leadline.alert import Alert, Undelivered
from sinks.deliver import deliver
from sinks.settings import DeliverSettings
from sinks.stats import DeliverStats
from streams.embedded.mock_broker import MockBroker
from tests.leadline.kafka_log import read_all
from tests.real.backend import Backend

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


def own(broker: MockBroker, folder: Path) -> Bench:
    return Bench(Backend("own", broker.bootstrap_servers, "", broker.create_topics), folder, "own.alerts")


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def ids(path: Path) -> list[str]:
    return [line["alert_id"] for line in lines(path)]


async def written(path: Path, count: int) -> None:
    while len(ids(path)) < count:
        await asyncio.sleep(0.02)
