"""Mean and standard deviation that add and subtract exactly, and the mean-shift z with its standard error.

Floating sums depend on the order of their terms, so the same log would give another last digit after a crash. Here
each value is scaled by the reference, z = (x - centre) / spread, rounded to 2**-40 (its square to 2**-36) and summed
in integers: any grouping of the rows gives the same bits. z beyond +/-4096 enters as that and is counted as clipped.
Rounding moves a mean by less than 1e-12 spreads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from detectors.base import BadParameter, BadValues, FloatArray, IntArray, UnequalConfigurations
from detectors.state import fingerprint

CLIP: Final = 4096.0
COLUMNS: Final = ("n", "clipped", "z_high", "z_low", "zz_high", "zz_low")
_Z_BITS, _Z_LOW = 40, 20
_ZZ_BITS, _ZZ_LOW = 36, 30


@dataclass(frozen=True, slots=True)
class MomentScale:
    """The reference's centre and spread of F columns: the unit in which sums are kept."""

    centre: tuple[float, ...]
    spread: tuple[float, ...]
    _centre: FloatArray = field(init=False, repr=False, compare=False)
    _spread: FloatArray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        centre, spread = np.array(self.centre, dtype=np.float64), np.array(self.spread, dtype=np.float64)
        if centre.ndim != 1 or centre.shape != spread.shape:
            raise BadParameter("centre and spread have one number for each column")
        if not (np.isfinite(centre).all() and np.isfinite(spread).all() and (spread > 0).all()):
            raise BadParameter("centres are finite, spreads finite and above 0")
        object.__setattr__(self, "_centre", centre)
        object.__setattr__(self, "_spread", spread)

    @classmethod
    def from_reference(cls, values: npt.ArrayLike) -> MomentScale:
        """Mean and standard deviation of each column of values[n, F], non-finite ones left out.

        A constant (or empty) column has spread 1: its shifts are then in the column's own unit.
        """
        table = np.asarray(values, dtype=np.float64)
        if table.ndim != 2:
            raise BadValues(f"values have {table.ndim} dimensions, wanted [n, F]")
        known = np.isfinite(table)
        n = np.maximum(known.sum(axis=0), 1)
        centre = np.where(known, table, 0.0).sum(axis=0) / n
        spread = np.sqrt((np.where(known, table - centre, 0.0) ** 2).sum(axis=0) / n)
        # rounding gives a constant column a spread of an ulp or so
        real = spread > 1e-12 * np.maximum(np.abs(centre), np.finfo(np.float64).tiny)
        return cls(tuple(centre.tolist()), tuple(np.where(real, spread, 1.0).tolist()))

    @property
    def fingerprint(self) -> bytes:
        """16 bytes; equal exactly when the scales are."""
        return fingerprint("moment-scale", {"centre": self._centre, "spread": self._spread})

    @property
    def centres(self) -> FloatArray:
        """float64[F]."""
        return self._centre

    @property
    def spreads(self) -> FloatArray:
        """float64[F]."""
        return self._spread

    def fold(self, values: FloatArray) -> Moments:
        """Sums of values[n, F]; NaN and infinities are left out."""
        return Moments(self, np.stack([part.sum(axis=0) for part in self._parts(values)], axis=-1))

    def fold_by_cell(self, values: FloatArray, cells: npt.NDArray[np.integer[Any]], n_cells: int) -> Moments:
        """Sums of values[n, F] for each cell, table int64[n_cells, F, 6]; ``cells`` holds each row's cell."""
        table = np.zeros((n_cells, len(self.centre), len(COLUMNS)), dtype=np.int64)
        for column, part in enumerate(self._parts(values)):
            np.add.at(table[..., column], cells, part)
        return Moments(self, table)

    def empty(self, *leading: int) -> Moments:
        """The identity of merge, table int64[*leading, F, 6]."""
        return Moments(self, np.zeros((*leading, len(self.centre), len(COLUMNS)), dtype=np.int64))

    def _parts(self, values: FloatArray) -> list[IntArray]:
        if values.ndim != 2 or values.shape[1] != len(self.centre):
            raise BadValues(f"values of shape {values.shape}, wanted [n, {len(self.centre)}]")
        known = np.isfinite(values)
        with np.errstate(over="ignore"):  # 1e308 over a small spread is infinite, and clipped like the rest
            z = (np.where(known, values, self._centre) - self._centre) / self._spread
        clipped = np.abs(z) > CLIP
        z = np.clip(z, -CLIP, CLIP)
        # scaling by a power of two is exact, and both products stay below 2**61: the conversion is exact too
        first = np.rint(z * 2.0**_Z_BITS).astype(np.int64)
        second = np.rint(z * z * 2.0**_ZZ_BITS).astype(np.int64)
        return [
            known.astype(np.int64),
            clipped.astype(np.int64),
            first >> _Z_LOW,
            first & ((1 << _Z_LOW) - 1),
            second >> _ZZ_LOW,
            second & ((1 << _ZZ_LOW) - 1),
        ]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Sums over rows: ``table`` int64[..., F, 6] (columns: COLUMNS). Good for 2**31 rows."""

    scale: MomentScale
    table: IntArray

    def __post_init__(self) -> None:
        if self.table.dtype != np.int64 or self.table.shape[-2:] != (len(self.scale.centre), len(COLUMNS)):
            raise BadValues(f"table {self.table.dtype}{list(self.table.shape)} is not int64[..., F, {len(COLUMNS)}]")

    def merge(self, other: Moments) -> Moments:
        """What folding both sets of rows would give, to the bit. Raises UnequalConfigurations."""
        self._require(other)
        return Moments(self.scale, self.table + other.table)

    def subtract(self, other: Moments) -> Moments:
        """Undoes merge, to the bit. Raises UnequalConfigurations."""
        self._require(other)
        return Moments(self.scale, self.table - other.table)

    @property
    def n(self) -> IntArray:
        """Values folded, [..., F]."""
        return self.table[..., 0]

    @property
    def clipped(self) -> IntArray:
        """Values that lay more than 4096 spreads off, [..., F]."""
        return self.table[..., 1]

    @property
    def mean(self) -> FloatArray:
        """[..., F]; NaN where n is 0."""
        return np.asarray(self.scale.centres + self.scale.spreads * self._mean_z(), dtype=np.float64)

    @property
    def std(self) -> FloatArray:
        """Population standard deviation (ddof 0), [..., F]; NaN where n is 0."""
        table = self.table
        square = _joined(table[..., 4], table[..., 5], _ZZ_LOW, _ZZ_BITS)
        mean_square = _per(square, self.n)
        variance = mean_square - self._mean_z() ** 2
        # below the rounding of the sums nothing varied: a constant has deviation 0, not the root of noise
        noise = 2.0**-_ZZ_BITS + 4.0 * np.finfo(np.float64).eps * mean_square
        variance = np.where(variance <= noise, 0.0, variance)  # NaN stays NaN
        return np.asarray(self.scale.spreads * np.sqrt(variance), dtype=np.float64)

    def _mean_z(self) -> FloatArray:
        return _per(_joined(self.table[..., 2], self.table[..., 3], _Z_LOW, _Z_BITS), self.n)

    def _require(self, other: Moments) -> None:
        if self.scale != other.scale:
            raise UnequalConfigurations("moments were scaled by different references")


def mean_shift_z(
    n: npt.ArrayLike,
    mean: npt.ArrayLike,
    std: npt.ArrayLike,
    m: npt.ArrayLike,
    reference_mean: npt.ArrayLike,
    reference_std: npt.ArrayLike,
) -> tuple[FloatArray, FloatArray]:
    """(z, standard error): z = abs(mean - reference_mean) / reference_std and its noise, both in reference deviations.

    The error holds the live mean's and the reference mean's own: sqrt(s^2 / n + reference_std^2 / m) / reference_std,
    s the *larger* of the two deviations. The usual s, the live one, is small just when a skewed feature's mean happens
    to be low: at alpha 0.001 and n = 200 a sparse amount then alarms 25 times too often, with the larger one never too
    often. The floor of statistics is 3 errors. NaN and an infinite error where n or m is below 2 or the reference does
    not vary.
    """
    n, m, std, unit = (np.asarray(x, dtype=np.float64) for x in (n, m, std, reference_std))
    gap = np.abs(np.asarray(mean, dtype=np.float64) - np.asarray(reference_mean, dtype=np.float64))
    known = (n >= 2) & (m >= 2) & (unit > 0) & np.isfinite(gap) & np.isfinite(std)
    # n - 1, not n: unbiased variance over n is the population variance over n - 1
    live_part = np.where(known, np.maximum(std, unit), 0.0) ** 2 / np.where(known, n - 1.0, 1.0)
    reference_part = np.where(known, unit, 0.0) ** 2 / np.where(known, m - 1.0, 1.0)
    safe_unit = np.where(known, unit, 1.0)
    error = np.sqrt(live_part + reference_part) / safe_unit
    return np.where(known, np.where(known, gap, 0.0) / safe_unit, np.nan), np.where(known, error, np.inf)


def _joined(high: IntArray, low: IntArray, low_bits: int, bits: int) -> FloatArray:
    return np.asarray(high * 2.0 ** (low_bits - bits) + low * 2.0**-bits, dtype=np.float64)


def _per(total: FloatArray, n: IntArray) -> FloatArray:
    share: FloatArray = np.divide(total, n, out=np.full(total.shape, np.nan), where=n > 0)
    return share
