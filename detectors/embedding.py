"""Drift of vectors: the norm of embeddings, and the part of a row that the reference's main directions do not explain.

The second sees what no single feature shows (two features that used to move together and no longer do). The principal
components are those of the reference and never re-fitted. Scoring costs O(d k) a row, and a row's score is bounded, so
that one broken row cannot drown the mean. Both signals are then means: judge them by their standard errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from detectors.base import BadParameter, BadValues, FloatArray
from detectors.moments import mean_shift_z
from detectors.state import fingerprint

CLIP: Final = 8.0
"""Standardised values enter as at most this."""


def norms(vectors: npt.ArrayLike) -> FloatArray:
    """L2 norm of each row of [n, d]; NaN where a row holds NaN or infinity."""
    rows = np.asarray(vectors, dtype=np.float64)
    if rows.ndim != 2:
        raise BadValues(f"vectors have {rows.ndim} dimensions, wanted [n, d]")
    finite = np.asarray(np.isfinite(rows).all(axis=1))
    clean = np.where(finite[:, None], rows, 0.0)
    # scaled by the largest entry, so that 1e200 does not overflow when squared
    largest = np.abs(clean).max(axis=1, initial=0.0)
    unit = clean / np.where(largest > 0, largest, 1.0)[:, None]
    return np.where(finite, largest * np.sqrt((unit * unit).sum(axis=1)), np.nan)


def norm_shift(
    n: npt.ArrayLike,
    mean: npt.ArrayLike,
    std: npt.ArrayLike,
    m: npt.ArrayLike,
    reference_mean: npt.ArrayLike,
    reference_std: npt.ArrayLike,
) -> tuple[FloatArray, FloatArray]:
    """(shift, standard error): abs(mean / reference_mean - 1) of the norms, and its noise by the delta method.

    As in :func:`detectors.moments.mean_shift_z` the larger of the two deviations counts.
    NaN and an infinite error where n or m is below 2 or the reference's mean is not above 0.
    """
    n, m, mean, std, base, base_std = (
        np.asarray(x, dtype=np.float64) for x in (n, m, mean, std, reference_mean, reference_std)
    )
    known = (n >= 2) & (m >= 2) & (base > 0) & np.isfinite(mean) & np.isfinite(std)
    safe = np.where(known, base, 1.0)
    ratio = np.where(known, mean, 0.0) / safe
    live_part = (np.where(known, np.maximum(std, base_std), 0.0) / safe) ** 2 / np.where(known, n - 1.0, 1.0)
    base_part = (ratio * np.where(known, base_std, 0.0) / safe) ** 2 / np.where(known, m - 1.0, 1.0)
    return np.where(known, np.abs(ratio - 1.0), np.nan), np.where(known, np.sqrt(live_part + base_part), np.inf)


@dataclass(frozen=True, slots=True, eq=False)
class FrozenPca:
    """Reconstruction error against k frozen directions.

    Attributes:
        centre, spread: float64[d], the reference's mean and standard deviation of each column.
        directions: float64[k, d], orthonormal rows, largest variance first.
        n: rows behind ``mean`` and ``std``.
        mean, std: of the error over reference rows that the directions were *not* fitted on.
    """

    centre: FloatArray
    spread: FloatArray
    directions: FloatArray
    n: int
    mean: float
    std: float

    @classmethod
    def fit(cls, reference: npt.ArrayLike, k: int) -> FrozenPca:
        """Fit k directions to the even rows of reference[n, d] and take the error's mean and deviation from the odd
        ones.

        On the rows it was fitted to the error is too small, and clean traffic would look drifted. NaN and infinities
        count as the column's mean.
        """
        rows = np.asarray(reference, dtype=np.float64)
        if rows.ndim != 2 or len(rows) < 4:
            raise BadValues(f"reference {list(rows.shape)}; wanted [n, d] with 4 rows or more")
        if not 1 <= k < rows.shape[1]:
            raise BadParameter(f"{k} directions of {rows.shape[1]}: with all of them nothing is left unexplained")
        known = np.isfinite(rows)
        filled = np.maximum(known.sum(axis=0), 1)
        centre = np.where(known, rows, 0.0).sum(axis=0) / filled
        spread = np.sqrt((np.where(known, rows - centre, 0.0) ** 2).sum(axis=0) / filled)
        spread = np.where(spread > 1e-12 * np.abs(centre) + np.finfo(np.float64).tiny, spread, 1.0)
        half = cls(centre, spread, np.zeros((0, rows.shape[1])), 0, 0.0, 0.0)
        fitted = half._standardised(rows[0::2])
        # eigenvectors of the d x d covariance: cheaper than an SVD of many rows
        _, vectors = np.linalg.eigh(fitted.T @ fitted)
        directions = vectors[:, ::-1][:, :k].T
        # an eigenvector's sign is arbitrary: the largest entry is made positive, so that equal data give equal
        # directions
        largest = np.abs(directions).argmax(axis=1)
        directions = directions * np.sign(directions[np.arange(k), largest])[:, None]
        errors = cls(centre, spread, directions, 0, 0.0, 0.0).score(rows[1::2])
        return cls(centre, spread, directions, errors.size, float(errors.mean()), float(errors.std()))

    @property
    def fingerprint(self) -> bytes:
        """16 bytes; equal exactly when centre, spread and directions are."""
        return fingerprint("pca", {"centre": self.centre, "spread": self.spread, "directions": self.directions})

    @property
    def largest(self) -> float:
        """No row scores more than this."""
        return CLIP

    def score(self, rows: npt.ArrayLike) -> FloatArray:
        """Reconstruction error of each row of [n, d]: root mean square over d, in spreads, in [0, 8]. O(d k) a row."""
        table = np.asarray(rows, dtype=np.float64)
        if table.ndim != 2 or table.shape[1] != self.centre.size:
            raise BadValues(f"rows {list(table.shape)}; wanted [n, {self.centre.size}]")
        z = self._standardised(table)
        inside = z @ self.directions.T
        # Pythagoras: what the orthonormal directions explain is taken off the square, without rebuilding the row
        unexplained = np.maximum((z * z).sum(axis=1) - (inside * inside).sum(axis=1), 0.0)
        return np.asarray(np.sqrt(unexplained / self.centre.size), dtype=np.float64)

    def shift(self, n: npt.ArrayLike, mean: npt.ArrayLike, std: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """(z, standard error) of the mean error of n live rows against the reference's, in the reference's
        deviations."""

        return mean_shift_z(n, mean, std, self.n, self.mean, self.std)

    def _standardised(self, rows: FloatArray) -> FloatArray:
        with np.errstate(over="ignore", invalid="ignore"):
            z = (rows - self.centre) / self.spread
        z = np.where(np.isnan(z) | ~np.isfinite(rows), 0.0, z)
        return np.clip(z, -CLIP, CLIP)
