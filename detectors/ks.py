"""Kolmogorov-Smirnov over bins: the largest gap between two cumulative distributions, seen at the bins' edges.

Counts of shape [..., B] over *ordered* bins (no missing, no invalid). Between edges the gap may be larger than at
them: by at most :func:`ks_slack`, which is at most the mass of the largest bin; with 100 quantile bins that is about
0.01.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from detectors.base import BadValues, FloatArray

Counts = npt.NDArray[np.integer[Any]]


def ks_statistic(live: Counts, reference: Counts) -> FloatArray:
    """Largest gap of the two CDFs over the bins' edges, in [0, 1]. NaN where a side is empty. Shape [...]."""
    a, b = _shares(live, reference)
    return np.asarray(np.abs(np.cumsum(a - b, axis=-1)).max(axis=-1), dtype=np.float64)


def ks_slack(live: Counts, reference: Counts) -> FloatArray:
    """How much larger the gap over all values may be than :func:`ks_statistic`. Shape [...].

    Inside a bin the live CDF may rise before the reference's does, or after: both extremes, over all bins.
    """
    a, b = _shares(live, reference)
    right = np.cumsum(a - b, axis=-1)
    left = right - (a - b)
    widest = np.maximum(left + a, b - left).max(axis=-1)
    return np.asarray(np.maximum(widest - np.abs(right).max(axis=-1), 0.0), dtype=np.float64)


def ks_p_value(statistic: npt.ArrayLike, n: npt.ArrayLike, m: npt.ArrayLike, *, exact: bool = False) -> FloatArray:
    """Chance of a gap at least this large without any change.

    Two samples of sizes n and m count as one of n m / (n + m). The default is Kolmogorov's limit, fast over arrays;
    ``exact`` takes ``scipy.stats.kstwo`` as ``ks_2samp`` does, a thousand times slower. Over bins both err on the
    quiet side. 1 where the statistic is NaN or a size is 0.
    """
    gap, n, m = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (statistic, n, m)))
    known = np.isfinite(gap) & (n > 0) & (m > 0)
    size = np.divide(n * m, n + m, out=np.zeros(gap.shape), where=known)
    clean = np.where(known, gap, 0.0)
    rounded = np.maximum(np.round(size), 1.0)  # as ks_2samp does
    if exact:
        from scipy import stats  # here: a second at the start of every process, and the pipeline never asks for it

        p = stats.kstwo.sf(clean, rounded)
    else:
        p = special.kolmogorov(np.sqrt(size) * clean)
    return np.where(known, np.clip(p, 0.0, 1.0), 1.0)


def ks_floor(n: npt.ArrayLike, m: npt.ArrayLike, alpha: npt.ArrayLike) -> FloatArray:
    """The gap that an unchanged distribution exceeds with probability at most about ``alpha``. Infinite where a size
    is 0."""
    n, m = np.asarray(n, dtype=np.float64), np.asarray(m, dtype=np.float64)
    known = (n > 0) & (m > 0)
    noise = np.where(known, 1.0 / np.where(known, n, 1.0) + 1.0 / np.where(known, m, 1.0), np.inf)
    return np.asarray(special.kolmogi(np.asarray(alpha, dtype=np.float64)) * np.sqrt(noise), dtype=np.float64)


def _shares(live: Counts, reference: Counts) -> tuple[FloatArray, FloatArray]:
    live, reference = np.asarray(live), np.asarray(reference)
    if live.dtype.kind not in "iu" or reference.dtype.kind not in "iu":
        raise BadValues("counts are integers")
    if min(live.ndim, reference.ndim) == 0 or live.shape[-1] != reference.shape[-1] or live.shape[-1] == 0:
        raise BadValues(f"counts of shapes {live.shape} and {reference.shape} lie over different bins")
    return _share(live), _share(reference)


def _share(counts: Counts) -> FloatArray:
    total = counts.sum(axis=-1, keepdims=True)
    share: FloatArray = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    return share
