"""Columns of a batch to sparse count vectors, one for each (cell, arrival pane, cohort day). The inner loop of the pipeline."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.auc import SCORE_BINS, score_bins
from streams.layout import CALIBRATION_BINS, COLLAPSE_SLOTS, DELAY_BINS, LATENCY_BINS, Layout
from streams.measure import OUT_OF_DISTRIBUTION_Z, Columns, Floats, entropy, log_loss

Indices = npt.NDArray[np.int64]
DENSE_LIMIT = 4_000_000  # above this many slots entries are sorted instead of counted

LATENCY_LEAST_MS, LATENCY_GROWTH = 0.01, 1.04
DELAY_LEAST_S, DELAY_GROWTH = 0.01, 1.06


class Sparse(NamedTuple):
    """The non-zero slots of one vector, ascending: integers and sums apart."""

    indices: Indices
    counts: Indices
    sum_indices: Indices
    sums: Floats


class Tally:
    """Entries (row, slot, weight) of one batch, folded into one sparse vector for each key."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._rows: list[Indices] = []
        self._slots: list[Indices] = []
        self._weights: list[Floats] = []

    def add(self, rows: Indices, slots: Indices, weights: Floats | float = 1.0) -> None:
        """Entries; rows index the keys given to `fold`."""
        if len(rows):
            self._rows.append(rows)
            self._slots.append(slots)
            self._weights.append(np.broadcast_to(np.asarray(weights, dtype=np.float64), rows.shape))

    def one(self, name: str, rows: Indices, weights: Floats | float = 1.0) -> None:
        """Entries in a section of one slot."""
        if len(rows) and name in self.layout.slots:
            self.add(rows, np.full(len(rows), self.layout.offset(name)), weights)

    def fold(self, keys: Indices, n_keys: int) -> list[Sparse]:
        """`keys` is [rows, memberships]: the keys each row counts for, -1 for none. One vector a key, in order."""
        size = self.layout.size
        if not self._rows:
            return [_sparse(np.empty(0, np.int64), np.empty(0), self.layout.integers) for _ in range(n_keys)]
        rows, slots = np.concatenate(self._rows), np.concatenate(self._slots)
        weights = np.concatenate(self._weights)
        places, values = [], []
        for membership in range(keys.shape[1]):
            key = keys[rows, membership]
            kept = key >= 0
            if kept.all():
                places.append(key * size + slots)
                values.append(weights)
            else:
                places.append(key[kept] * size + slots[kept])
                values.append(weights[kept])
        place, value = np.concatenate(places), np.concatenate(values)
        if n_keys * size <= max(DENSE_LIMIT, 0) and n_keys * size < 64 * len(place) + 4096:
            totals = np.bincount(place, weights=value, minlength=n_keys * size)
            taken = np.flatnonzero(totals)
            totals = totals[taken]
        else:
            taken, inverse = np.unique(place, return_inverse=True)
            totals = np.bincount(inverse, weights=value, minlength=len(taken))
            nonzero = totals != 0.0
            taken, totals = taken[nonzero], totals[nonzero]
        bounds = np.searchsorted(taken, np.arange(n_keys + 1) * size)
        return [
            _sparse(taken[bounds[key] : bounds[key + 1]] - key * size, totals[bounds[key] : bounds[key + 1]], self.layout.integers)
            for key in range(n_keys)
        ]


def _sparse(indices: Indices, totals: Floats, integers: int) -> Sparse:
    cut = int(np.searchsorted(indices, integers))
    return Sparse(indices[:cut], np.rint(totals[:cut]).astype(np.int64), indices[cut:], totals[cut:])


def tally_predictions(
    tally: Tally, columns: Columns, rows: Indices, latency_ms: Floats | None = None, confidence: Floats | None = None
) -> None:
    """What a prediction says before its label: bins, moments, nulls, entropy, latency. `rows` [n] index the keys of `fold`."""
    layout = tally.layout
    n = len(rows)
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
        offsets = np.array([layout.offset(f"feature:{name}") for name, _ in layout.features])
        repeated = np.repeat(rows, len(offsets))
        tally.add(repeated, (columns.codes + offsets).ravel())
        for section, values in (("z", columns.z), ("zz", columns.z**2)):
            starts = np.array([layout.offset(f"{section}:{name}") for name, _ in layout.features])
            tally.add(repeated, np.tile(starts, n), values.ravel())
        if columns.absent.any():
            starts = np.array([layout.offset(f"absent:{name}") for name, _ in layout.features])
            row_at, feature_at = np.nonzero(columns.absent)
            tally.add(rows[row_at], starts[feature_at])
        tally.one("extra", rows[columns.extra])
        tally.one("out_of_distribution", rows[(np.abs(columns.z) > OUT_OF_DISTRIBUTION_Z).any(axis=1)])
    if layout.task != "regression":
        nats = entropy(columns)
        valid = np.isfinite(nats)
        tally.one("entropy_rows", rows[valid])
        tally.one("entropy_sum", rows[valid], nats[valid])
        tally.one("entropy_squares", rows[valid], nats[valid] ** 2)
    rounded = np.rint(np.nan_to_num(columns.score, posinf=0.0, neginf=0.0) * 1e6)
    # A cheap mix of the rounded score: one most frequent value shows as one full slot.
    mixed = (np.clip(rounded, -(2**52), 2**52).astype(np.int64) * 2654435761 >> 16) % COLLAPSE_SLOTS
    tally.add(rows, layout.offset("collapse") + mixed)
    if latency_ms is not None:
        measured = np.isfinite(latency_ms) & (latency_ms >= 0)
        tally.one("latency_rows", rows[measured])
        tally.one("latency_sum", rows[measured], latency_ms[measured])
        tally.add(rows[measured], layout.offset("latency") + log_bins(latency_ms[measured], LATENCY_LEAST_MS, LATENCY_GROWTH, LATENCY_BINS))
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
    tally: Tally, rows: Indices, predicted: Floats, label: Floats, class_scores: npt.NDArray[np.float32] | None, sign: float
) -> None:
    layout = tally.layout
    width = len(layout.classes) + 1
    known = np.isfinite(predicted) & np.isfinite(label)
    rows, predicted, label = rows[known], predicted[known].astype(np.int64), label[known].astype(np.int64)
    tally.add(rows, layout.offset("confusion") + label * width + predicted, sign)
    if class_scores is None or not layout.classes:
        return
    shares = class_scores[known].astype(np.float64)
    inside = label < width - 1
    truth = np.where(inside, shares[np.arange(len(label)), np.minimum(label, width - 2)], 0.0)
    tally.one("log_loss", rows, sign * log_loss(truth))
    one_hot = (np.arange(width - 1) == label[:, None]).astype(np.float64)
    tally.one("squared_loss", rows, sign * ((shares - one_hot) ** 2).sum(axis=1))


def log_bins(values: Floats, least: float, growth: float, bins: int) -> Indices:
    """Bin of a positive value: bin k holds (least growth^(k-1), least growth^k], so a quantile is known to sqrt(growth)."""
    with np.errstate(divide="ignore"):
        raw = np.ceil(np.log(values / least) / np.log(growth))
    return np.clip(np.nan_to_num(raw, neginf=0.0), 0, bins - 1).astype(np.int64)


def log_bin_values(least: float, growth: float, bins: int) -> Floats:
    """The middle (in ratio) of each bin: within sqrt(growth) - 1 of every value of the bin."""
    return least * growth ** (np.arange(bins) - 0.5)


def tally_delays(tally: Tally, rows: Indices, delay_s: Floats) -> None:
    """How long labels took."""
    tally.add(rows, tally.layout.offset("delay") + log_bins(np.maximum(delay_s, 0.0), DELAY_LEAST_S, DELAY_GROWTH, DELAY_BINS))


__all__ = ["SCORE_BINS", "Sparse", "Tally", "log_bin_values", "log_bins", "tally_delays", "tally_outcomes", "tally_predictions"]
