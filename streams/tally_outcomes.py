"""What a joined row counts for: class histograms, confusion, losses, delays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from detectors.auc import score_bins
from streams.layout import CALIBRATION_BINS
from streams.log_bins import DELAY_S
from streams.measure import Floats, log_loss
from streams.tally import Indices, Tally


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


def tally_delays(tally: Tally, rows: Indices, delay_s: Floats) -> None:
    """How long labels took."""
    tally.add(rows, tally.layout.offset("delay") + DELAY_S.assign(np.maximum(delay_s, 0.0)))
