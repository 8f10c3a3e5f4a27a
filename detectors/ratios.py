"""Business figures as ratios of sums (CTR, conversion, revenue per request) and their lift, with honest errors.

A ratio of two sums over the same requests (clicks / impressions) has an error of its own: requests with many
impressions carry many clicks. The delta method takes it from five sums per cell, which add, subtract and take
corrections.

Sources: Deng, Knoblich & Lu 2018 (delta method in metric analytics); Kohavi et al. 2014 (skewed metrics need
355 x skewness^2 rows before a normal error may be trusted).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.shares import Array, Estimate, counts, divide, normal_log_p


class RatioSums(NamedTuple):
    """Sums over requests of a numerator y and a denominator x. Per request: x = 1, so x and xx are n, and xy is y."""

    n: Array
    y: Array
    x: Array
    yy: Array
    xx: Array
    xy: Array


class Lift(NamedTuple):
    """`value` = ratio / baseline - 1 and its standard error; `z`, `log_p` (two-sided, natural) of their difference."""

    value: Array
    se: Array
    z: Array
    log_p: Array


def ratio_sums(numerator: npt.ArrayLike, denominator: npt.ArrayLike | None = None) -> RatioSums:
    """Sums of one batch of requests; without a denominator the ratio is per request."""
    y = np.asarray(numerator, dtype=np.float64)
    x = np.ones_like(y) if denominator is None else np.asarray(denominator, dtype=np.float64)
    return RatioSums(np.asarray(float(y.size)), *(np.asarray(part.sum()) for part in (y, x, y * y, x * x, x * y)))


def per_request(n: npt.ArrayLike, total: npt.ArrayLike, squares: npt.ArrayLike) -> RatioSums:
    """Sums of a per-request mean, from n, the sum and the sum of squares of the value."""
    rows, y, yy = np.broadcast_arrays(counts(n), np.asarray(total, np.float64), np.asarray(squares, np.float64))
    return RatioSums(rows, y, rows, yy, rows, y)


def ratio(sums: RatioSums) -> Estimate:
    """sum(y) / sum(x) with its delta-method standard error. NaN where sum(x) is 0, no error with a single row."""
    rows = counts(sums.n)
    value = divide(sums.y, sums.x)
    # squares of the residuals y - value * x, whose mean is 0 by construction
    residual = np.maximum(sums.yy - 2.0 * value * sums.xy + value * value * sums.xx, 0.0)
    correction = divide(rows, np.where(rows > 1.0, rows - 1.0, np.nan))
    se = np.sqrt(residual * correction) * np.abs(divide(1.0, sums.x))
    return Estimate(value, np.asarray(se), rows)


def lift(live: Estimate, baseline: Estimate) -> Lift:
    """Relative change of a live ratio against an independent reference or control group.

    The test is on the difference, which stays normal where the baseline is near 0 and the lift does not.
    """
    delta = live.value - baseline.value
    se = divide(np.hypot(live.se, divide(live.value, baseline.value) * baseline.se), np.abs(baseline.value))
    z = np.where(delta == 0.0, 0.0, divide(delta, np.hypot(live.se, baseline.se)))
    return Lift(divide(delta, baseline.value), se, np.asarray(z), normal_log_p(z))
