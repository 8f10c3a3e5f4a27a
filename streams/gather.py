"""Counts of one batch for one model, gathered from predictions and from outcomes, folded into digest cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from leadline.events import Digest, DigestCell, DigestSample, LearningRow
from streams.combinations import Combinations
from streams.references import Reference
from streams.tally import Indices, Tally

DAY_S = 86_400
COHORT_S = 900
CELLS_PER_DIGEST = 30_000  # non-zero slots in one message: well below a broker's default limit of 1 MiB


class Gather:
    """Rows are added with their combination, arrival pane and day of prediction; what they count for goes into `tally`."""

    def __init__(self, model_id: str, reference: Reference) -> None:
        self.model_id = model_id
        self.reference = reference
        self.tally = Tally(reference.layout)
        self.samples: list[DigestSample] = []
        self.learning: list[LearningRow] = []
        self.schema_seen: dict[str, dict[str, int]] = {}
        self._combinations: list[Indices] = []
        self._panes: list[Indices] = []
        self._days: list[Indices] = []
        self._rows = 0
        self._cohorts: dict[int, list[int]] = {}

    def add_rows(self, combinations: Indices, panes: Indices, times: npt.NDArray[np.float64]) -> Indices:
        """Numbers of new rows, for the tally; `times` are the predictions', epoch seconds."""
        n = len(combinations)
        self._combinations.append(combinations)
        self._panes.append(panes)
        self._days.append((times // DAY_S).astype(np.int64))
        numbers = np.arange(self._rows, self._rows + n)
        self._rows += n
        return numbers

    def add_cohorts(self, times: npt.NDArray[np.float64], kind: int, signs: npt.NDArray[np.int64] | None = None) -> None:
        """Predictions (0), joined (1) or late (2) by the quarter hour of the prediction."""
        starts, inverse = np.unique((times // COHORT_S).astype(np.int64) * COHORT_S, return_inverse=True)
        totals = np.bincount(inverse, weights=signs, minlength=len(starts))
        for start, total in zip(starts.tolist(), totals.tolist(), strict=True):
            self._cohorts.setdefault(start, [0, 0, 0])[kind] += int(total)

    def cells(self, combinations: Combinations) -> list[DigestCell]:
        """One sparse vector for each (cell, pane, day), in order of cell, pane and day."""
        if not self._rows:
            return []
        memberships = combinations.memberships[np.concatenate(self._combinations)]
        memberships = memberships[:, : max(int((memberships >= 0).sum(axis=1).max()), 1)]
        panes, days = np.concatenate(self._panes), np.concatenate(self._days)
        first_pane, first_day = int(panes.min()), int(days.min())
        pane_range, day_range = int(panes.max()) - first_pane + 1, int(days.max()) - first_day + 1
        when = (panes - first_pane) * day_range + (days - first_day)
        combined = np.where(memberships >= 0, memberships * (pane_range * day_range) + when[:, None], -1)
        distinct, inverse = np.unique(combined, return_inverse=True)
        keys = inverse.reshape(combined.shape)
        if len(distinct) and distinct[0] < 0:
            distinct, keys = distinct[1:], keys - 1
        cells = []
        for code, sparse in zip(distinct.tolist(), self.tally.fold(keys, len(distinct)), strict=True):
            number, rest = divmod(code, pane_range * day_range)
            pane, day = divmod(rest, day_range)
            _, version, stage, segment = combinations.cells[number]
            if len(sparse.indices) or len(sparse.sum_indices):
                cells.append(
                    DigestCell(
                        version,
                        stage,
                        segment,
                        pane + first_pane,
                        day + first_day,
                        sparse.indices.tolist(),
                        sparse.counts.tolist(),
                        sparse.sum_indices.tolist(),
                        sparse.sums.tolist(),
                    )
                )
        return cells

    def digests(self, combinations: Combinations, source: int, sequence: int, clock: float, sent_at: float) -> Iterator[Digest]:
        """The batch's messages for this model, each of bounded size; what is no cell goes with the first."""
        cells = self.cells(combinations)
        first = True
        for part in _split(cells) or [[]]:
            yield Digest(
                source=source,
                sequence=sequence,
                model_id=self.model_id,
                layout=self.reference.layout.fingerprint + self.reference.bins_fingerprint,
                clock=clock,
                sent_at=sent_at,
                cells=part,
                samples=self.samples if first else [],
                cohorts=[(start, *kinds) for start, kinds in sorted(self._cohorts.items())] if first else [],  # type: ignore[misc]
                learning=self.learning if first else [],
                schema_seen=self.schema_seen if first else {},
            )
            sequence += 1
            first = False


def _split(cells: Sequence[DigestCell]) -> list[list[DigestCell]]:
    parts: list[list[DigestCell]] = []
    size = CELLS_PER_DIGEST
    for cell in cells:
        weight = len(cell.indices) + 2 * len(cell.sum_indices) + 20
        if size + weight > CELLS_PER_DIGEST:
            parts.append([])
            size = 0
        parts[-1].append(cell)
        size += weight
    return parts
