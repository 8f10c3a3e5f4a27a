"""Cheap necessary conditions: which tests of a look can pass at all. A judge looks a hundred thousand times a day and almost never speaks.

Every condition here follows from the full test, with a slack of 1e-9 for rounding: screening changes no finding, only its cost. The
pooled PSI is the test itself, with all that depends on the reference alone worked out before.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import floor, inf, lgamma, log, log1p
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from detectors.auc import highest_precision, tied_precision

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
    """Pooled PSI, nats, with what `detectors.divergence.compare` says about it; [looks, subjects] each."""

    psi: Floats
    debiased: Floats
    floor: Floats
    noise: Floats
    bins: Integers

    def log_p(self, look: Integers, subject: Integers) -> Floats:
        """ln p of some of them, by the chi-squared law of PSI without a change."""
        p = special.chdtrc(self.bins[look, subject] - 1.0, self.psi[look, subject] / self.noise[look, subject])
        return np.array([log(max(value, 1e-300)) for value in p.tolist()])


class PooledPsi:
    """One reference's counts [subjects, bins]: the pooling of its rare bins depends on the number of live rows alone."""

    def __init__(self, groups: Integers) -> None:
        self.groups = groups
        self.m = np.maximum(groups.sum(axis=1), 1)
        self._by_rows: dict[int, Pool] = {}
        self._by_bins: dict[bytes, Pool] = {}

    def pool(self, n: int) -> Pool:
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


def shifts(live: Integers, n: Integers, references: Sequence[PooledPsi], alpha: float) -> Shift:
    """PSI of all subjects of all looks in a few array operations. `live` is [looks, subjects, bins], every subject of a look with its
    n > 0 rows; the floor is PSI's without a change, passed with chance alpha."""
    if not references:
        nothing = np.empty((0, live.shape[1]))
        return Shift(nothing, nothing, nothing, nothing, nothing.astype(np.int64))
    pools = [reference.pool(rows) for reference, rows in zip(references, n.tolist(), strict=True)]
    looks, subjects, _ = live.shape
    used, shares, bins = (np.array([getattr(pool, part) for pool in pools]) for part in ("used", "shares", "bins"))
    width = used.shape[2]
    places = np.array([pool.places for pool in pools]) + np.arange(looks)[:, None] * subjects * width
    pooled = np.bincount(places.ravel(), weights=live.ravel(), minlength=looks * subjects * width).reshape(used.shape)
    a = np.where(used, (pooled + 0.5) / (n[:, None] + 0.5 * bins)[:, :, None], 1.0)
    value = ((a - shares) * np.log(a / shares)).sum(axis=2)
    noise = 1.0 / n[:, None] + 1.0 / np.array([reference.m for reference in references])
    return Shift(value, value - (bins - 1) * noise, noise * _quantiles(width, alpha)[bins], noise, bins)


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


def departures_are_likely(miss: Floats, label_noise: Floats, log_alpha: float) -> npt.NDArray[np.bool_]:
    """Where [looks] realised minus estimated hits are no news by the labels' noise alone: the map's own error makes them only likelier."""
    spread = 2.0 * (label_noise + miss / 3.0)
    log_p = np.minimum(log(2.0) - miss * miss / np.where(spread > 0.0, spread, 1.0), 0.0)
    return np.asarray((label_noise + miss > 0.0) & (log_p > log_alpha + SLACK))


def calibration_floors(rows: Floats, scores: Floats, alpha: float) -> Floats:
    """The floor of `detectors.calibration.expected_calibration_error`, [looks] of [looks, bins]: a calibrated model passes it with chance
    alpha."""
    total = rows.sum(axis=1)
    mean = np.clip(scores / np.maximum(rows, 1.0), 0.0, 1.0)
    spread = (rows * mean * (1.0 - mean)).sum(axis=1)
    exponent = (rows > 0.0).sum(axis=1) * log(2.0) - log(alpha)
    third = exponent / 3.0
    return np.asarray((third + np.sqrt(third**2 + 2.0 * spread * exponent)) / np.maximum(total, 1.0))


class PrecisionAtShare:
    """One reference's average precision at any share of positives: it falls as negatives weigh more, so steps of the weight bound it."""

    STEP = 1.05

    def __init__(self, pos: Floats, neg: Floats) -> None:
        self.pos, self.neg = pos, neg
        self._some = np.flatnonzero(pos + neg)
        self._at: dict[int, float] = {}

    def at_most(self, weight: float) -> float:
        """No less than the average precision with all negatives times `weight` > 0."""
        step = floor(log(weight) / log(self.STEP) - SLACK)
        found = self._at.get(step)
        if found is None:
            found = self._at[step] = SLACK + float(
                tied_precision(self.pos[self._some], self.STEP**step * self.neg[self._some])
            )
        return found


def precision_at_most(pos: Floats, neg: Floats) -> Floats:
    """`detectors.auc.highest_precision` of [looks, bins] to rounding, over the bins that hold a row; every look holds a positive."""
    some = np.flatnonzero((pos + neg).any(axis=0))
    return highest_precision(pos[:, some], neg[:, some])
