"""Columns of a batch to sparse count vectors, one for each (cell, arrival pane, cohort day). The inner loop of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.auc import SCORE_BINS, score_bins
from streams.layout import CALIBRATION_BINS, COLLAPSE_SLOTS, DELAY_BINS, LATENCY_BINS, Layout
from streams.measure import OUT_OF_DISTRIBUTION_Z, Columns, Floats, entropy, log_loss

Indices = npt.NDArray[np.int64]
DENSE_SHARE = 16  # entries are counted in a table of up to so many times their number, else sorted

LATENCY_LEAST_MS, LATENCY_GROWTH = 0.01, 1.04
DELAY_LEAST_S, DELAY_GROWTH = 0.01, 1.06


class Sparse(NamedTuple):
    """The non-zero slots of one vector, ascending: integers and sums apart."""

    indices: Indices
    counts: Indices
    sum_indices: Indices
    sums: Floats


class Parts(NamedTuple):
    """Non-zero slots of every key, key after key: those of key k are [bounds[k], bounds[k + 1])."""

    bounds: list[int]
    indices: Indices
    values: Floats


class Tally:
    """Entries (row, slot, weight) of one batch, folded into one sparse vector for each key."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._counted: list[tuple[Indices, Indices]] = []
        self._weighted: list[tuple[Indices, Indices, Floats]] = []

    def add(self, rows: Indices, slots: Indices, weights: Floats | float = 1.0) -> None:
        """Entries [n] or [k, n]; rows [n] index the keys given to `fold`."""
        if not len(rows):
            return
        if isinstance(weights, float):
            if weights == 1.0:
                self._counted.append((rows, slots))
                return
            weights = np.full(slots.shape, weights)
        self._weighted.append((rows, slots, weights))

    def one(self, name: str, rows: Indices, weights: Floats | float = 1.0) -> None:
        """Entries in a section of one slot."""
        if len(rows) and name in self.layout.slots:
            self.add(rows, np.full(len(rows), self.layout.offset(name)), weights)

    def fold(self, keys: Indices, n_keys: int) -> list[Sparse]:
        """`keys` is [rows, memberships]: the keys each row counts for, -1 for none. One vector a key, in order."""
        counts, sums = self.parts(keys, n_keys)
        numbers = np.rint(counts.values).astype(np.int64)
        return [
            Sparse(
                counts.indices[at:end], numbers[at:end], sums.indices[sums_at:sums_end], sums.values[sums_at:sums_end]
            )
            for at, end, sums_at, sums_end in zip(
                counts.bounds, counts.bounds[1:], sums.bounds, sums.bounds[1:], strict=False
            )
        ]

    def parts(self, keys: Indices, n_keys: int) -> tuple[Parts, Parts]:
        """Integer counts and real-valued sums of every key."""
        size = self.layout.size
        n = sum(slots.size for _, slots in self._counted) + sum(slots.size for _, slots, _ in self._weighted)
        if len(keys) * size <= n:
            # Few rows, many entries: into the whole table, large blocks as they are.
            table = np.zeros(len(keys) * size)
            for rows, slots in _joined(self._counted):
                table += np.bincount((rows * size + slots).ravel(), minlength=len(table))
            for rows, slots, weights in _joined(self._weighted):
                table += np.bincount((rows * size + slots).ravel(), weights=weights.ravel(), minlength=len(table))
            dense = table.reshape(-1, size)
            columns = np.flatnonzero(dense.any(axis=0))
            width = len(columns)
            entries, totals = _by_row(dense[:, columns], keys)
        else:
            none = np.empty(0, np.int64)
            blocks = [*self._counted, *((rows, slots) for rows, slots, _ in self._weighted)]
            rows = np.concatenate(
                [none, *(rows if slots.ndim == 1 else np.tile(rows, len(slots)) for rows, slots in blocks)]
            )
            slots = np.concatenate([none, *(slots.ravel() for _, slots in blocks)])
            weights = np.concatenate([np.empty(0), *(weights.ravel() for _, _, weights in self._weighted)])
            used = np.zeros(size, dtype=np.bool_)
            used[slots] = True
            columns = np.flatnonzero(used)
            width = len(columns)
            # Every row is folded once, however many keys it counts for; a batch uses a part of the slots.
            if len(keys) * width < DENSE_SHARE * len(rows):
                compact = np.empty(size, dtype=np.int64)
                compact[columns] = np.arange(width)
                place = rows * width + compact[slots]
                counted = len(place) - len(weights)
                table = np.bincount(place[:counted], minlength=len(keys) * width).astype(np.float64)
                table += np.bincount(place[counted:], weights=weights, minlength=len(keys) * width)
                entries, totals = _by_row(table.reshape(-1, width), keys)
            else:
                columns, width = np.arange(size), size
                entries, totals = _by_sorting(rows, slots, weights, keys, width)
        key, slot = np.divmod(entries, width) if width else (entries, entries)
        slot = columns[slot]
        whole = slot < self.layout.integers
        return _parts(key, slot, totals, whole, n_keys), _parts(key, slot, totals, ~whole, n_keys)


def _parts(key: Indices, slot: Indices, totals: Floats, chosen: npt.NDArray[np.bool_], n_keys: int) -> Parts:
    return Parts(np.searchsorted(key[chosen], np.arange(n_keys + 1)).tolist(), slot[chosen], totals[chosen])


def _joined(blocks: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The blocks of one dimension as one, and each of two."""
    flat = [block for block in blocks if block[1].ndim == 1]
    whole = [tuple(np.concatenate(parts) for parts in zip(*flat, strict=True))] if flat else []
    return whole + [block for block in blocks if block[1].ndim == 2]


def _by_row(table: Floats, keys: Indices) -> tuple[Indices, Floats]:
    """Adds the rows of each key: places (key, column), ascending, and their totals."""
    width = table.shape[1]
    row, membership = np.nonzero(keys >= 0)
    key = keys[row, membership]
    order = np.argsort(key, kind="stable")
    key, row = key[order], row[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    sums = np.add.reduceat(table[row], starts, axis=0)
    flat = np.flatnonzero(sums)
    return key[starts][flat // width] * width + flat % width, sums.ravel()[flat]


def _by_sorting(rows: Indices, slots: Indices, weights: Floats, keys: Indices, width: int) -> tuple[Indices, Floats]:
    """The same for rows that share few keys: a replay of a slow log has a pane for every row."""
    counted = len(rows) - len(weights)
    place, totals = _sum_equal(rows * width + slots, np.concatenate([np.ones(counted), weights]))
    row, slot = np.divmod(place, width)
    places, values = [], []
    for membership in range(keys.shape[1]):
        key = keys[row, membership]
        kept = key >= 0
        places.append(key[kept] * width + slot[kept])
        values.append(totals[kept])
    place, totals = _sum_equal(np.concatenate(places), np.concatenate(values))
    nonzero = totals != 0.0
    return place[nonzero], totals[nonzero]


def _sum_equal(place: Indices, values: Floats) -> tuple[Indices, Floats]:
    if not len(place):
        return place, values
    order = np.argsort(place, kind="stable")
    place = place[order]
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    return place[starts], np.add.reduceat(values[order], starts)


@lru_cache(maxsize=1024)
def _feature_starts(layout: Layout) -> Indices:
    """[3, features, 1]: the first slots of each feature's counts, sums and absences."""
    sections = ("feature", "z", "absent")
    return np.array([[[layout.offset(f"{section}:{name}")] for name, _ in layout.features] for section in sections])


def tally_predictions(
    tally: Tally, columns: Columns, rows: Indices, latency_ms: Floats | None = None, confidence: Floats | None = None
) -> None:
    """What a prediction says before its label: bins, moments, nulls, entropy, latency. `rows` [n] index the keys of `fold`."""
    layout = tally.layout
    tally.one("rows", rows)
    valid = np.isfinite(columns.score)
    tally.one("score_sum", rows[valid], columns.score[valid])
    tally.one("score_squares", rows[valid], columns.score[valid] ** 2)
    if "predicted_positive" in layout.slots:
        tally.one("predicted_positive", rows[columns.predicted == 1.0])
    elif layout.task == "multiclass":
        known = np.isfinite(columns.predicted)
        tally.add(rows[known], layout.offset("predicted") + columns.predicted[known].astype(np.int64))
    if columns.score_codes is not None:
        tally.add(rows, layout.offset("score") + columns.score_codes.astype(np.int64))
    if layout.features:
        starts = _feature_starts(layout)
        z = columns.z.T
        tally.add(rows, columns.codes.T + starts[0])
        tally.add(rows, np.repeat(starts[1], len(rows), axis=1), z)
        tally.add(rows, np.repeat(starts[1] + 1, len(rows), axis=1), z * z)
        if columns.absent.any():
            row_at, feature_at = np.nonzero(columns.absent)
            tally.add(rows[row_at], starts[2, feature_at, 0])
        tally.one("extra", rows[columns.extra])
        tally.one("out_of_distribution", rows[columns.furthest > OUT_OF_DISTRIBUTION_Z])
    if layout.task != "regression":
        nats = entropy(columns)
        stated = np.isfinite(nats)
        tally.one("entropy_rows", rows[stated])
        tally.one("entropy_sum", rows[stated], nats[stated])
        tally.one("entropy_squares", rows[stated], nats[stated] ** 2)
    rounded = np.rint(np.where(valid, columns.score, 0.0) * 1e6)
    # A cheap mix of the rounded score: one most frequent value shows as one full slot.
    mixed = (np.clip(rounded, -(2**52), 2**52).astype(np.int64) * 2654435761 >> 16) % COLLAPSE_SLOTS
    tally.add(rows, layout.offset("collapse") + mixed)
    if latency_ms is not None:
        measured = np.isfinite(latency_ms) & (latency_ms >= 0)
        tally.one("latency_rows", rows[measured])
        tally.one("latency_sum", rows[measured], latency_ms[measured])
        tally.add(
            rows[measured],
            layout.offset("latency") + log_bins(latency_ms[measured], LATENCY_LEAST_MS, LATENCY_GROWTH, LATENCY_BINS),
        )
    if confidence is not None:
        stated = np.isfinite(confidence)
        tally.one("confidence_rows", rows[stated])
        tally.one("confidence_sum", rows[stated], confidence[stated])


def tally_outcomes(
    tally: Tally,
    rows: Indices,
    score: Floats,
    predicted: Floats,
    label: Floats,
    score_codes: npt.NDArray[np.uint8] | None,
    class_scores: npt.NDArray[np.float32] | None,
    sign: float = 1.0,
) -> None:
    """What a joined row says: class histograms, confusion, losses. `sign` -1 takes an old label back."""
    layout = tally.layout
    if not len(rows):
        return
    if layout.task == "regression":
        error = predicted - label
        finite = np.isfinite(error)
        rows, error, label = rows[finite], error[finite], label[finite]
        for name, values in (
            ("error", error),
            ("absolute_error", np.abs(error)),
            ("squared_error", error**2),
            ("truth", label),
            ("truth_squares", label**2),
        ):
            tally.one(name, rows, sign * values)
        return
    if layout.task == "multiclass":
        _tally_classes(tally, rows, predicted, label, class_scores, sign)
        return
    usable = (score >= 0.0) & (score <= 1.0)
    rows, score, predicted, label = rows[usable], score[usable], predicted[usable], label[usable]
    positive = label == 1.0
    bins = score_bins(score)
    tally.add(rows, np.where(positive, layout.offset("positives"), layout.offset("negatives")) + bins, sign)
    known = np.isfinite(predicted)
    square = 2 * positive[known].astype(np.int64) + predicted[known].astype(np.int64)
    tally.add(rows[known], layout.offset("confusion") + square, sign)
    decile = np.minimum((score * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    tally.add(rows, layout.offset("calibration_rows") + decile, sign)
    tally.add(rows[positive], layout.offset("calibration_positives") + decile[positive], sign)
    tally.add(rows, layout.offset("calibration_scores") + decile, sign * score)
    if score_codes is not None:
        codes = score_codes[usable].astype(np.int64)
        tally.add(rows, layout.offset("labelled") + codes, sign)
        tally.add(rows[positive], layout.offset("labelled_positives") + codes[positive], sign)
    truth = np.where(positive, score, 1.0 - score)
    tally.one("log_loss", rows, sign * log_loss(truth))
    tally.one("squared_loss", rows, sign * (score - label) ** 2)


def _tally_classes(
    tally: Tally,
    rows: Indices,
    predicted: Floats,
    label: Floats,
    class_scores: npt.NDArray[np.float32] | None,
    sign: float,
) -> None:
    layout = tally.layout
    width = len(layout.classes) + 1
    known = np.isfinite(predicted) & np.isfinite(label)
    rows, given, truth_at = rows[known], predicted[known].astype(np.int64), label[known].astype(np.int64)
    tally.add(rows, layout.offset("confusion") + truth_at * width + given, sign)
    if class_scores is None or not layout.classes:
        return
    shares = class_scores[known].astype(np.float64)
    inside = truth_at < width - 1
    truth = np.where(inside, shares[np.arange(len(truth_at)), np.minimum(truth_at, width - 2)], 0.0)
    tally.one("log_loss", rows, sign * log_loss(truth))
    one_hot = (np.arange(width - 1) == truth_at[:, None]).astype(np.float64)
    tally.one("squared_loss", rows, sign * ((shares - one_hot) ** 2).sum(axis=1))


def log_bins(values: Floats, least: float, growth: float, bins: int) -> Indices:
    """Bin of a positive value: bin k holds (least growth^(k-1), least growth^k], so a quantile is known to sqrt(growth)."""
    with np.errstate(divide="ignore"):
        raw = np.ceil(np.log(values / least) / np.log(growth))
    return np.asarray(np.clip(np.nan_to_num(raw, neginf=0.0), 0, bins - 1), dtype=np.int64)


def log_bin_values(least: float, growth: float, bins: int) -> Floats:
    """The middle (in ratio) of each bin: within sqrt(growth) - 1 of every value of the bin."""
    return np.asarray(least * growth ** (np.arange(bins) - 0.5), dtype=np.float64)


def tally_delays(tally: Tally, rows: Indices, delay_s: Floats) -> None:
    """How long labels took."""
    tally.add(
        rows, tally.layout.offset("delay") + log_bins(np.maximum(delay_s, 0.0), DELAY_LEAST_S, DELAY_GROWTH, DELAY_BINS)
    )


__all__ = [
    "SCORE_BINS",
    "Sparse",
    "Tally",
    "log_bin_values",
    "log_bins",
    "tally_delays",
    "tally_outcomes",
    "tally_predictions",
]
