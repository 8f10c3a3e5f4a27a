"""The delivery process: alerts from Kafka to every sink that wants them, at least once, in order within an incident.

    read ──► decode ──► route ──► a queue for each sink ──► send ──► record ──► offset stored
               │                      │ too old, full, refused
               └──────────────────────┴──► <alerts>.undelivered ────────────► offset stored

An offset is stored for commit when each sink that the alert was routed to has it, or its dead letter is acknowledged. A
crash in between repeats alerts; the record keeps repetitions from the sinks, except for what was sent and not yet
recorded.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaException
from pydantic import ValidationError

from leadline.alert import ALERT_VERSION, Alert, UndeliveredReason
from sinks.base import Sink
from sinks.kafka import AlertReader, DeliverError, LetterProducer, Record
from sinks.lane import Lane, Shop
from sinks.letters import DeadLetters, letter
from sinks.progress import Progress, Ticket
from sinks.record import RecordInUse
from sinks.route import plan
from sinks.settings import DeliverSettings
from sinks.stats import DeliverStats

log = logging.getLogger(__name__)
READ_WAIT_S = 0.2
CLOSE_S = 1.0
CLOSE_SINKS_S = 0.3
LAST_LETTERS_S = 0.2


@dataclass(slots=True)
class Arrival:
    """A record on its way into the queues; `todo` are the lanes that it has not reached, None: not looked at yet."""

    record: Record
    ticket: Ticket
    alert: Alert | None = None
    todo: list[Lane] | None = None


class Dispatcher:
    """Decodes, routes, and fills the queues. Knows no Kafka."""

    def __init__(self, settings: DeliverSettings, lanes: Mapping[str, Lane], shop: Shop) -> None:
        self._settings = settings
        self._lanes = lanes
        self._shop = shop

    def place(self, arrival: Arrival) -> bool:
        """Bring the record into the queues. False: a queue (or that of the dead letters) is full, ask again later."""
        if not self._shop.progress.holds(arrival.ticket):
            return True
        if self._shop.letters.full:
            return False
        if arrival.todo is None:
            self._look(arrival)
        assert arrival.todo is not None
        for lane in list(arrival.todo):
            assert arrival.alert is not None
            if lane.place(arrival.alert, arrival.record, arrival.ticket) != "wait":
                arrival.todo.remove(lane)
        return not arrival.todo

    def _look(self, arrival: Arrival) -> None:
        arrival.todo = []
        record, ticket, shop = arrival.record, arrival.ticket, self._shop
        shop.stats.read += 1
        if record.value is None:
            shop.stats.tombstones += 1
            shop.progress.finish(ticket)
            return
        alert, reason, detail = decode(record.value)
        if alert is None:
            shop.letters.post(letter(record, reason, detail, shop.wall()), record.key, ticket)
            return
        decisions = plan(alert, self._settings.sinks)
        lanes = [self._lanes[decision.sink] for decision in decisions if decision.send]
        if any(decision.reason == "fallback" for decision in decisions):
            log.warning("%r: no sink has any channel of %r; routed as default", alert.alert_id, alert.channels)
        if not lanes:
            shop.stats.unrouted += 1
            why = ", ".join(f"{decision.sink}: {decision.reason}" for decision in decisions)
            log.info("%r goes to no sink (%s)", alert.alert_id, why)
            shop.progress.finish(ticket)
            return
        ticket.open = len(lanes)
        arrival.alert, arrival.todo = alert, lanes


def decode(raw: bytes) -> tuple[Alert | None, UndeliveredReason, str]:
    """The alert, or None with a reason and words that do not quote the message."""
    try:
        return Alert.model_validate_json(raw), "undecodable", ""
    except ValidationError as error:
        version = _version(raw)
        if version is not None and version != ALERT_VERSION:
            return None, "unknown_version", f"schema_version {version}, this process reads {ALERT_VERSION}"
        faults = error.errors(include_input=False, include_url=False, include_context=False)[:5]
        places = (".".join(map(str, each["loc"])) for each in faults)
        texts = (
            f"{place}: {each['msg']}" if place else each["msg"] for place, each in zip(places, faults, strict=True)
        )
        return None, "undecodable", "; ".join(texts)


def _version(raw: bytes) -> int | None:
    try:
        version = json.loads(raw)["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return version if isinstance(version, int) else None


async def deliver(
    settings: DeliverSettings,
    *,
    stop: asyncio.Event | None = None,
    stats: DeliverStats | None = None,
    sinks: Mapping[str, Sink] | None = None,
    on_tick: Callable[[DeliverStats], None] | None = None,
) -> DeliverStats:
    """Deliver until `stop` is set (then return within three seconds) or something fatal happens (`DeliverError`,
    `RecordInUse`).

    `stats` is filled while running; `on_tick` is called with it after every read (about five times a second). `sinks`
    replaces the sinks that `settings` would build, by name.
    """
    stop = stop or asyncio.Event()
    stats = stats if stats is not None else DeliverStats()
    progress = Progress()
    record = settings.record.open()
    try:
        producer = LetterProducer(settings.kafka)
        reader = AlertReader(settings.kafka, progress)
    except BaseException:
        await record.close()
        raise
    uniform = random.Random().uniform
    letters = DeadLetters(producer, progress, stats, uniform)
    shop = Shop(
        record,
        letters,
        progress,
        stats,
        clock=time.monotonic,
        wall=time.time,
        uniform=uniform,
        send_timeout_s=settings.send_timeout_s,
        full_patience_s=settings.full_patience_s,
    )
    built = sinks if sinks is not None else {config.label: config.build() for config in settings.sinks}
    lanes = {config.label: Lane(config, built[config.label], shop) for config in settings.sinks}
    letters_task = asyncio.create_task(letters.run(), name="undelivered")
    lane_tasks = [asyncio.create_task(lane.run(), name=f"sink {lane.name}") for lane in lanes.values()]
    log.info("delivering %s as group %s to %s", settings.kafka.topic, settings.kafka.group_id, ", ".join(lanes))
    try:
        await _pump(reader, Dispatcher(settings, lanes, shop), lanes, shop, [letters_task, *lane_tasks], stop, on_tick)
    finally:
        for lane in lanes.values():
            lane.stop()
        await asyncio.wait(lane_tasks, timeout=settings.drain_s)
        if letters.pending:
            await asyncio.wait([letters_task], timeout=LAST_LETTERS_S)
        for task in (letters_task, *lane_tasks):
            task.cancel()
        await asyncio.wait([letters_task, *lane_tasks], timeout=LAST_LETTERS_S)
        # The offsets go first: whatever hangs while closing, what was delivered is committed.
        await _within(CLOSE_S, reader.close(_done(shop)))
        await _within(CLOSE_SINKS_S, producer.close(), record.close(), *(lane.sink.close() for lane in lanes.values()))
    return stats


async def _pump(
    reader: AlertReader,
    dispatcher: Dispatcher,
    lanes: Mapping[str, Lane],
    shop: Shop,
    tasks: list[asyncio.Task[None]],
    stop: asyncio.Event,
    on_tick: Callable[[DeliverStats], None] | None,
) -> None:
    """Read and place until told to stop. While a queue is full, reading pauses and the group membership stays alive."""
    arrivals: deque[Arrival] = deque()
    while not stop.is_set():
        taken, rebalanced = await reader.read(_done(shop), pause=bool(arrivals), wait_s=READ_WAIT_S)
        if rebalanced:
            for lane in lanes.values():
                lane.purge()
        arrivals.extend(Arrival(record, ticket) for record, ticket in taken)
        while arrivals and dispatcher.place(arrivals[0]):
            arrivals.popleft()
        for task in tasks:
            if task.done():
                raise DeliverError(f"{task.get_name()} has ended") from task.exception()
        if on_tick is not None:
            on_tick(shop.stats)


def _done(shop: Shop) -> dict[int, int]:
    moved = shop.progress.take()
    shop.stats.committed.update(moved)
    return moved


async def _within(seconds: float, *closings: Awaitable[None]) -> None:
    """Close all at once; what hangs is left behind (their threads are daemons)."""
    tasks = [asyncio.ensure_future(closing) for closing in closings]
    finished, hanging = await asyncio.wait(tasks, timeout=seconds)
    for task in hanging:
        task.cancel()
    for task in finished:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("closing: %s", type(error).__name__)


def run_deliver(settings: DeliverSettings, *, on_tick: Callable[[DeliverStats], None] | None = None) -> int:
    """`deliver` as a process: ends on SIGTERM or SIGINT (a second one ends it at once). The exit status."""

    async def main() -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None

        def on_signal() -> None:
            if stop.is_set():
                task.cancel()
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        await deliver(settings, stop=stop, on_tick=on_tick)
        return 0

    try:
        return asyncio.run(main())
    except (DeliverError, RecordInUse, KafkaException, OSError) as error:
        log.error("cannot deliver: %s", error)
        return 1
    except asyncio.CancelledError:
        return 1
