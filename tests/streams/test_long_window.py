"""A delay window of thirty days: Redis holds what waits, a worker's memory a fraction of it."""

from __future__ import annotations

import asyncio
import random
from typing import Any, cast

import msgspec
import pytest

from streams.baselines.reference_book import ReferenceBook
from streams.core.records import Records
from streams.observe.observe import Observer
from streams.observe.partition_state import Checkpoint
from streams.store.tables import Owner
from streams.store.tables_redis import RedisTables
from streams.transport.chain import Part
from streams.transport.settings import WorkerSettings
from streams.worker.factories import ObserveFactory
from streams.worker.owner import Work
from streams.worker.shared import Shared
from tests.faults.world import Broker, Lanes, Sender
from tests.real.backend import Backend
from tests.streams.history import T0, Event, configuration, label, prediction, reference

DAY_S = 86_400.0
WINDOW_S = 30 * DAY_S
REQUESTS, CACHE = 6_000, 200
OWNER = Owner("observe", 0)


class Observing:
    """One observer on a Redis of its own, fed batch by batch."""

    def __init__(self, backend: Backend) -> None:
        config = configuration(delay_window=WINDOW_S, late_retention=WINDOW_S / 4, cache_rows=CACHE)
        book = ReferenceBook(config, {"m": reference()})
        fresh = backend.fresh()
        settings = WorkerSettings(bootstrap_servers="", redis_url=fresh.redis_url)
        self.tables = RedisTables(fresh.redis_url, fresh.redis_prefix)
        self._broker = Broker()
        parts = (Sender(), Lanes(self._broker), {"observe": ObserveFactory(config, book, 1)})
        self._shared = Shared(settings, self.tables, *cast(Any, parts))
        self._topics = settings.topics.groups(settings.roles)["observe"]
        self.work = Work(OWNER, self._topics, self._shared)

    async def take(self, topic: int, events: list[Event]) -> None:
        name = self._topics[topic]
        log = self._broker.logs[name]
        begin = len(log)
        log += [event.record(begin + at)._replace(timestamp=event.body["timestamp"]) for at, event in enumerate(events)]
        await self.work.process([Part(name, begin, len(log), Records.of(log[begin:]))])

    def restart(self) -> None:
        """Another worker, with an empty memory."""
        self.work = Work(OWNER, self._topics, self._shared)

    def held(self) -> int:
        """Rows in the worker's memory."""
        assert self.work._held is not None
        stage = self.work._held.stage
        assert isinstance(stage, Observer)
        return len(stage.state.rows.rows)

    async def counts(self) -> dict[str, int]:
        checkpoint = (await self.tables.claim(OWNER)).checkpoint
        return dict(msgspec.msgpack.decode(checkpoint, type=Checkpoint).counts)


@pytest.mark.parametrize("restarted", [False, True])
def test_labels_find_predictions_of_a_month_ago_in_redis_and_only_those_of_the_window(
    embedded: Backend, restarted: bool
) -> None:
    spread = 29.0 * DAY_S
    numbers = random.Random(1).sample(range(REQUESTS), REQUESTS)

    def when(number: int) -> float:
        return T0 + number * spread / REQUESTS

    async def body() -> None:
        observing = Observing(embedded)
        await observing.tables.start()
        await observing.work.claim()
        for begin in range(0, REQUESTS, 500):
            await observing.take(0, [prediction(n, when(n), 5) for n in range(begin, begin + 500)])
            assert observing.held() <= CACHE + 500
        if restarted:
            observing.restart()
            await observing.work.claim()
        # All labelled on one day, in no order: their ages go from a moment to a month. A hundred come a day too late.
        late = set(numbers[:100])
        stamps = {n: when(n) + WINDOW_S + DAY_S if n in late else max(when(n), T0 + spread) for n in numbers}
        for begin in range(0, REQUESTS, 500):
            some = numbers[begin : begin + 500]
            await observing.take(1, [label(n, stamps[n], n % 2) for n in some if n not in late])
            assert observing.held() <= CACHE + 1_000
        await observing.take(1, [label(n, stamps[n], True) for n in sorted(late)])
        counts = await observing.counts()
        assert counts["predictions"] == REQUESTS
        assert counts["joined"] == REQUESTS - 100
        assert counts["late"] == 100
        assert not counts.get("label_first")
        await observing.tables.close()

    asyncio.run(body())
