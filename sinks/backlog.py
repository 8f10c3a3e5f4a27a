"""What waits for one sink, and what is tried next. Pure: time and chance are arguments.

Alerts of one incident stay in order: the next is not tried before the one in front of it is delivered or given up.
Incidents do not wait for each other, so that one alert that the other side chokes on delays its own incident only.
After any failure the whole sink rests (backoff over failures in a row), so that an outage costs one probe a rest and
not one an alert.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from leadline.alert import Alert
from sinks.retry import RetryPolicy, Uniform

T = TypeVar("T")


@dataclass(slots=True)
class Waiting(Generic[T]):
    """One alert in a backlog; `ticket` is the caller's."""

    alert: Alert
    ticket: T
    sequence: int
    since: float
    attempts: int = 0
    not_before: float = 0.0


class Backlog(Generic[T]):
    """At most `limit` alerts. Times are seconds of one monotonic clock."""

    def __init__(self, policy: RetryPolicy, limit: int, uniform: Uniform) -> None:
        self._policy = policy
        self._limit = limit
        self._uniform = uniform
        self._incidents: dict[str, deque[Waiting[T]]] = {}
        self._count = 0
        self._sequence = 0
        self._failures = 0
        self._rest_until = 0.0

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        return self._count >= self._limit

    @property
    def failing(self) -> bool:
        """The last attempt failed."""
        return self._failures > 0

    def push(self, alert: Alert, ticket: T, now: float) -> bool:
        """Append; False, and nothing is done, if there is no room."""
        if self.full:
            return False
        self._sequence += 1
        self._incidents.setdefault(alert.incident_id, deque()).append(Waiting(alert, ticket, self._sequence, now))
        self._count += 1
        return True

    def take(self, now: float) -> Waiting[T] | None:
        """What may be tried now: the least tried, among those the longest waiting. It stays until it is dealt with.

        The least tried first, so that after a failure the next probe is another incident's: if that one goes through,
        the sink is well and the first alert was the trouble.
        """
        if now < self._rest_until:
            return None
        ready = [queue[0] for queue in self._incidents.values() if queue[0].not_before <= now]
        return min(ready, key=lambda each: (each.attempts, each.sequence), default=None)

    def overdue(self, now: float) -> Waiting[T] | None:
        """An alert to give up: too old while the sink fails. A sink that works gets even the oldest alert."""
        if not self.failing:
            return None
        limit = now - self._policy.give_up_after_s
        heads = [queue[0] for queue in self._incidents.values() if queue[0].since <= limit]
        return min(heads, key=lambda each: each.sequence, default=None)

    def wait_s(self, now: float) -> float | None:
        """Seconds until something is to be done; None: not before the next `push`."""
        if not self._incidents:
            return None
        heads = [queue[0] for queue in self._incidents.values()]
        at = max(self._rest_until, min(head.not_before for head in heads))
        if self.failing:
            at = min(at, min(head.since for head in heads) + self._policy.give_up_after_s)
        return max(0.0, at - now)

    def succeeded(self, item: Waiting[T]) -> None:
        """The other side answered as it should: taken, or refused for good. The sink is well."""
        self._failures = 0
        self._rest_until = 0.0
        self.remove(item)

    def failed(self, item: Waiting[T], now: float, after_s: float | None) -> None:
        """Keep it for later."""
        self._failures += 1
        item.attempts += 1
        self._rest_until = now + self._policy.wait_s(self._failures, after_s, self._uniform)
        item.not_before = now + self._policy.wait_s(item.attempts, after_s, self._uniform)

    def remove(self, item: Waiting[T]) -> None:
        """Take the head of its incident out, without a word about the sink's health."""
        queue = self._incidents.get(item.alert.incident_id)
        if not queue or queue[0] is not item:
            return  # purged meanwhile
        queue.popleft()
        self._count -= 1
        if not queue:
            del self._incidents[item.alert.incident_id]

    def purge(self, keep: Callable[[T], bool]) -> None:
        """Forget what belongs to a partition that is no longer ours: its new owner delivers it."""
        for incident in list(self._incidents):
            kept = deque(item for item in self._incidents[incident] if keep(item.ticket))
            self._count -= len(self._incidents[incident]) - len(kept)
            if kept:
                self._incidents[incident] = kept
            else:
                del self._incidents[incident]
