"""The worker: everything started in order, watched, and stopped in order. `streams.worker.process` is its process' life."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Mapping
from typing import Any, cast

from aiokafka.errors import KafkaConnectionError
from confluent_kafka import KafkaException

from streams.core.stage import StageFactory
from streams.store.tables import Kind, StoreUnavailable, Tables
from streams.store.tables_redis import RedisTables
from streams.transport.beginning import GapHook, no_alert
from streams.transport.fetcher import Fetcher
from streams.transport.intake import Intake
from streams.transport.settings import WorkerSettings
from streams.transport.topic_watch import TopicWatch
from streams.transport.topics import BrokerUnreachable, admin_client, check_copartitioned, describe_partitions
from streams.transport.transport import Consumer
from streams.worker.agents import App, build_app
from streams.worker.display import Display
from streams.worker.life import Life
from streams.worker.outbox import Relay
from streams.worker.owners import Owners
from streams.worker.pace import Pace
from streams.worker.shared import KeyHook, Shared, no_key_alert
from streams.worker.status import WorkerProgress
from streams.worker.watchdog import Progress, Watchdog

log = logging.getLogger(__name__)

VIEWS_S = 0.2
QUIESCE_S = 1.0
LOOP = "event loop"


class WorkerCrashed(Exception):
    """Faust ended a service of the app by itself."""

    reason = "worker_crashed"


def in_our_words(reason: BaseException | None, servers: str) -> BaseException | None:
    """A broker that is gone as the group is joined, after it had answered what was asked of it before."""
    if not isinstance(reason, KafkaConnectionError):
        return reason
    return BrokerUnreachable(f"no broker at {servers} any more: {reason}")


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
        progress = Progress(settings.stall_s) if watchdog is None else watchdog.progress
        self._life = Life(settings.worker_id, settings.health_file, progress, settings.stall_s)
        self._stop = asyncio.Event()
        self._display: Display | None = None
        self._pace = Pace()
        self._owners: Owners | None = None
        self._app: App | None = None

    def stop(self) -> None:
        """Ask for a graceful end: commit what is in hand, leave the group."""
        if self._watchdog is not None:
            self._watchdog.stopping()
        self._stop.set()

    async def run(self) -> None:
        """Start, work, stop."""
        settings, life = self.settings, self._life
        life.beat()
        await asyncio.get_running_loop().run_in_executor(None, check_topics, settings)
        await self._tables.start()
        groups = settings.topics.groups(settings.roles)
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
        shared = Shared(settings, self._tables, relay, intake, self._factories, *hooks, watch)
        owners = self._owners = Owners(shared)
        display = self._display = Display(self._tables, shared, owners, life)
        app = self._app = build_app(settings, owners)
        relay.start()
        tasks = [
            asyncio.create_task(app.start(), name="leadline-app"),
            asyncio.create_task(self._tend(owners, app, display), name="leadline-tend"),
            asyncio.create_task(self._show(display), name="leadline-views"),
            asyncio.create_task(self._check_topics(watch, owners), name="leadline-topics"),
            asyncio.create_task(life.beat_on(), name="leadline-life"),
        ]
        reason: BaseException | None = None
        try:
            reason = in_our_words(await self._until_over(owners, app, tasks), settings.bootstrap_servers)
        finally:
            life.state = "stopping"
            if self._watchdog is not None:
                self._watchdog.stopping(reason)
            await self._close(app, shared, owners, display, tasks)
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
                if crashed in done:  # before the tasks, which fail in its wake
                    return app.crash_reason or WorkerCrashed("Faust stopped the app")
                for task in done & set(tasks):
                    if (error := task.exception()) is not None:
                        return error
                if starting in done:
                    self._life.state = "running"
        finally:
            stop.cancel()
            crashed.cancel()

    async def _close(
        self, app: App, shared: Shared, owners: Owners, display: Display, tasks: list[asyncio.Task[None]]
    ) -> None:
        """In order, and each part in a time of its own: one that hangs keeps neither the others nor the caller."""
        # A commit that has begun may end; a store that is away must not hold us longer.
        await within(QUIESCE_S, owners.quiesce())
        await shared.relay.flush(QUIESCE_S)
        if not await within(self.settings.stop_s / 2, app.stop()):
            log.error("Faust does not stop; nobody waits for it")
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=QUIESCE_S)
        await within(QUIESCE_S, shared.relay.close())
        await within(QUIESCE_S, shared.intake.close())
        await within(QUIESCE_S, self._take_leave(display))
        self._life.end()

    async def _take_leave(self, display: Display) -> None:
        with contextlib.suppress(StoreUnavailable):
            await display.take_leave()
        await self._tables.close()

    # Once a second

    async def _tend(self, owners: Owners, app: App, display: Display) -> None:
        beat = 0
        while True:
            await asyncio.sleep(self.settings.status_s)
            beat += 1
            if self._watchdog is not None:
                self._watchdog.progress.see_all({LOOP: (beat, True), **owners.marks()})
            owners.intake.linger_s = self._pace.see(time.thread_time(), time.monotonic())
            await cast(Consumer, app.consumer).check_group()
            await owners.tend()
            try:
                await display.show_status()
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

    async def _show(self, display: Display) -> None:
        while True:
            await asyncio.sleep(VIEWS_S)
            try:
                await display.show_views()
            except StoreUnavailable as error:
                log.warning("views not shown yet: %s", error)

    def progress(self) -> WorkerProgress:
        """How far everything is, now. Callable from any coroutine of the loop."""
        if self._display is None:
            raise RuntimeError("run() the worker first")
        return self._display.progress()


def check_topics(settings: WorkerSettings) -> None:
    """Refuse to start on missing topics or unequal partition counts (`streams.transport.topics.TopicsError`)."""
    found = describe_partitions(admin_client(settings.bootstrap_servers, settings.kafka))
    for topics in settings.topics.groups(settings.roles).values():
        check_copartitioned(topics, found)


async def within(seconds: float, work: Coroutine[Any, Any, None]) -> bool:
    """Whether `work` ended in time. One that does not is told to, and left: what swallows that would hold us as well."""
    task = asyncio.create_task(work)
    await asyncio.wait([task], timeout=seconds)
    if not task.done():
        task.cancel()
        return False
    if (error := task.exception()) is not None:
        log.error("while stopping: %r", error, exc_info=error)
    return True


__all__ = ["Worker", "WorkerCrashed", "check_topics"]
