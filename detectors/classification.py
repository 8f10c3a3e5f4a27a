"""Classification performance from counts and sums: confusion metrics, log loss, Brier, one-vs-rest AUC.

Confusion counts and loss sums add, subtract and take corrections exactly, so every figure here is the same whether it
is made from a pane, a month of panes or all rows at once. Each comes as an `Estimate` (value, standard error, n),
where n is the number of rows that bear on it: for recall the positive rows, for precision the rows predicted
positive.

The standard errors are Wald or delta-method errors. They are 0 where a share is 0 or 1; tests at small alpha hold the
counts against `detectors.shares` instead.

Sources: Takahashi, Yamamoto, Kuchiba & Koyama 2022 (errors of F1); Hand & Till 2001 (AUC of many classes).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.auc import Auc, auc_from_histograms
from detectors.errors import BadValues
from detectors.shares import Array, Estimate, counts, divide, share

LOG_LOSS_EPS = float(np.finfo(np.float64).eps)
"""Scores are clipped to [eps, 1 - eps] before the logarithm, as scikit-learn does: one row costs at most 36.04 nats."""


class BinaryMetrics(NamedTuple):
    """All in [0, 1]. NaN where no row bears on the figure."""

    accuracy: Estimate
    precision: Estimate
    recall: Estimate
    f1: Estimate
    false_negative_rate: Estimate
    false_positive_rate: Estimate


class MulticlassMetrics(NamedTuple):
    """`accuracy` and `macro_f1` of each cell; `precision`, `recall` and `f1` of each class [..., classes]."""

    accuracy: Estimate
    macro_f1: Estimate
    precision: Estimate
    recall: Estimate
    f1: Estimate


def binary_metrics(tp: npt.ArrayLike, fp: npt.ArrayLike, fn: npt.ArrayLike, tn: npt.ArrayLike) -> BinaryMetrics:
    """Metrics of a two-class model from its confusion counts (true positives, false positives, ...)."""
    tp, fp, fn, tn = (counts(part) for part in (tp, fp, fn, tn))
    return BinaryMetrics(
        accuracy=share(tp + tn, tp + fp + fn + tn),
        precision=share(tp, tp + fp),
        recall=share(tp, tp + fn),
        f1=_f1(tp, fp + fn),
        false_negative_rate=share(fn, tp + fn),
        false_positive_rate=share(fp, fp + tn),
    )


def _f1(tp: Array, wrong: Array) -> Estimate:
    """F1 = 2 J / (1 + J), where J = tp / (tp + fp + fn) is a share and has a share's error."""
    jaccard = share(tp, tp + wrong)
    return Estimate(
        np.asarray(2.0 * jaccard.value / (1.0 + jaccard.value)),
        np.asarray(2.0 / (1.0 + jaccard.value) ** 2 * jaccard.se),
        jaccard.n,
    )


def confusion(labels: npt.ArrayLike, predictions: npt.ArrayLike, classes: int) -> npt.NDArray[np.int64]:
    """Counts [classes, classes] of rows by (true, predicted) class index. BadValues where an index is outside."""
    true, predicted = np.asarray(labels, dtype=np.int64), np.asarray(predictions, dtype=np.int64)
    if true.size and (min(true.min(), predicted.min()) < 0 or max(true.max(), predicted.max()) >= classes):
        raise BadValues(f"a class index lies outside [0, {classes})")
    return np.bincount(true * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def multiclass_metrics(matrix: npt.ArrayLike) -> MulticlassMetrics:
    """Metrics from confusion counts [..., classes, classes], rows the true class, columns the predicted one.

    `macro_f1` averages the classes that occur at all (as true or predicted), as scikit-learn does.
    """
    table = counts(matrix)
    hits = np.diagonal(table, axis1=-2, axis2=-1)
    true, predicted, rows = table.sum(axis=-1), table.sum(axis=-2), table.sum(axis=(-2, -1))
    f1 = _f1(hits, true + predicted - 2.0 * hits)
    occurs = true + predicted > 0.0
    present = occurs.sum(axis=-1)
    per_row = divide(1.0, true + predicted)
    # derivative of macro F1 by the count in cell (i, j); F1 does not change with scale, so its mean over rows is 0
    slope = np.nan_to_num(f1.value * per_row)
    gradient = -(slope[..., :, None] + slope[..., None, :])
    gradient = gradient + 2.0 * np.nan_to_num(per_row)[..., None, :] * np.eye(table.shape[-1])
    spread = np.sqrt((table * gradient**2).sum(axis=(-2, -1)))
    macro = Estimate(divide(np.nan_to_num(f1.value).sum(axis=-1), present), divide(spread, present), rows)
    return MulticlassMetrics(share(hits.sum(axis=-1), rows), macro, share(hits, predicted), share(hits, true), f1)


def log_loss_rows(scores: npt.ArrayLike, labels: npt.ArrayLike, eps: float = LOG_LOSS_EPS) -> Array:
    """-ln of the probability given to what happened, nats per row. `scores` = P(label = 1)."""
    score, positive = np.asarray(scores, dtype=np.float64), np.asarray(labels).astype(bool)
    return log_loss_of_true(np.where(positive, score, 1.0 - score), eps)


def log_loss_of_true(probability: npt.ArrayLike, eps: float = LOG_LOSS_EPS) -> Array:
    """-ln of the probability given to the true class, nats per row: for any number of classes."""
    return np.asarray(-np.log(np.clip(np.asarray(probability, dtype=np.float64), eps, 1.0 - eps)))


def brier_rows(scores: npt.ArrayLike, labels: npt.ArrayLike) -> Array:
    """(score - label)^2 per row, in [0, 1]; its mean is scikit-learn's `brier_score_loss`."""
    return np.asarray((np.asarray(scores, dtype=np.float64) - np.asarray(labels).astype(bool)) ** 2)


def mean_from_sums(n: npt.ArrayLike, total: npt.ArrayLike, squares: npt.ArrayLike) -> Estimate:
    """Mean of a per-row figure from n, its sum and its sum of squares, with the standard error of the mean."""
    rows = counts(n)
    mean = divide(total, rows)
    variance = np.maximum(divide(squares, rows) - mean * mean, 0.0)
    with np.errstate(invalid="ignore"):
        se = np.sqrt(divide(variance, np.where(rows > 1.0, rows - 1.0, np.nan)))
    return Estimate(mean, se, np.broadcast_to(rows, mean.shape))


def one_vs_rest_auc(members: npt.ArrayLike, others: npt.ArrayLike) -> Auc:
    """Macro one-vs-rest AUC from score histograms [..., classes, bins] of each class's members and of all other rows.

    Classes without members (or with nothing else) are left out of the mean; NaN where none is left.
    """
    each = auc_from_histograms(members, others)
    known = ~np.isnan(each.value)
    present = known.sum(axis=-1)
    value, bound = (divide(np.where(known, part, 0.0).sum(axis=-1), present) for part in each)
    return Auc(value, bound)
