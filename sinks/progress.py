"""How far each partition of the alerts topic is done: an offset is done when every sink it was routed to has it, or the
dead letters do.

The committed offset is the first that is not done. Filled by the event loop, cleared by the consumer's callbacks in
their thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Ticket:
    """One record under way. `open` counts the sinks that do not have it yet."""

    partition: int
    offset: int
    epoch: int
    open: int = 1


@dataclass(slots=True)
class _Partition:
    epoch: int
    under_way: deque[Ticket] = field(default_factory=deque)
    next_offset: int | None = None
    taken: int | None = None


class Progress:
    """Tickets by partition and assignment. What belonged to an earlier assignment counts no more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._epoch = 0
        self._partitions: dict[int, _Partition] = {}

    def assigned(self, partitions: Iterable[int]) -> None:
        with self._lock:
            self._epoch += 1
            for partition in partitions:
                self._partitions[partition] = _Partition(self._epoch)

    def revoked(self, partitions: Iterable[int]) -> None:
        with self._lock:
            for partition in partitions:
                self._partitions.pop(partition, None)

    def begin(self, partition: int, offset: int) -> Ticket | None:
        """A ticket for the next record of a partition; None if the partition is not ours (the record came before a
        revocation).
        """
        with self._lock:
            state = self._partitions.get(partition)
            if state is None:
                return None
            ticket = Ticket(partition, offset, state.epoch)
            state.under_way.append(ticket)
            return ticket

    def holds(self, ticket: Ticket) -> bool:
        """Whether the ticket's partition has been ours since the ticket was made."""
        with self._lock:
            state = self._partitions.get(ticket.partition)
            return state is not None and state.epoch == ticket.epoch

    def finish(self, ticket: Ticket) -> None:
        """One sink has it."""
        with self._lock:
            ticket.open -= 1
            state = self._partitions.get(ticket.partition)
            if state is None:
                return
            # A ticket of an earlier assignment stands in no queue any more: it cannot move the offset.
            while state.under_way and state.under_way[0].open <= 0:
                state.next_offset = state.under_way.popleft().offset + 1

    def take(self) -> dict[int, int]:
        """Partition to the offset to commit, where it has moved since the last `take`."""
        with self._lock:
            moved = {}
            for partition, state in self._partitions.items():
                if state.next_offset is not None and state.next_offset != state.taken:
                    moved[partition] = state.taken = state.next_offset
            return moved

    @property
    def under_way(self) -> int:
        """Records begun and not yet part of a committable offset."""
        with self._lock:
            return sum(len(state.under_way) for state in self._partitions.values())
