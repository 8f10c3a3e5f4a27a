"""Quantiles within 1 % of the true value, from counts that add and subtract.

The guarantee: for a value x_q at rank floor(q (n - 1)) with smallest <= abs(x_q) <= largest, the answer lies within
``relative_error`` times abs(x_q). Values nearer to 0 than ``smallest`` are answered with 0; those beyond ``largest``
with ``largest`` (``saturated`` counts them).

Mapping and counting are two things. :class:`LogMapping` numbers bins whose borders grow by gamma = (1 + e) / (1 - e)
(Masson, Rim & Lee 2019, "DDSketch"); the numbers follow the order of the values, negative ones first. Counts are
integers, dense int64[..., size] or the sparse :class:`QuantileSketch`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import BadParameter, BadValues, FloatArray, IntArray, UnequalConfigurations
from detectors.state import fingerprint

_MAX_SIZE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMapping:
    """Value to bin number: 0 to K - 1 negative (largest magnitude first), K zero, K + 1 to 2 K positive."""

    relative_error: float = 0.01
    smallest: float = 1e-6
    largest: float = 1e9

    def __post_init__(self) -> None:
        if not 1e-4 <= self.relative_error <= 0.5:
            raise BadParameter(f"relative error {self.relative_error}; wanted 0.0001 to 0.5")
        if not (0.0 < self.smallest < self.largest and math.isfinite(self.largest)) or self.size > _MAX_SIZE:
            raise BadParameter(f"range {self.smallest} to {self.largest} is empty or too long for this error")

    @property
    def _log_gamma(self) -> float:
        return math.log1p(self.relative_error) - math.log1p(-self.relative_error)

    @property
    def _first(self) -> int:
        # number of the bin (gamma^(i-1), gamma^i] that holds ``smallest``
        return math.ceil(math.log(self.smallest) / self._log_gamma)

    @property
    def per_sign(self) -> int:
        """K: bins on each side of zero."""
        return math.ceil(math.log(self.largest) / self._log_gamma) - self._first + 1

    @property
    def size(self) -> int:
        """Number of bins, 2 K + 1."""
        return 2 * self.per_sign + 1

    @property
    def fingerprint(self) -> bytes:
        """16 bytes; equal exactly when the mappings are."""
        return fingerprint(
            "log-mapping", {"error": self.relative_error, "smallest": self.smallest, "largest": self.largest}
        )

    def assign(self, values: FloatArray) -> npt.NDArray[np.int32]:
        """Bin number of each value, any shape. Raises BadValues for NaN and infinity."""
        values = np.asarray(values, dtype=np.float64)
        if not np.isfinite(values).all():
            raise BadValues("values hold NaN or infinity")
        size = np.abs(values)
        inside = size >= self.smallest
        steps = np.ceil(np.log(np.where(inside, size, self.smallest)) / self._log_gamma).astype(np.int64)
        rank = np.clip(steps - self._first, 0, self.per_sign - 1) + 1
        return np.where(inside, self.per_sign + np.where(values < 0, -rank, rank), self.per_sign).astype(np.int32)

    def value_of(self, bins: npt.NDArray[np.integer[Any]]) -> FloatArray:
        """The answer for each bin: within relative_error of everything that the bin holds."""
        rank = np.asarray(bins, dtype=np.int64) - self.per_sign
        power = (np.abs(rank) - 1 + self._first) * self._log_gamma
        # 2 gamma^i / (gamma + 1) is equally far, relatively, from both borders
        answer = np.minimum(np.exp(power) * (1.0 - self.relative_error), self.largest)
        return np.asarray(np.sign(rank) * answer, dtype=np.float64)

    def saturated(self, values: FloatArray) -> int:
        """How many values lie beyond ``largest``: for them the guarantee does not hold."""
        return int((np.abs(values) > self.largest).sum())

    def count(self, values: FloatArray) -> IntArray:
        """Dense counts int64[size]."""
        return np.bincount(self.assign(values).ravel(), minlength=self.size).astype(np.int64, copy=False)

    def quantile(self, counts: IntArray, q: npt.ArrayLike) -> FloatArray:
        """Quantiles of dense counts[..., size]; shape [...] for one q, [..., Q] for Q of them. NaN where nothing was
        counted.

        Rank floor(q (n - 1)), the lower neighbour (``np.quantile(..., method="lower")``).
        """
        levels = _levels(q)
        above = np.cumsum(counts, axis=-1, dtype=np.int64)
        n = above[..., -1]
        rank = np.floor(levels * np.maximum(n - 1, 0)[..., None]).astype(np.int64)
        bins = (above[..., None, :] <= rank[..., None]).sum(axis=-1)
        answer = np.where(n[..., None] > 0, self.value_of(bins), np.nan)
        return answer if np.ndim(q) else answer[..., 0]

    def empty(self) -> QuantileSketch:
        """A sketch that has counted nothing."""
        return QuantileSketch(self, np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64))

    def sketch(self, values: FloatArray) -> QuantileSketch:
        """A sketch of these values."""
        bins, counts = np.unique(self.assign(values), return_counts=True)
        return QuantileSketch(self, bins.astype(np.int32), counts.astype(np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class QuantileSketch:
    """Sparse counts: ``bins`` int32 ascending, ``counts`` int64, none 0. At most ``mapping.size`` entries."""

    mapping: LogMapping
    bins: npt.NDArray[np.int32]
    counts: IntArray

    def __post_init__(self) -> None:
        if self.bins.shape != self.counts.shape or self.bins.ndim != 1 or (np.diff(self.bins) <= 0).any():
            raise BadValues("bins ascend, one count for each")
        if self.bins.size and not (int(self.bins[0]) >= 0 and int(self.bins[-1]) < self.mapping.size):
            raise BadValues("bin numbers lie outside the mapping")

    @property
    def n(self) -> int:
        """Values counted."""
        return int(self.counts.sum())

    def merge(self, other: QuantileSketch) -> QuantileSketch:
        """What sketching both sets of values would give. Raises UnequalConfigurations."""
        return self._combine(other, 1)

    def subtract(self, other: QuantileSketch) -> QuantileSketch:
        """Undoes merge. Raises UnequalConfigurations."""
        return self._combine(other, -1)

    def quantile(self, q: npt.ArrayLike) -> FloatArray:
        """Quantiles at rank floor(q (n - 1)), shape of ``q``; NaN where nothing was counted."""
        levels = _levels(q)
        if self.n <= 0:
            return np.full(np.shape(q), np.nan)
        above = np.cumsum(self.counts)
        rank = np.floor(levels * (self.n - 1)).astype(np.int64)
        answer = self.mapping.value_of(self.bins[np.searchsorted(above, rank, side="right")])
        return answer if np.ndim(q) else answer[0]

    def share_above(self, limit: float) -> float:
        """Share of values in bins above ``limit``'s own, in [0, 1]; NaN where nothing was counted."""
        if self.n <= 0:
            return math.nan
        own = int(self.mapping.assign(np.array([limit]))[0])
        return float(self.counts[self.bins > own].sum() / self.n)

    def _combine(self, other: QuantileSketch, sign: int) -> QuantileSketch:
        if self.mapping != other.mapping:
            raise UnequalConfigurations("sketches have different mappings")
        bins, at = np.unique(np.concatenate([self.bins, other.bins]), return_inverse=True)
        counts = np.zeros(bins.size, dtype=np.int64)
        np.add.at(counts, at, np.concatenate([self.counts, sign * other.counts]))
        kept = counts != 0
        return QuantileSketch(self.mapping, bins[kept], counts[kept])


def _levels(q: npt.ArrayLike) -> FloatArray:
    levels = np.atleast_1d(np.asarray(q, dtype=np.float64))
    if levels.ndim != 1 or not ((levels >= 0.0) & (levels <= 1.0)).all():
        raise BadValues("quantile levels lie in [0, 1], in one dimension")
    return levels
