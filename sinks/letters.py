"""Dead letters: what could not be delivered goes to `<alerts>.undelivered`, with its reason, before its offset is
committed.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections import deque
from typing import Protocol

from leadline.alert import Alert, Undelivered, UndeliveredReason
from sinks.kafka import Outcome, Record
from sinks.progress import Progress, Ticket
from sinks.retry import RetryPolicy, Uniform
from sinks.stats import DeliverStats

log = logging.getLogger(__name__)
ORIGINAL_LIMIT = 64 * 1024
PENDING_LIMIT = 1000
RETRY = RetryPolicy(base_s=0.5, cap_s=30.0)


class LetterSender(Protocol):
    """Brings one message to the dead letter topic."""

    async def send(self, key: bytes | None, value: bytes) -> Outcome: ...


def letter(
    record: Record,
    reason: UndeliveredReason,
    detail: str,
    at: float,
    *,
    sink: str | None = None,
    attempts: int = 0,
    alert: Alert | None = None,
) -> Undelivered:
    """The envelope. Without an alert it carries the message itself, cut at `ORIGINAL_LIMIT` bytes."""
    value = record.value or b""
    return Undelivered(
        reason=reason,
        detail=detail,
        sink=sink,
        attempts=attempts,
        failed_at=at,
        source_topic=record.topic,
        source_partition=record.partition,
        source_offset=record.offset,
        alert=alert,
        original=None if alert is not None else base64.b64encode(value[:ORIGINAL_LIMIT]).decode(),
        original_size=None if alert is not None else len(value),
    )


def shrunk(large: Undelivered) -> Undelivered:
    """The same, with only the first `ORIGINAL_LIMIT` bytes of its alert: for a broker that refuses the size."""
    whole = large.alert.model_dump_json().encode() if large.alert is not None else b""
    return large.model_copy(
        update={
            "alert": None,
            "original": base64.b64encode(whole[:ORIGINAL_LIMIT]).decode(),
            "original_size": len(whole) or large.original_size,
        }
    )


class DeadLetters:
    """A queue in front of the dead letter topic. A letter that cannot be sent is tried until it can: its offset waits
    for it.
    """

    def __init__(self, sender: LetterSender, progress: Progress, stats: DeliverStats, uniform: Uniform) -> None:
        self._sender = sender
        self._progress = progress
        self._stats = stats
        self._uniform = uniform
        self._queue: deque[tuple[Undelivered, bytes | None, Ticket]] = deque()
        self._wake = asyncio.Event()
        self._failures = 0

    @property
    def full(self) -> bool:
        return len(self._queue) >= PENDING_LIMIT

    @property
    def pending(self) -> int:
        return len(self._queue)

    def post(self, what: Undelivered, key: bytes | None, ticket: Ticket) -> None:
        """Hand over; the ticket is finished once the broker has the letter."""
        log.warning(
            "undelivered (%s): %s, %s/%d@%d, sink %s: %s",
            what.reason,
            repr(what.alert.alert_id) if what.alert else "no alert",
            what.source_topic,
            what.source_partition,
            what.source_offset,
            what.sink or "all",
            what.detail,
        )
        self._queue.append((what, key, ticket))
        self._stats.undelivered_pending = len(self._queue)
        self._wake.set()

    async def run(self) -> None:
        """Send what is posted, in order, until cancelled."""
        while True:
            rest = await self.step()
            if rest is None:
                self._wake.clear()
                await self._wake.wait()
            elif rest > 0:
                await asyncio.sleep(rest)

    async def step(self) -> float | None:
        """Try the first letter. Seconds to rest before the next step, None when there is nothing to send."""
        if not self._queue:
            return None
        what, key, ticket = self._queue[0]
        if not self._progress.holds(ticket):
            self._pop()  # the partition's new owner reads it again and judges for itself
            return 0.0
        outcome = await self._sender.send(key, what.model_dump_json().encode())
        if outcome == "too_large":
            if what.alert is None:
                log.error("the broker refuses even the shortened dead letter; raise its message.max.bytes")
            else:
                self._queue[0] = shrunk(what), key, ticket
                return 0.0
        if outcome != "sent":
            self._failures += 1
            return RETRY.wait_s(self._failures, None, self._uniform)
        self._failures = 0
        self._pop()
        self._stats.undelivered[what.sink or "", what.reason] += 1
        self._progress.finish(ticket)
        return 0.0

    def _pop(self) -> None:
        self._queue.popleft()
        self._stats.undelivered_pending = len(self._queue)
