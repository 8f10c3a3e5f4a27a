"""Which blocks close when: cells' blocks of every level by the pane at which they end, in the order in which they were announced."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from streams.judge.incidents import Where


class Closings:
    """Ends are panes: block b of level k ends at (b + 1) * 2^k. A block announced twice closes once."""

    def __init__(self) -> None:
        self._ends: list[int] = []
        self._cells: dict[int, dict[int, dict[Where, None]]] = {}

    def announce(self, end: int, level: int, where: Where) -> None:
        """The cell's block of this level that ends at `end` holds something."""
        levels = self._cells.get(end)
        if levels is None:
            levels = self._cells[end] = {}
            heapq.heappush(self._ends, end)
        levels.setdefault(level, {})[where] = None

    def first(self) -> int | None:
        """The earliest end; None where nothing is announced."""
        return self._ends[0] if self._ends else None

    def take(self) -> Iterator[tuple[int, Where]]:
        """(level, cell) of all that ends first, by level: what the loop announces for the same end at a higher level is among them."""
        levels = self._cells[self._ends[0]]
        level = min(levels)
        while level in levels:
            for where in levels[level]:
                yield level, where
            level = min((other for other in levels if other > level), default=-1)
        del self._cells[heapq.heappop(self._ends)]

    def clear(self) -> None:
        self._ends.clear()
        self._cells.clear()
