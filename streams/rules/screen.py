"""Cheap necessary conditions: which tests of a look can pass at all. A judge looks a hundred thousand times a day and almost never speaks.

Every condition here follows from the full test, with a slack of 1e-9 for rounding: screening changes no finding, only its cost. The
pooled PSI is the test itself, with all that depends on the reference alone worked out before.
"""

from __future__ import annotations

from functools import lru_cache
from math import inf, lgamma, log, log1p
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

SLACK = 1e-9
LEAST_EXPECTED = 3.0
MAX_POOLS = 20_000


class Pool(NamedTuple):
    """How `detectors.divergence.merge_rare` pools one reference's bins for spans of so many rows."""

    places: Integers
    """[subjects * bins]: where in [subjects, bins + 1] each bin is counted."""
    used: npt.NDArray[np.bool_]
    shares: Floats
    """[subjects, bins + 1] of the pooled reference, half a row added to each used bin."""
    bins: Integers


class Shift(NamedTuple):
    """Pooled PSI of each subject, nats, with what `detectors.divergence.compare` says about it."""

    psi: Floats
    debiased: Floats
    floor: Floats
    noise: Floats
    bins: Integers

    def log_p(self, at: int) -> float:
        """ln p of one subject, by the chi-squared law of PSI without a change."""
        p = float(special.chdtrc(self.bins[at] - 1.0, self.psi[at] / self.noise[at]))
        return log(max(p, 1e-300))


class PooledPsi:
    """PSI of all subjects of one reference in a few array operations: the pooling of rare bins depends on the number of rows alone."""

    def __init__(self, groups: Integers) -> None:
        self.groups = groups
        self.m = np.maximum(groups.sum(axis=1), 1)
        self._by_rows: dict[int, Pool] = {}
        self._by_bins: dict[bytes, Pool] = {}

    def shift(self, live: Integers, n: int, alpha: float) -> Shift:
        """`live` is [subjects, bins], every subject with n > 0 rows; the floor is PSI's without a change, passed with chance alpha."""
        pool = self._pool(n)
        subjects, width = pool.used.shape
        pooled = np.bincount(pool.places, weights=live.ravel(), minlength=subjects * width).reshape(subjects, width)
        a = np.where(pool.used, (pooled + 0.5) / (n + 0.5 * pool.bins)[:, None], 1.0)
        value = ((a - pool.shares) * np.log(a / pool.shares)).sum(axis=1)
        noise = 1.0 / n + 1.0 / self.m
        return Shift(
            value, value - (pool.bins - 1) * noise, noise * _quantiles(width, alpha)[pool.bins], noise, pool.bins
        )

    def _pool(self, n: int) -> Pool:
        pool = self._by_rows.get(n)
        if pool is None:
            if len(self._by_rows) >= MAX_POOLS:
                self._by_rows.clear()
            shares = np.divide(self.groups, self.m[:, None], out=np.zeros(self.groups.shape), where=self.m[:, None] > 0)
            rare = n * shares < LEAST_EXPECTED
            thin = (n * np.where(rare, self.groups, 0).sum(axis=1) < LEAST_EXPECTED * self.m) & ~rare.all(axis=1)
            key = rare.tobytes() + thin.tobytes()
            pool = self._by_bins.get(key)
            if pool is None:
                pool = self._by_bins[key] = self._pooled(rare, thin)
            self._by_rows[n] = pool
        return pool

    def _pooled(self, rare: npt.NDArray[np.bool_], thin: npt.NDArray[np.bool_]) -> Pool:
        subjects, bins = self.groups.shape
        home = np.where(rare, np.iinfo(np.int64).max, self.groups).argmin(axis=1)
        pooled_at = np.where(thin, home, bins)
        places = np.where(rare, pooled_at[:, None], np.arange(bins)) + np.arange(subjects)[:, None] * (bins + 1)
        counted = np.bincount(places.ravel(), weights=self.groups.ravel(), minlength=subjects * (bins + 1)).reshape(
            subjects, bins + 1
        )
        used = counted > 0
        padded = np.where(used, counted + 0.5, 0.0)
        # 1 on both sides where a bin is left out: its logarithm is 0.
        shares = np.where(used, padded / np.maximum(padded.sum(axis=1, keepdims=True), 1.0), 1.0)
        return Pool(places.ravel(), used, shares, used.sum(axis=1))


@lru_cache(maxsize=64)
def _quantiles(bins: int, alpha: float) -> Floats:
    """Upper chi-squared quantile for 0 to `bins` used bins; infinite below two: there is nothing to compare."""
    degrees = np.arange(bins + 1, dtype=np.float64) - 1.0
    return np.where(degrees >= 1.0, 2.0 * special.gammainccinv(np.maximum(degrees, 1.0) / 2.0, alpha), inf)


def share_is_likely(k: float, n: float, p: float, log_alpha: float) -> bool:
    """True if k of n under p is certainly no rarer than alpha: either tail holds at least the probability of k itself."""
    if not (0.0 <= k <= n and 0.0 < p < 1.0):
        return False
    log_mass = lgamma(n + 1.0) - lgamma(k + 1.0) - lgamma(n - k + 1.0) + k * log(p) + (n - k) * log1p(-p)
    return log_mass > log_alpha + SLACK


def departure_is_likely(miss: float, label_noise: float, log_alpha: float) -> bool:
    """True if realised minus estimated hits are no news, by the labels' noise alone: the map's own error makes it only likelier."""
    if label_noise + miss <= 0.0:
        return False
    return min(log(2.0) - miss * miss / (2.0 * (label_noise + miss / 3.0)), 0.0) > log_alpha + SLACK


def calibration_floor(rows: Floats, scores: Floats, alpha: float) -> float:
    """The floor of `detectors.calibration.expected_calibration_error`: what a calibrated model passes with chance alpha."""
    total = float(rows.sum())
    mean = np.clip(scores / np.maximum(rows, 1.0), 0.0, 1.0)
    spread = float((rows * mean * (1.0 - mean)).sum())
    exponent = int((rows > 0.0).sum()) * log(2.0) - log(alpha)
    return float((exponent / 3.0 + ((exponent / 3.0) ** 2 + 2.0 * spread * exponent) ** 0.5) / max(total, 1.0))


def highest_precision(pos: Floats, neg: Floats) -> float:
    """`high` of `detectors.auc.average_precision` to rounding, over the bins that hold a row; `pos` holds one."""
    at = np.flatnonzero(pos + neg)[::-1]
    p, n = pos[at], neg[at]
    hits, misses = p.cumsum(), n.cumsum()
    return float((p * hits / np.maximum(hits + misses - n, 1.0)).sum() / hits[-1])


def average_precision_of(pos: Floats, neg: Floats) -> float:
    """`value` of `detectors.auc.average_precision` to rounding, over the bins that hold a row; `pos` holds one."""
    at = np.flatnonzero(pos + neg)[::-1]
    p, hits = pos[at], pos[at].cumsum()
    return float((p * hits / (hits + neg[at].cumsum())).sum() / hits[-1])
