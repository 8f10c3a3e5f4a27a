"""A worker inside the test's own process and loop, so that faults can be put between its parts."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Producer

from streams.store.tables import Owner
from streams.store.tables_memory import MemoryTables
from streams.transport.beginning import GapHook, no_alert
from streams.transport.settings import Topics, WorkerSettings
from streams.transport.topic_plan import TopicNames
from streams.worker.shared import KeyHook, no_key_alert
from streams.worker.worker import Worker
from tests.real.backend import Backend
from tests.streams.toy import AddingFactory, CountingFactory

PARTITIONS = 2


@dataclass
class Inside:
    """Topics of one test, and what the memory tables hold of them."""

    backend: Backend
    tables: MemoryTables = field(default_factory=MemoryTables)
    topics: Topics = field(init=False)
    group: str = field(init=False)
    sent: int = 0

    def __post_init__(self) -> None:
        self.group = f"inside-{uuid.uuid4().hex[:8]}"
        names = TopicNames(self.group)
        self.topics = Topics(
            predictions=names.predictions, labels=names.labels, changes=names.changes, digests=names.digests
        )
        self.all_topics = (names.predictions, names.labels, names.changes, names.digests)
        self.backend.create_topics(dict.fromkeys(self.all_topics, PARTITIONS))

    def send(self, count: int, topics: Iterable[str] = (), **options: Any) -> None:
        """`count` records of new ids to each topic (predictions and labels); the producer's `options` may make batches
        small.
        """
        producer = Producer(
            {
                "bootstrap.servers": self.backend.bootstrap_servers,
                "partitioner": "murmur2_random",
                "linger.ms": 10,
                "log_level": 3,
                **options,
            }
        )
        for number in range(self.sent, self.sent + count):
            for topic in topics or (self.topics.predictions, self.topics.labels):
                producer.produce(topic, key=b"id-%d" % number, value=b"{}")
        producer.flush()
        self.sent += count

    def settings(self, **options: Any) -> WorkerSettings:
        return WorkerSettings(
            **{
                "bootstrap_servers": self.backend.bootstrap_servers,
                "redis_url": self.backend.redis_url,
                "group": self.group,
                "worker_id": self.group,
                "topics": self.topics,
                "session_timeout_s": 6.0,
                "heartbeat_s": 1.0,
                "status_s": 0.1,
                **options,
            }
        )

    @asynccontextmanager
    async def worker(
        self, on_gap: GapHook = no_alert, on_keys: KeyHook = no_key_alert, **options: Any
    ) -> AsyncIterator[Worker]:
        """A running worker; leaving the block stops it and raises what made it stop before."""
        toys = CountingFactory(self.topics.digests), AddingFactory(self.group)
        made = Worker(self.settings(**options), *toys, tables=self.tables, on_gap=on_gap, on_keys=on_keys)
        running = asyncio.create_task(made.run())
        while made._owners is None and not running.done():
            await asyncio.sleep(0.01)
        try:
            yield made
        finally:
            made.stop()
            await running

    def totals(self) -> dict[str, int]:
        sums: dict[str, int] = {}
        for partition in range(PARTITIONS):
            for name, count in json.loads(self.tables._state(Owner("observe", partition)).checkpoint or b"{}").items():
                sums[name] = sums.get(name, 0) + count
        return sums

    def judged(self) -> int:
        return sum(int(self.tables._state(Owner("judge", p)).checkpoint or 0) for p in range(PARTITIONS))

    async def counted(self, worker: Worker, seconds: float = 30.0) -> None:
        """Wait until both stages have everything, exactly."""
        expected = {"predictions": self.sent, "labels": self.sent, "pairs": self.sent}
        await until(lambda: self.totals() == expected and self.judged() == 2 * self.sent, seconds, worker)


async def until(condition: Callable[[], bool], seconds: float, worker: Worker | None = None) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} s; {worker.progress() if worker else ''}") from None
