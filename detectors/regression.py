"""Regression performance from running sums: MAE, RMSE, bias, R2.

An error is prediction minus label, in the label's unit: a positive bias means the model predicts too much. The
labels' sums are *shifted*: they are taken of (y - center), with a center near the mean (the reference's mean label),
because the sum of squares of labels near 1e6 with a spread of 1 has lost every digit of the spread. All sums of one
cell must use the same center; the figures do not depend on which.

Sources: Chan, Golub & LeVeque 1983 (shifted sums); Wishart 1931 (variance of R2).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.classification import mean_from_sums
from detectors.shares import Array, Estimate, counts, divide

_LOST = 1e-12
"""A variance below this share of the mean square is rounding, not spread."""


class RegressionSums(NamedTuple):
    """Sums over joined rows; they add and subtract. e = prediction - label; y = label - center."""

    n: Array
    e: Array
    abs_e: Array
    e2: Array
    y: Array
    y2: Array
    e4: Array | None = None


class RegressionMetrics(NamedTuple):
    """`mae`, `rmse`, `bias` in the label's unit; `r2` at most 1, NaN where the labels do not vary."""

    mae: Estimate
    rmse: Estimate
    bias: Estimate
    r2: Estimate


def regression_sums(predictions: npt.ArrayLike, labels: npt.ArrayLike, center: float = 0.0) -> RegressionSums:
    """Sums of a batch of rows (one dimension)."""
    label = np.asarray(labels, dtype=np.float64)
    error, y = np.asarray(predictions, dtype=np.float64) - label, label - center
    square = error * error
    parts = (error, np.abs(error), square, y, y * y, square * square)
    return RegressionSums(np.asarray(float(label.size)), *(np.asarray(part.sum()) for part in parts))


def regression_metrics(sums: RegressionSums) -> RegressionMetrics:
    """Figures with standard errors from sums of any shape; cells with no rows are NaN.

    Without fourth powers (`e4`) the errors of `rmse` assume normal errors, sqrt(1 / 2n), and are too small under heavy
    tails. The error of `r2` is 2 (1 - R2) / sqrt(n): for normal data never too small.
    """
    rows = counts(sums.n)
    rmse = np.asarray(np.sqrt(np.maximum(divide(sums.e2, rows), 0.0)))
    if sums.e4 is None:
        rmse_se = divide(rmse, np.sqrt(2.0 * rows))
    else:
        rmse_se = np.where(rmse == 0.0, 0.0, divide(mean_from_sums(rows, sums.e2, sums.e4).se, 2.0 * rmse))
    y2 = np.asarray(sums.y2, dtype=np.float64)
    total = y2 - divide(np.square(sums.y), rows)
    with np.errstate(invalid="ignore"):
        total = np.where(total > _LOST * y2, total, np.nan)
    unexplained = divide(sums.e2, total)
    return RegressionMetrics(
        mae=mean_from_sums(rows, sums.abs_e, sums.e2),
        rmse=Estimate(rmse, np.asarray(rmse_se), rows),
        bias=mean_from_sums(rows, sums.e, sums.e2),
        r2=Estimate(np.asarray(1.0 - unexplained), divide(2.0 * unexplained, np.sqrt(rows)), rows),
    )
