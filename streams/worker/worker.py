"""The worker: everything started in order, watched, and stopped in order. `run_worker` is the whole process' life."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import time
from collections.abc import Mapping
from typing import Any, cast

from confluent_kafka import KafkaException

from streams.core.stage import StageFactory
from streams.store.tables import Kind, StoreUnavailable, Tables, View
from streams.store.tables_redis import RedisTables
from streams.transport.chain import Place
from streams.transport.fetcher import Fetcher
from streams.transport.intake import Intake
from streams.transport.settings import WorkerSettings
from streams.transport.topic_watch import TopicWatch
from streams.transport.topics import admin_client, check_copartitioned, describe_partitions
from streams.transport.transport import Consumer
from streams.worker.agents import App, build_app
from streams.worker.outbox import Relay
from streams.worker.owner import GapHook, KeyHook, Shared, no_alert, no_key_alert
from streams.worker.owners import Owners
from streams.worker.status import EXPIRE_S, Rate, WorkerProgress, counted
from streams.worker.watchdog import Progress, Watchdog

log = logging.getLogger(__name__)

VIEWS_S = 0.2
QUIESCE_S = 1.0
LOOP = "event loop"


class WorkerCrashed(Exception):
    """Faust ended a service of the app by itself."""

    reason = "worker_crashed"


class Worker:
    """One worker inside a running event loop. `run` returns after `stop`, or raises what made it stop."""

    def __init__(
        self,
        settings: WorkerSettings,
        observe: StageFactory,
        judge: StageFactory,
        *,
        tables: Tables | None = None,
        on_gap: GapHook = no_alert,
        on_keys: KeyHook = no_key_alert,
        watchdog: Watchdog | None = None,
    ) -> None:
        self.settings = settings
        self._tables = tables or RedisTables(settings.redis_url, settings.key_prefix)
        self._factories: Mapping[Kind, StageFactory] = {"observe": observe, "judge": judge}
        self._on_gap, self._on_keys = on_gap, on_keys
        self._watchdog = watchdog
        self._stop = asyncio.Event()
        self._state = "starting"
        self._started_at = time.time()
        self._rate = Rate()
        self._shared: Shared | None = None
        self._owners: Owners | None = None
        self._app: App | None = None

    def stop(self) -> None:
        """Ask for a graceful end: commit what is in hand, leave the group."""
        if self._watchdog is not None:
            self._watchdog.stopping()
        self._stop.set()

    async def run(self) -> None:
        """Start, work, stop."""
        settings = self.settings
        loop = asyncio.get_running_loop()
        groups = settings.topics.groups(settings.roles)
        await loop.run_in_executor(None, check_topics, settings)
        await self._tables.start()
        clients = {"bootstrap.servers": settings.bootstrap_servers, "client.id": settings.worker_id, **settings.kafka}
        intake = Intake(
            Fetcher({**clients, "group.id": settings.group, **settings.consumer}),
            groups,
            fetch_records=settings.fetch_records,
            batch_records=settings.batch_records,
            slack_s=settings.fairness_slack_s,
        )
        relay = Relay(self._tables, {**clients, **settings.producer}, settings.outbox_bound)
        watch = TopicWatch(
            admin_client(settings.bootstrap_servers, settings.kafka),
            [name for names in groups.values() for name in names],
        )
        hooks = (self._on_gap, self._on_keys)
        self._shared = Shared(settings, self._tables, relay, intake, self._factories, *hooks, watch)
        owners = self._owners = Owners(self._shared)
        app = self._app = build_app(settings, owners)
        relay.start()
        tasks = [
            asyncio.create_task(app.start(), name="leadline-app"),
            asyncio.create_task(self._tend(owners, app), name="leadline-tend"),
            asyncio.create_task(self._show(), name="leadline-views"),
            asyncio.create_task(self._check_topics(watch, owners), name="leadline-topics"),
        ]
        try:
            reason = await self._until_over(owners, app, tasks)
        finally:
            self._state = "stopping"
            await self._close(app, owners, intake, relay, tasks)
        if reason is not None:
            raise reason

    async def _until_over(self, owners: Owners, app: App, tasks: list[asyncio.Task[None]]) -> BaseException | None:
        """Wait for the stop, for an owner's failure, for a crash inside Faust, or for a task that ends by itself."""
        starting, *lasting = tasks
        stop = asyncio.create_task(self._stop.wait())
        crashed = asyncio.create_task(app.wait_until_stopped())
        try:
            while True:
                watched: set[asyncio.Future[Any]] = {stop, owners.failed, crashed, *lasting}
                if not starting.done():
                    watched.add(starting)
                done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                if owners.failed in done:
                    return owners.failed.result()
                if stop in done:
                    return None
                for task in done & set(tasks):
                    if (error := task.exception()) is not None:
                        return error
                if starting in done:
                    self._state = "running"
                if crashed in done:
                    return app.crash_reason or WorkerCrashed("Faust stopped the app")
        finally:
            stop.cancel()
            crashed.cancel()

    async def _close(
        self, app: App, owners: Owners, intake: Intake, relay: Relay, tasks: list[asyncio.Task[None]]
    ) -> None:
        if self._watchdog is not None:
            self._watchdog.stopping()
        # A commit that has begun may end; a store that is away must not hold us longer.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(owners.quiesce(), QUIESCE_S)
        await relay.flush(QUIESCE_S)
        await app.stop()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await relay.close()
        await intake.close()
        with contextlib.suppress(StoreUnavailable):
            await self._flush_views()
            await self._tables.show({self._status_key: None})
        await self._tables.close()

    # Once a second

    async def _tend(self, owners: Owners, app: App) -> None:
        beat = 0
        while True:
            await asyncio.sleep(self.settings.status_s)
            beat += 1
            if self._watchdog is not None:
                watch(self._watchdog.progress, beat, owners)
            await cast(Consumer, app.consumer).check_group()
            await owners.tend()
            try:
                await self._tables.show({self._status_key: self.progress().view()}, EXPIRE_S)
            except StoreUnavailable as error:
                log.warning("status not shown: %s", error)

    async def _check_topics(self, watch: TopicWatch, owners: Owners) -> None:
        while True:
            await asyncio.sleep(self.settings.topics_s)
            try:
                await watch.check()
                await owners.explain_holes()
            except KafkaException as error:
                log.warning("topics not looked at: %s", error)

    async def _show(self) -> None:
        while True:
            await asyncio.sleep(VIEWS_S)
            try:
                await self._flush_views()
            except StoreUnavailable as error:
                log.warning("views not shown yet: %s", error)

    async def _flush_views(self) -> None:
        assert self._shared is not None  # run() has set it
        views: dict[str, View] = dict(self._shared.views)
        if not views:
            return
        self._shared.views.clear()
        try:
            await self._tables.show(views)
        except StoreUnavailable:
            for key, view in views.items():
                self._shared.views.setdefault(key, view)  # what came since is newer
            raise

    @property
    def _status_key(self) -> str:
        return f"{self.settings.key_prefix}:worker:{self.settings.worker_id}"

    def progress(self) -> WorkerProgress:
        """How far everything is, now. Callable from any coroutine of the loop."""
        if self._shared is None or self._owners is None:
            raise RuntimeError("run() the worker first")
        counters, relay, now = self._shared.counters, self._shared.relay, time.time()
        healthy = True
        if self._watchdog is not None:
            progress = self._watchdog.progress
            healthy = all(progress.age(name) < self.settings.stall_s / 2 for name in progress.names())
        return WorkerProgress(
            worker_id=self.settings.worker_id,
            group=self.settings.group,
            started_at=self._started_at,
            updated_at=now,
            state=self._state,
            healthy=healthy,
            events_per_s=self._rate.see(time.monotonic(), counters.records),
            outbox_waiting=relay.waiting,
            outbox_sent=relay.sent,
            partitions=self._owners.standings(),
            **counted(counters),
        )


def check_topics(settings: WorkerSettings) -> None:
    """Refuse to start on missing topics or unequal partition counts (`streams.transport.topics.TopicsError`)."""
    found = describe_partitions(admin_client(settings.bootstrap_servers, settings.kafka))
    for topics in settings.topics.groups(settings.roles).values():
        check_copartitioned(topics, found)


def watch(progress: Progress, beat: int, owners: Owners) -> None:
    """Show the watchdog what moves: the loop itself, and every partition that has something to read."""
    progress.see(LOOP, beat, True)
    standings = owners.standings()
    names = {f"{place.topic}/{place.partition}" for place in standings} | {LOOP}
    for gone in progress.names() - names:
        progress.forget(gone)
    for place, standing in standings.items():
        progress.see(f"{place.topic}/{place.partition}", standing.offset, bool(standing.lag))


def run_worker(
    settings: WorkerSettings,
    observe: StageFactory,
    judge: StageFactory,
    *,
    on_gap: GapHook = no_alert,
    on_keys: KeyHook = no_key_alert,
    tables: Tables | None = None,
) -> int:
    """A worker's process: until SIGTERM or SIGINT (0), or until something makes it stop (1, the reason logged)."""
    # Batches are many short-lived tuples without cycles: the collector's default pace costs a fifth of the fetch.
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    watchdog = Watchdog(Progress(settings.stall_s), settings.stop_s)
    watchdog.start()

    async def main() -> None:
        worker = Worker(settings, observe, judge, tables=tables, on_gap=on_gap, on_keys=on_keys, watchdog=watchdog)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.stop)
        await worker.run()

    try:
        asyncio.run(main())
    except Exception as error:
        log.critical("worker %s ends: %s: %s", settings.worker_id, type(error).__name__, error, exc_info=error)
        return 1
    finally:
        watchdog.close()
    return 0


__all__ = ["Place", "Worker", "WorkerCrashed", "check_topics", "run_worker"]
