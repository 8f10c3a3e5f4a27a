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
        self._groups: list[tuple[Indices, Indices, Indices]] = []
        self._n_groups = 0
        self._cohorts: dict[tuple[int, int], list[int]] = {}
        self._definitions: dict[tuple[int, str], int] = {}

    def add_rows(self, combinations: Indices, panes: Indices, times: npt.NDArray[np.float64]) -> Indices:
        """The group of each new row, for the tally: rows of one group count for the same cells.

        `times` are the predictions', epoch seconds.
        """
        if not len(combinations):
            return combinations
        days = (times // DAY_S).astype(np.int64)
        first_pane, first_day = int(panes.min()), int(days.min())
        pane_range, day_range = int(panes.max()) - first_pane + 1, int(days.max()) - first_day + 1
        code = (combinations * pane_range + (panes - first_pane)) * day_range + (days - first_day)
        distinct, group = distinct_codes(code)
        when, day = np.divmod(distinct, day_range)
        combination, pane = np.divmod(when, pane_range)
        self._groups.append((combination, pane + first_pane, day + first_day))
        group += self._n_groups
        self._n_groups += len(distinct)
        return group

    def add_cohorts(
        self,
        times: npt.NDArray[np.float64],
        visible: npt.NDArray[np.float64],
        kind: int,
        signs: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Predictions (0), joined (1) or late (2) by the quarter hours of the prediction and of what was seen of it."""
        starts, seen = (times // COHORT_S).astype(np.int64), (visible // COHORT_S).astype(np.int64)
        first, width = int(seen.min()), int(seen.max() - seen.min()) + 1
        numbers, inverse = distinct_codes(starts * width + (seen - first))
        totals = np.bincount(inverse, weights=signs, minlength=len(numbers))
        for number, total in zip(numbers.tolist(), totals.tolist(), strict=True):
            start, when = divmod(number, width)
            key = (start * COHORT_S, (when + first) * COHORT_S)
            self._cohorts.setdefault(key, [0, 0, 0])[kind] += int(total)

    def count_definition(self, pane: int, definition: str) -> None:
        """A label that names the version of its definition, by the pane in which it was seen."""
        key = (pane, definition)
        self._definitions[key] = self._definitions.get(key, 0) + 1

    def cells(self, combinations: Combinations) -> list[DigestCell]:
        """One sparse vector for each (cell, pane, day), in order of cell, pane and day."""
        if not self._n_groups:
            return []
        of_group, panes, days = (np.concatenate(parts) for parts in zip(*self._groups, strict=True))
        memberships = combinations.memberships[of_group]
        memberships = memberships[:, : max(int((memberships >= 0).sum(axis=1).max()), 1)]
        first_pane, first_day = int(panes.min()), int(days.min())
        pane_range, day_range = int(panes.max()) - first_pane + 1, int(days.max()) - first_day + 1
        when = (panes - first_pane) * day_range + (days - first_day)
        combined = np.where(memberships >= 0, memberships * (pane_range * day_range) + when[:, None], -1)
        distinct, inverse = np.unique(combined, return_inverse=True)
        keys = inverse.reshape(combined.shape)
        if len(distinct) and distinct[0] < 0:
            distinct, keys = distinct[1:], keys - 1
        counts, sums = self.tally.parts(keys, len(distinct))
        indices, numbers = counts.indices.tolist(), np.rint(counts.values).astype(np.int64).tolist()
        sum_indices, amounts = sums.indices.tolist(), sums.values.tolist()
        cells = []
        at = sums_at = 0
        for code, end, sums_end in zip(distinct.tolist(), counts.bounds[1:], sums.bounds[1:], strict=True):
            number, rest = divmod(code, pane_range * day_range)
            pane, day = divmod(rest, day_range)
            _, version, stage, segment = combinations.cells[number]
            if end > at or sums_end > sums_at:
                cells.append(
                    DigestCell(
                        version,
                        stage,
                        segment,
                        pane + first_pane,
                        day + first_day,
                        indices[at:end],
                        numbers[at:end],
                        sum_indices[sums_at:sums_end],
                        amounts[sums_at:sums_end],
                    )
                )
            at, sums_at = end, sums_end
        return cells

    def digests(
        self, combinations: Combinations, source: int, sequence: int, clock: float, sent_at: float
    ) -> Iterator[Digest]:
        """The batch's messages for this model, each of bounded size; what is no cell goes with the first."""
        cells = self.cells(combinations)
        cohorts = sorted(self._cohorts.items())
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
                cohorts=[(start, rows, joined, late, seen) for (start, seen), (rows, joined, late) in cohorts]
                if first
                else [],
                learning=self.learning if first else [],
                schema_seen=self.schema_seen if first else {},
                definitions=[(pane, name, n) for (pane, name), n in sorted(self._definitions.items())] if first else [],
            )
            sequence += 1
            first = False


def distinct_codes(codes: Indices) -> tuple[Indices, Indices]:
    """Ascending distinct codes and each code's place among them; without sorting where their range is small."""
    low = int(codes.min())
    span = int(codes.max()) - low + 1
    if span > 4 * len(codes) + 1024:
        distinct, inverse = np.unique(codes, return_inverse=True)
        return distinct, inverse.reshape(codes.shape)
    codes = codes - low
    present = np.zeros(span, dtype=np.bool_)
    present[codes] = True
    distinct = np.flatnonzero(present)
    place = np.empty(span, dtype=np.int64)
    place[distinct] = np.arange(len(distinct))
    return distinct + low, place[codes]


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
