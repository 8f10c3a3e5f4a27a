"""Many features at once: which of K tests may speak.

:func:`e_bh` for alarms: valid under any dependence between the features (Wang & Ramdas 2022).
:func:`benjamini_hochberg` for the table that people read: its p-values must be independent or positively dependent
(Benjamini & Hochberg 1995).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from detectors.base import BadParameter, BadValues, FloatArray

Mask = npt.NDArray[np.bool_]


def e_bh(log_e: npt.ArrayLike, alpha: float) -> Mask:
    """Mask of the rejected among K e-values, given as natural logarithms (-inf is e = 0): shape [K].

    The k largest are kept for the largest k with k e_(k) >= K / alpha; the false discovery rate is at most ``alpha``.
    """
    _level(alpha)
    values = _column(log_e)
    if np.isnan(values).any():
        raise BadValues("e-values hold NaN")
    k = np.arange(1, values.size + 1)
    order = np.argsort(-values, kind="stable")
    passed = np.log(k) + values[order] >= math.log(max(values.size, 1)) - math.log(alpha)
    return _largest(passed, order)


def benjamini_hochberg(p_values: npt.ArrayLike, alpha: float) -> Mask:
    """Mask of the rejected among K p-values at false discovery rate ``alpha``: shape [K]."""
    _level(alpha)
    return np.asarray(adjusted_p_values(p_values) <= alpha)


def adjusted_p_values(p_values: npt.ArrayLike) -> FloatArray:
    """For each p-value the smallest rate at which Benjamini-Hochberg would reject it: shape [K], in [0, 1]."""
    values = _column(p_values)
    if not ((values >= 0.0) & (values <= 1.0)).all():
        raise BadValues("p-values lie in [0, 1]")
    order = np.argsort(values, kind="stable")
    scaled = values[order] * values.size / np.arange(1, values.size + 1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def _largest(passed: Mask, order: npt.NDArray[np.intp]) -> Mask:
    chosen = np.zeros(order.size, dtype=np.bool_)
    if passed.any():
        chosen[order[: int(np.flatnonzero(passed)[-1]) + 1]] = True
    return chosen


def _column(values: npt.ArrayLike) -> FloatArray:
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise BadValues(f"{column.ndim} dimensions, wanted one value for each test")
    return column


def _level(alpha: float) -> None:
    if not 0.0 < alpha < 1.0:
        raise BadParameter(f"alpha {alpha} is not in (0, 1)")
