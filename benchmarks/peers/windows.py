"""The rest of the statistics that Leadline keeps, for the job ``same``: by window of ten seconds, version and segment value.

Of predictions: rows, ten bins, sum and sum of squares of each feature, bins of the score, positive answers. Of outcomes: confusion, log
loss, Brier score and their squares, ten bins of calibration. Written as a careful author writes per-event Python: one flat list a cell,
places worked out once an event and used for each of its cells.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence

PANE_S = 10.0
BINS = 10
SCORE_BINS = 10
FLOOR = 2.220446049250313e-16


class Windows:
    """All cells of one process. ``centers`` and ``scales`` standardise the features, as large sums would lose their digits."""

    def __init__(self, edges: Sequence[Sequence[float]], centers: Sequence[float], scales: Sequence[float]) -> None:
        self.edges = edges
        self.scaling = list(zip(centers, scales, strict=True))
        features = len(edges)
        self.sums = 2 + SCORE_BINS + BINS * features
        self.squares = self.sums + features
        self.outcomes = self.squares + features
        self.size = self.outcomes + 4 + 4 + 3 * BINS
        self.cells: dict[tuple[float, str, str | None], list[float]] = {}

    def _of(self, timestamp: float, version: str, segments: Mapping[str, str]) -> Iterator[list[float]]:
        pane = timestamp // PANE_S
        for segment in (None, *[f"{name}={value}" for name, value in segments.items()]):
            key = (pane, version, segment)
            cell = self.cells.get(key)
            if cell is None:
                cell = self.cells[key] = [0] * self.size
            yield cell

    def predicted(
        self,
        timestamp: float,
        version: str,
        segments: Mapping[str, str],
        values: Sequence[float],
        score: float,
        answer: int,
    ) -> None:
        """Count one prediction in each of its cells."""
        places = [
            2 + SCORE_BINS + BINS * at + bisect_right(edges, value)
            for at, (edges, value) in enumerate(zip(self.edges, values, strict=True))
        ]
        places.append(2 + min(int(score * SCORE_BINS), SCORE_BINS - 1))
        standard = [(value - center) / scale for value, (center, scale) in zip(values, self.scaling, strict=True)]
        for cell in self._of(timestamp, version, segments):
            cell[0] += 1
            cell[1] += answer
            for place in places:
                cell[place] += 1
            at = self.sums
            for z in standard:
                cell[at] += z
                at += 1
            for z in standard:
                cell[at] += z * z
                at += 1

    def outcome(
        self, timestamp: float, version: str, segments: Mapping[str, str], score: float, answer: int, label: int
    ) -> None:
        """Count one joined pair in each of its cells."""
        loss = -math.log(max(score if label else 1.0 - score, FLOOR))
        square = (score - label) ** 2
        tenth = min(int(score * BINS), BINS - 1)
        first = self.outcomes
        for cell in self._of(timestamp, version, segments):
            cell[first + 2 * label + answer] += 1
            cell[first + 4] += loss
            cell[first + 5] += loss * loss
            cell[first + 6] += square
            cell[first + 7] += square * square
            at = first + 8 + 3 * tenth
            cell[at] += 1
            cell[at + 1] += label
            cell[at + 2] += score

    def merge(self, other: Windows) -> None:
        """Add another part's cells."""
        for key, theirs in other.cells.items():
            mine = self.cells.get(key)
            self.cells[key] = theirs if mine is None else [a + b for a, b in zip(mine, theirs, strict=True)]

    def rows(self, name: str | None) -> int:
        """Predictions counted in all traffic (None), or in all values of one segment name: the same number."""
        return int(
            sum(
                cell[0]
                for (_, _, segment), cell in self.cells.items()
                if (segment is None if name is None else segment is not None and segment.startswith(f"{name}="))
            )
        )

    def joined(self) -> int:
        """Pairs counted in all traffic."""
        first = self.outcomes
        return int(sum(sum(cell[first : first + 4]) for (_, _, segment), cell in self.cells.items() if segment is None))
