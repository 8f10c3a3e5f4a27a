"""Counts of one batch for the models of one reference, gathered from predictions and from outcomes, folded into digests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from leadline.events import Digest, DigestSample, LearningRow
from streams.core.days import DAY_S
from streams.core.digest_cells import Entries, Named, pack_cells
from streams.counting.references import Reference
from streams.counting.tally import Indices, Tally
from streams.observe.combinations import Combinations

COHORT_S = 900
CELLS_PER_DIGEST = 30_000  # non-zero slots in one message: well below a broker's default limit of 1 MiB


@dataclass(slots=True)
class Apart:
    """What a batch says of one model beside its counts."""

    samples: list[DigestSample] = field(default_factory=list)
    learning: list[LearningRow] = field(default_factory=list)
    schema_seen: dict[str, dict[str, int]] = field(default_factory=dict)
    renames: dict[str, list[int]] = field(default_factory=dict)
    cohorts: dict[tuple[str, int, int], list[int]] = field(default_factory=dict)
    """By version (empty: a shadow) and the quarter hours of the prediction and of what was seen of it: predictions, joined, late."""
    definitions: dict[tuple[int, str], int] = field(default_factory=dict)
    """Labels by pane and the version of their definition."""


class Gather:
    """Rows are added with their combination, arrival pane and day of prediction; what they count for goes into `tally`.

    Models that share a reference share a gather: a combination knows its model.
    """

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.tally = Tally(reference.layout)
        self._groups: list[tuple[Indices, Indices, Indices]] = []
        self._n_groups = 0

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

    def cells(self, combinations: Combinations) -> Iterator[tuple[str, list[Named], Entries]]:
        """For each model its cells, in order of cell, pane and day, and a sparse vector for each."""
        if not self._n_groups:
            return
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
        models = combinations.model_of_cell[distinct // (pane_range * day_range)]
        if (models != models[0]).any():
            order = np.argsort(models, kind="stable")
            distinct, models = distinct[order], models[order]
            rank = np.empty(len(order) + 1, dtype=np.int64)
            rank[order], rank[-1] = np.arange(len(order)), -1
            keys = rank[keys]
        entries = self.tally.entries(keys, len(distinct))
        filled = np.flatnonzero(np.diff(entries.bounds))
        if not len(filled):  # counts that cancel out, such as a label corrected and corrected back
            return
        names: list[Named] = []
        for code in distinct[filled].tolist():
            number, rest = divmod(code, pane_range * day_range)
            pane, day = divmod(rest, day_range)
            _, version, stage, segment = combinations.cells[number]
            names.append((version, stage, segment, pane + first_pane, day + first_day))
        models = models[filled]
        bounds = np.append(entries.bounds[filled], entries.bounds[-1])
        starts = np.flatnonzero(np.diff(models, prepend=-1)).tolist()
        for begin, end in zip(starts, [*starts[1:], len(models)], strict=True):
            some = slice(int(bounds[begin]), int(bounds[end]))
            part = Entries(
                bounds[begin : end + 1] - some.start, entries.slots[some], entries.values[some], entries.whole[some]
            )
            yield combinations.models[models[begin]], names[begin:end], part


def digests(
    reference: Reference,
    model_id: str,
    names: list[Named],
    entries: Entries,
    apart: Apart,
    stamp: tuple[int, float, float],
    sequence: int,
) -> Iterator[Digest]:
    """One model's messages of a batch, each of bounded size; what is no cell goes with the first.

    `stamp`: source partition, its clock, and when this is said; `sequence` is the first message's number.
    """
    source, clock, sent_at = stamp
    for number, (begin, end) in enumerate(_split(entries)):
        first = number == 0
        yield Digest(
            source=source,
            sequence=sequence + number,
            model_id=model_id,
            layout=reference.layout.fingerprint + reference.bins_fingerprint,
            clock=clock,
            sent_at=sent_at,
            task=reference.task if reference.is_bare else "",
            classes=list(reference.classes) if reference.is_bare else [],
            **pack_cells(names, entries, begin, end),
            samples=apart.samples if first else [],
            cohorts=[
                (start, rows, joined, late, seen)
                for (_, start, seen), (rows, joined, late) in sorted(apart.cohorts.items())
            ]
            if first
            else [],
            cohort_versions=sorted(Counter(version for version, _, _ in apart.cohorts).items()) if first else [],
            learning=apart.learning if first else [],
            schema_seen=apart.schema_seen if first else {},
            renames=apart.renames if first else {},
            definitions=[(pane, name, n) for (pane, name), n in sorted(apart.definitions.items())] if first else [],
        )


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


def _split(entries: Entries) -> list[tuple[int, int]]:
    """Ranges of cells, each in one message."""
    counted = np.concatenate([np.zeros(1, np.int64), np.cumsum(entries.whole)])
    sizes = np.diff(entries.bounds)
    weights = 2 * sizes - np.diff(counted[entries.bounds]) + 20  # a sum weighs two counts, the cell's name twenty
    if weights.sum() <= CELLS_PER_DIGEST:
        return [(0, len(sizes))]
    cuts = [0]
    size = 0
    for at, weight in enumerate(weights.tolist()):
        if size + weight > CELLS_PER_DIGEST and at > cuts[-1]:
            cuts.append(at)
            size = 0
        size += weight
    return list(zip(cuts, [*cuts[1:], len(sizes)], strict=True))
