"""What a worker shows of itself: the Redis hash `{prefix}:worker:{worker id}`, for people.

Renewed every second, gone a minute after a worker that ended without saying so.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from streams.transport.chain import Place
from streams.worker.owners import Standing
from streams.worker.shared import Counters

EXPIRE_S = 60


@dataclass(frozen=True, slots=True)
class WorkerProgress:
    """A worker at one moment. `healthy`: nothing has stood still for half the time that ends the process."""

    worker_id: str
    group: str
    started_at: float
    updated_at: float
    state: str
    healthy: bool
    events: int
    events_per_s: float
    commits: int
    commits_refused: int
    claims: int
    rewinds: int
    data_gaps: int
    outbox_waiting: int
    outbox_sent: int
    partitions: Mapping[Place, Standing] = field(default_factory=dict)

    @property
    def lag(self) -> int:
        """Offsets not yet taken in, over all partitions whose end is known."""
        return sum(standing.lag or 0 for standing in self.partitions.values())

    @property
    def misplaced_keys(self) -> float:
        """The greatest share of keys in a wrong partition, over all partitions; 0 is right."""
        return max((standing.misplaced for standing in self.partitions.values()), default=0.0)

    def view(self) -> dict[str, str]:
        """Hash fields for people: figures, then a line for each partition."""
        fields = {
            "state": self.state,
            "healthy": "yes" if self.healthy else "no",
            "host": socket.gethostname(),
            "pid": str(os.getpid()),
            "group": self.group,
            "started": readable(self.started_at),
            "updated": readable(self.updated_at),
            "events": str(self.events),
            "events_per_second": f"{self.events_per_s:.0f}",
            "lag": str(self.lag),
            "commits": str(self.commits),
            "commits_refused": str(self.commits_refused),
            "claims": str(self.claims),
            "rewinds": str(self.rewinds),
            "data_gaps": str(self.data_gaps),
            "misplaced_keys": f"{self.misplaced_keys:.4f}",
            "outbox_waiting": str(self.outbox_waiting),
            "outbox_sent": str(self.outbox_sent),
        }
        for place, standing in sorted(self.partitions.items()):
            lag = "?" if standing.lag is None else standing.lag
            words = f"offset {standing.offset} lag {lag}"
            if standing.holes:
                words += f" without a record {standing.holes}"
            if standing.misplaced:
                words += f" misplaced keys {standing.misplaced:.1%}"
            fields[f"{place.topic}/{place.partition}"] = words
        return fields


def readable(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="seconds")


class Rate:
    """Events a second over the last few looks."""

    def __init__(self, window_s: float = 5.0) -> None:
        self._window = window_s
        self._looks: list[tuple[float, int]] = []

    def see(self, now: float, count: int) -> float:
        self._looks.append((now, count))
        while len(self._looks) > 2 and now - self._looks[1][0] >= self._window:
            self._looks.pop(0)
        first_at, first = self._looks[0]
        return (count - first) / (now - first_at) if now > first_at else 0.0


def counted(counters: Counters) -> dict[str, int]:
    """The counters under the names of `WorkerProgress`."""
    return {
        "events": counters.records,
        "commits": counters.commits,
        "commits_refused": counters.refused,
        "claims": counters.claims,
        "rewinds": counters.rewinds,
        "data_gaps": counters.gaps,
    }
