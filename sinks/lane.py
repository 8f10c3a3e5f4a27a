"""One sink's way: its backlog, and a task that delivers from it, records, and gives up in time. Lanes do not wait for
each other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from leadline.alert import Alert, UndeliveredReason
from sinks.backlog import Backlog, Waiting
from sinks.base import Rejected, RetryLater, Sink, SinkConfig
from sinks.kafka import Record
from sinks.letters import DeadLetters, letter
from sinks.progress import Progress, Ticket
from sinks.record import DeliveryRecord
from sinks.retry import Uniform
from sinks.stats import DeliverStats

log = logging.getLogger(__name__)
Placed = Literal["placed", "wait", "overflow"]


@dataclass(frozen=True, slots=True)
class Shop:
    """What all lanes of a process share."""

    record: DeliveryRecord
    letters: DeadLetters
    progress: Progress
    stats: DeliverStats
    clock: Callable[[], float]
    wall: Callable[[], float]
    uniform: Uniform
    send_timeout_s: float
    full_patience_s: float


@dataclass(frozen=True, slots=True)
class Order:
    """Where a waiting alert came from."""

    record: Record
    ticket: Ticket


class Lane:
    """`place` what is to be delivered, `run` in a task."""

    def __init__(self, config: SinkConfig, sink: Sink, shop: Shop) -> None:
        self.name = config.label
        self.sink = sink
        self._shop = shop
        self._backlog: Backlog[Order] = Backlog(config.retry, config.queue_size, shop.uniform)
        self._wake = asyncio.Event()
        self._stopping = False
        self._full_since: float | None = None
        self._half = max(1, config.queue_size // 2)
        self._watch()

    def place(self, alert: Alert, record: Record, ticket: Ticket) -> Placed:
        """Put an alert in the queue. Where there is no room: "wait" for as long as patience lasts, then "overflow"
        (dead letter).

        The patience is one for a whole outage, not one an alert: it returns when half of the queue has gone.
        """
        now = self._shop.clock()
        if self._backlog.push(alert, Order(record, ticket), now):
            if len(self._backlog) <= self._half:
                self._full_since = None
            self._watch()
            self._wake.set()
            return "placed"
        if self._full_since is None:
            self._full_since = now
        if now - self._full_since < self._shop.full_patience_s:
            return "wait"
        self._bury(alert, Order(record, ticket), "queue_full", f"{len(self._backlog)} alerts wait for this sink", 0)
        return "overflow"

    def purge(self) -> None:
        """Forget what is no longer ours."""
        self._backlog.purge(lambda order: self._shop.progress.holds(order.ticket))
        self._watch()
        self._wake.set()

    def stop(self) -> None:
        """End `run` after the attempt under way and what can be delivered without waiting."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        while True:
            rest = await self.step()
            self._watch()
            if rest == 0:
                await asyncio.sleep(0)  # a sink that never waits must not starve the others
                continue
            if self._stopping:
                return
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), rest)
            except TimeoutError:
                pass

    async def step(self) -> float | None:
        """Do the next thing. Seconds until there is something to do, None: not before the next `place`."""
        now = self._shop.clock()
        if (late := self._backlog.overdue(now)) is not None:
            self._backlog.remove(late)
            waited = f"waited {now - late.since:.0f} s for a sink that fails"
            self._bury(late.alert, late.ticket, "gave_up", waited, late.attempts)
            return 0.0
        item = self._backlog.take(now)
        if item is None:
            return self._backlog.wait_s(now)
        if not self._shop.progress.holds(item.ticket.ticket):
            self._backlog.remove(item)
        elif await self._shop.record.seen(self.name, item.alert.alert_id):
            self._shop.stats.duplicates[self.name] += 1
            self._backlog.remove(item)
            self._shop.progress.finish(item.ticket.ticket)
        else:
            await self._attempt(item)
        return 0.0

    async def _attempt(self, item: Waiting[Order]) -> None:
        try:
            async with asyncio.timeout(self._shop.send_timeout_s):
                await self.sink.send(item.alert)
        except RetryLater as error:
            self._later(item, error.after_s, error.reason, error.detail)
        except Rejected as error:
            self._backlog.succeeded(item)
            self._bury(item.alert, item.ticket, "rejected", str(error), item.attempts + 1)
        except TimeoutError:
            self._later(item, None, "timeout", f"not done within {self._shop.send_timeout_s:g} s")
        except Exception as error:  # a fault in one sink's code must not end the others; its text might hold a secret
            self._later(item, None, "fault", type(error).__name__)
        else:
            await self._shop.record.mark(self.name, item.alert.alert_id)
            self._backlog.succeeded(item)
            self._shop.stats.delivered[self.name] += 1
            self._shop.progress.finish(item.ticket.ticket)
            log.info("%r delivered to %s", item.alert.alert_id, self.name)

    def _later(self, item: Waiting[Order], after_s: float | None, reason: str, detail: str) -> None:
        self._backlog.failed(item, self._shop.clock(), after_s)
        self._shop.stats.retries[self.name, reason] += 1
        log.warning(
            "%s: %r not delivered yet (%s: %s), attempt %d",
            self.name,
            item.alert.alert_id,
            reason,
            detail,
            item.attempts,
        )

    def _bury(self, alert: Alert, order: Order, reason: UndeliveredReason, detail: str, attempts: int) -> None:
        what = letter(order.record, reason, detail, self._shop.wall(), sink=self.name, attempts=attempts, alert=alert)
        self._shop.letters.post(what, order.record.key, order.ticket)

    def _watch(self) -> None:
        self._shop.stats.waiting[self.name] = len(self._backlog)
        self._shop.stats.failing[self.name] = self._backlog.failing
