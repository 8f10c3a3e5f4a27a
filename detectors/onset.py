"""When did it begin? The most likely first pane of a change, with an interval, from counts or sums per pane.

Panes come oldest first. The model: panes before the onset follow one distribution (the reference's, or, without one,
what the earlier panes themselves show), those from it on another, unknown one. For each possible onset the likelihood
is taken at its best unknown distribution (profile likelihood). The interval holds every onset whose log-likelihood
lies within ``drop`` of the best. Onsets are whole panes, so no chi-squared quantile gives the drop: by simulation the
default 3.0 covers the true pane in more than 95 % of changes worth an alert (the tests repeat it).

Both functions work on all leading dimensions at once. Onset p means: pane p is the first changed one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import special

from detectors.base import BadParameter, BadValues, FloatArray, IntArray

DROP: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Onset:
    """Arrays of shape [...], one estimate each.

    Attributes:
        pane: index of the first changed pane, 0 to P - 1.
        first, last: the interval [first, last] of panes that fit nearly as well, both ends included.
        gain: log-likelihood ratio of the best onset against no change at all, nats.
    """

    pane: IntArray
    first: IntArray
    last: IntArray
    gain: FloatArray


def onset_of_counts(
    panes: npt.NDArray[np.integer[Any]],
    reference: npt.NDArray[np.integer[Any]] | None = None,
    *,
    drop: float = DROP,
) -> Onset:
    """Onset of a change of a distribution: ``panes`` integers [..., P, B], ``reference`` integers [..., B]
    (multinomial).

    Two bins (successes, failures) make it the onset of a change of a rate. Without a reference the earlier panes are
    their own, and an onset at pane 0 means: no change.
    """
    panes = np.asarray(panes)
    if panes.ndim < 2 or panes.dtype.kind not in "iu" or 0 in panes.shape[-2:] or (panes.size and panes.min() < 0):
        raise BadValues(f"panes {panes.dtype}{list(panes.shape)}; wanted counts [..., P, B]")
    after = _suffix_sums(panes.astype(np.float64))
    before = after[..., :1, :] - after
    if reference is None:
        fit_before, whole = _best_fit(before), _best_fit(after[..., 0, :])
    else:
        shares = _shares(reference, panes.shape[-1])
        fit_before = special.xlogy(before, shares[..., None, :]).sum(axis=-1)
        whole = special.xlogy(after[..., 0, :], shares).sum(axis=-1)
    return _choose(fit_before + _best_fit(after), whole, drop)


def onset_of_means(
    n: npt.ArrayLike,
    total: npt.ArrayLike,
    *,
    mean: npt.ArrayLike | None,
    std: npt.ArrayLike,
    drop: float = DROP,
) -> Onset:
    """Onset of a change of a mean: values' number ``n`` and ``total`` per pane, both [..., P] (Gaussian with known
    ``std``).

    ``mean`` and ``std`` are the reference's, of shape [...]; a mean of None takes the earlier panes' own. Panes may be
    empty.
    """
    count, sums = np.broadcast_arrays(np.asarray(n, dtype=np.float64), np.asarray(total, dtype=np.float64))
    unit = np.asarray(std, dtype=np.float64)
    if count.ndim < 1 or count.shape[-1] == 0 or not (np.isfinite(sums).all() and (count >= 0).all()):
        raise BadValues(f"panes {list(count.shape)}; wanted finite sums and counts [..., P]")
    if not (np.isfinite(unit).all() and (unit > 0).all()):
        raise BadParameter("std is finite and above 0")
    centre = 0.0 if mean is None else np.asarray(mean, dtype=np.float64)[..., None]
    z = (sums - count * centre) / unit[..., None]
    n_after, z_after = _suffix_sums(count[..., None])[..., 0], _suffix_sums(z[..., None])[..., 0]
    fit = _squared_mean(z_after, n_after)
    whole = np.zeros(fit.shape[:-1])
    if mean is None:
        fit = fit + _squared_mean(z_after[..., :1] - z_after, n_after[..., :1] - n_after)
        whole = _squared_mean(z_after, n_after)[..., 0]
    return _choose(fit, whole, drop)


def _choose(fit: FloatArray, whole: FloatArray, drop: float) -> Onset:
    if not drop > 0:
        raise BadParameter("drop is above 0")
    near = fit >= fit.max(axis=-1, keepdims=True) - drop
    panes = fit.shape[-1]
    return Onset(
        pane=np.asarray(fit.argmax(axis=-1), dtype=np.int64),
        first=np.asarray(near.argmax(axis=-1), dtype=np.int64),
        last=np.asarray(panes - 1 - near[..., ::-1].argmax(axis=-1), dtype=np.int64),
        gain=np.asarray(fit.max(axis=-1) - whole, dtype=np.float64),
    )


def _suffix_sums(panes: FloatArray) -> FloatArray:
    """Sum from each pane on, along the last axis but one."""
    return np.flip(np.cumsum(np.flip(panes, axis=-2), axis=-2), axis=-2)


def _best_fit(counts: FloatArray) -> FloatArray:
    """Log-likelihood of counts[..., B] under their own shares."""
    total = counts.sum(axis=-1)
    return np.asarray(special.xlogy(counts, counts).sum(axis=-1) - special.xlogy(total, total), dtype=np.float64)


def _shares(reference: npt.NDArray[np.integer[Any]], bins: int) -> FloatArray:
    counts = np.asarray(reference)
    if counts.dtype.kind not in "iu" or counts.ndim < 1 or counts.shape[-1] != bins or counts.min() < 0:
        raise BadValues(f"reference {counts.dtype}{list(counts.shape)}; wanted counts over {bins} bins")
    # half a row in every bin: a bin the reference never saw is unlikely, not impossible
    padded = counts + 0.5
    return np.asarray(padded / padded.sum(axis=-1, keepdims=True), dtype=np.float64)


def _squared_mean(z: FloatArray, n: FloatArray) -> FloatArray:
    """Log-likelihood gained by the best mean over mean 0: z^2 / 2n, and 0 for no values."""
    gained: FloatArray = np.divide(z * z, 2.0 * n, out=np.zeros(np.shape(z)), where=n > 0)
    return gained
