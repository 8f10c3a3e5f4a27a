"""Tests and limits for shares (k of n rows), exact far into the tail.

A null rate, a label rate, a coverage, an error rate: all are k of n. With a false-alarm budget spread over thousands
of looks the tests run at 1e-8 to 1e-12, where the normal approximation is wrong by orders of magnitude. So the tail
here is the exact binomial, in natural logarithms, and the reference's own uncertainty enters through its
Clopper-Pearson limit: 0 of m reference rows is not "never" but "at most about 3/m" (the rule of three, at 95 %).

All functions broadcast over leading dimensions. Counts may be any real numbers that arrive from sums; negative ones
(a correction that came before its row) count as 0.

Sources: Clopper & Pearson 1934; Hanley & Lippman-Hand 1983 (rule of three).
"""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

Array = npt.NDArray[np.float64]
Side = Literal["two", "upper", "lower"]

# Below this the incomplete beta function nears the end of the doubles; the series bound takes over.
_SMALLEST_TAIL = 1e-280


class Estimate(NamedTuple):
    """A figure with what it rests on. `value` and `se` (standard error) share a unit; `n` is rows. NaN where n is 0."""

    value: Array
    se: Array
    n: Array


class ShareShift(NamedTuple):
    """A live share held against a reference's share. Shares in [0, 1]; `log_p` is natural."""

    live: Array
    reference: Array
    delta: Array
    limit: Array
    log_p: Array


class TwoProportions(NamedTuple):
    """Difference of two shares: `delta` = first minus second, `z` pooled, `log_p` two-sided, natural logarithm."""

    delta: Array
    se: Array
    z: Array
    log_p: Array


def counts(values: npt.ArrayLike) -> Array:
    """Counts as float64, with what corrections drove below 0 set to 0."""
    return np.maximum(np.asarray(values, dtype=np.float64), 0.0)


def divide(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> Array:
    """`numerator / denominator`, NaN where the denominator is 0, without a warning."""
    if isinstance(numerator, float) and isinstance(
        denominator, float
    ):  # judges ask one by one: a fifth of an array's cost
        return np.asarray(float(numerator) / float(denominator) if denominator != 0.0 else np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
        return np.asarray(np.where(bottom == 0.0, np.nan, top / bottom))


def share(k: npt.ArrayLike, n: npt.ArrayLike) -> Estimate:
    """k of n with the Wald standard error sqrt(p (1 - p) / n).

    The error is 0 at k = 0 and k = n: a description, not a test. Tests use `binomial_log_tail` and the limits.
    """
    hits, rows = counts(k), counts(n)
    value = divide(hits, rows)
    with np.errstate(invalid="ignore"):
        se = np.sqrt(np.maximum(divide(value * (1.0 - value), rows), 0.0))
    return Estimate(value, se, np.broadcast_to(rows, value.shape))


def binomial_log_tail(
    k: npt.ArrayLike, n: npt.ArrayLike, p0: npt.ArrayLike, side: Literal["upper", "lower"] = "upper"
) -> Array:
    """ln P(X >= k) ("upper") or ln P(X <= k) ("lower") for X ~ Binomial(n, p0).

    Exact (p to about 1e-12 relative) while the tail exceeds 1e-280. Further out it is the geometric bound on the same
    series, which is never too small and is within a few per cent of the tail: it keeps extreme signals in order.
    With n = 0 it is 0 (no evidence).
    """
    if isinstance(k, float) and isinstance(n, float) and isinstance(p0, float) and 0.0 < k <= n and 0.0 < p0 < 1.0:
        if side == "upper":
            return np.asarray(_one_upper(k, n, p0, complement=False))
        if k < n:
            return np.asarray(_one_upper(n - k, n, p0, complement=True))
    if side == "upper":
        return _upper(counts(k), counts(n), np.asarray(p0, dtype=np.float64), complement=False)
    rows = counts(n)
    return _upper(rows - counts(k), rows, np.asarray(p0, dtype=np.float64), complement=True)


def _upper(k: Array, n: Array, p: Array, *, complement: bool) -> Array:
    """ln P(X >= k) with success share p, or 1 - p when `complement` (never formed: a tiny p would be rounded away)."""
    k, n, p = np.broadcast_arrays(k, n, p)
    inside = (k > 0.0) & (k <= n) & (p > 0.0) & (p < 1.0)
    hits, rows, q = np.where(inside, k, 1.0), np.where(inside, n, 2.0), np.where(inside, p, 0.5)
    misses = rows - hits
    # I_{1-p}(a, b) = 1 - I_p(b, a): betaincc takes p itself
    tail = special.betaincc(misses + 1.0, hits, q) if complement else special.betainc(hits, misses + 1.0, q)
    log_hit, log_miss = (np.log1p(-q), np.log(q)) if complement else (np.log(q), np.log1p(-q))
    log_pmf = special.gammaln(rows + 1.0) - special.gammaln(hits + 1.0) - special.gammaln(misses + 1.0)
    log_pmf = log_pmf + hits * log_hit + misses * log_miss
    # successive terms of the tail shrink by at most this ratio, so the geometric series bounds them
    ratio = np.minimum(misses / (hits + 1.0) * np.exp(log_hit - log_miss), 0.999999)
    log_tail = np.where(tail > _SMALLEST_TAIL, np.log(np.maximum(tail, _SMALLEST_TAIL)), log_pmf - np.log1p(-ratio))
    success_certain = (p <= 0.0) if complement else (p >= 1.0)
    edge = np.where((k <= 0.0) | (success_certain & (k <= n)), 0.0, -np.inf)
    result = np.where(inside, np.minimum(log_tail, 0.0), edge)
    return np.asarray(np.where(np.isnan(p), np.nan, result))


def _one_upper(hits: float, rows: float, q: float, *, complement: bool) -> float:
    """`_upper` of one cell with 0 < hits <= rows and 0 < q < 1, to the last digit: judges ask one by one, and arrays of one are slow."""
    misses = rows - hits
    tail = special.betaincc(misses + 1.0, hits, q) if complement else special.betainc(hits, misses + 1.0, q)
    if tail > _SMALLEST_TAIL:
        return min(float(np.log(tail)), 0.0)
    log_hit, log_miss = (np.log1p(-q), np.log(q)) if complement else (np.log(q), np.log1p(-q))
    log_pmf = special.gammaln(rows + 1.0) - special.gammaln(hits + 1.0) - special.gammaln(misses + 1.0)
    log_pmf = log_pmf + hits * log_hit + misses * log_miss
    ratio = np.minimum(misses / (hits + 1.0) * np.exp(log_hit - log_miss), 0.999999)
    return min(float(log_pmf - np.log1p(-ratio)), 0.0)


def upper_limit(k: npt.ArrayLike, n: npt.ArrayLike, alpha: npt.ArrayLike = 0.05) -> Array:
    """One-sided Clopper-Pearson limit: the true share exceeds it with probability at most alpha. 1 where n is 0."""
    hits, rows, miss = np.broadcast_arrays(counts(k), counts(n), np.asarray(alpha, dtype=np.float64))
    open_end = hits >= rows
    limit = special.betainccinv(np.where(open_end, 1.0, hits + 1.0), np.where(open_end, 1.0, rows - hits), miss)
    return np.asarray(np.where(open_end, 1.0, limit))


def lower_limit(k: npt.ArrayLike, n: npt.ArrayLike, alpha: npt.ArrayLike = 0.05) -> Array:
    """One-sided Clopper-Pearson limit: the true share is below it with probability at most alpha. 0 where n is 0."""
    hits, rows, miss = np.broadcast_arrays(counts(k), counts(n), np.asarray(alpha, dtype=np.float64))
    at_zero = (hits <= 0.0) | (rows <= 0.0)
    hits = np.minimum(hits, rows)
    limit = special.betaincinv(np.where(at_zero, 1.0, hits), np.where(at_zero, 1.0, rows - hits + 1.0), miss)
    return np.asarray(np.where(at_zero, 0.0, limit))


def clopper_pearson(k: npt.ArrayLike, n: npt.ArrayLike, alpha: float = 0.05) -> tuple[Array, Array]:
    """Two-sided interval (lower, upper) that covers the true share with probability at least 1 - alpha."""
    return lower_limit(k, n, alpha / 2.0), upper_limit(k, n, alpha / 2.0)


def share_shift(
    live_k: npt.ArrayLike,
    live_n: npt.ArrayLike,
    ref_k: npt.ArrayLike,
    ref_m: npt.ArrayLike,
    alpha: float = 1e-4,
    side: Side = "two",
) -> ShareShift:
    """Exact tail of the live share against the confidence *limit* of the reference's share.

    `alpha` is the chance, on each side, that the reference's limit itself is wrong. It is spent once per reference, not
    once per look: the same reference serves every look, so `log_p` may be compared with a budget far below alpha.
    With side "two" the better tail is doubled. `limit` is the share that the live rows had to pass.
    """
    ref, rows = counts(ref_k), counts(ref_m)
    low, high = lower_limit(ref, rows, alpha), upper_limit(ref, rows, alpha)
    return share_shift_past(live_k, live_n, divide(ref, rows), low, high, side)


def share_shift_past(
    live_k: npt.ArrayLike,
    live_n: npt.ArrayLike,
    reference: npt.ArrayLike,
    low: npt.ArrayLike,
    high: npt.ArrayLike,
    side: Side = "two",
) -> ShareShift:
    """`share_shift` with the limits of the reference worked out before (inverting the beta is the slow part)."""
    live, rows = np.broadcast_arrays(counts(live_k), counts(live_n))
    live_share, ref_share = divide(live, rows), np.asarray(reference, dtype=np.float64)
    delta = np.asarray(live_share - ref_share)
    # NaN (no rows, or no reference) goes with "rises" and ends as log_p = 0
    rises = ~(delta < 0.0) if side == "two" else np.full(delta.shape, side == "upper")
    limit = np.asarray(np.where(rises, high, low), dtype=np.float64)
    log_p = np.where(
        rises,
        _upper(live, rows, limit, complement=False),
        _upper(np.asarray(rows - live), rows, limit, complement=True),
    )
    if side == "two":
        log_p = np.minimum(log_p + np.log(2.0), 0.0)
    return ShareShift(live_share, ref_share, delta, limit, np.asarray(log_p))


def normal_log_p(z: npt.ArrayLike, side: Side = "two") -> Array:
    """ln p of a standard normal score, exact at any distance. NaN stays NaN."""
    score = np.asarray(z, dtype=np.float64)
    if side == "upper":
        return np.asarray(special.log_ndtr(-score))
    if side == "lower":
        return np.asarray(special.log_ndtr(score))
    return np.asarray(np.minimum(np.log(2.0) + special.log_ndtr(-np.abs(score)), 0.0))


def two_proportions(k1: npt.ArrayLike, n1: npt.ArrayLike, k2: npt.ArrayLike, n2: npt.ArrayLike) -> TwoProportions:
    """Pooled two-proportion z-test. Approximate: needs about 10 hits and 10 misses expected on each side.

    Where both groups agree completely (all hits, or none) the difference is 0 with z = 0. NaN where a group is empty.
    """
    a, n, b, m = np.broadcast_arrays(counts(k1), counts(n1), counts(k2), counts(n2))
    delta = np.asarray(divide(a, n) - divide(b, m))
    pooled = divide(a + b, n + m)
    with np.errstate(invalid="ignore"):
        se = np.sqrt(np.maximum(pooled * (1.0 - pooled), 0.0) * (divide(1.0, n) + divide(1.0, m)))
    z = np.where(delta == 0.0, 0.0, divide(delta, se))
    return TwoProportions(delta, np.asarray(se), np.asarray(z), normal_log_p(z))
