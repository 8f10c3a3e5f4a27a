"""What the delivery process counts. Labels are few: sinks by name, reasons from the contracts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class DeliverStats:
    """Counters since the start, and the state of each sink's queue."""

    read: int = 0
    tombstones: int = 0
    unrouted: int = 0
    undelivered_pending: int = 0
    delivered: Counter[str] = field(default_factory=Counter)
    duplicates: Counter[str] = field(default_factory=Counter)
    retries: Counter[tuple[str, str]] = field(default_factory=Counter)
    undelivered: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(sink, reason); sink "" where the message was no alert."""
    waiting: dict[str, int] = field(default_factory=dict)
    failing: dict[str, bool] = field(default_factory=dict)
    committed: dict[int, int] = field(default_factory=dict)
    """Partition to the offset handed over for commit."""

    def snapshot(self) -> dict[str, object]:
        """A copy in JSON's types; pairs become "sink/reason"."""
        return {
            "read": self.read,
            "tombstones": self.tombstones,
            "unrouted": self.unrouted,
            "delivered": dict(self.delivered),
            "duplicates": dict(self.duplicates),
            "retries": {"/".join(key): count for key, count in self.retries.items()},
            "undelivered": {"/".join(key): count for key, count in self.undelivered.items()},
            "undelivered_pending": self.undelivered_pending,
            "waiting": dict(self.waiting),
            "failing": dict(self.failing),
            "committed": {str(partition): offset for partition, offset in self.committed.items()},
        }
