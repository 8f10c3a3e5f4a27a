"""How far two histograms lie apart: PSI, Jensen-Shannon divergence (both in nats) and the largest change of one share.

All functions take integer counts ``live`` and ``reference`` of shape [..., B] over the same bins and work on all
leading dimensions at once. n and m are the rows' sums. With no change at all PSI ~ (1/n + 1/m) chi2(B - 1): a value
means something only beyond its floor (Yurdakul & Naranjo 2020; Potgieter et al., arXiv 2307.11878). Where one side is
empty the figures are NaN and the floor is infinite.

PSI here adds 0.5 to the count of every bin before shares are taken; bins that are empty on both sides are left out and
are not counted in B.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from detectors.base import BadValues, FloatArray, IntArray

Counts = npt.NDArray[np.integer[Any]]


def used_bins(live: Counts, reference: Counts) -> IntArray:
    """B: how many bins hold a row on either side. Shape [...]."""
    return np.asarray(((live > 0) | (reference > 0)).sum(axis=-1), dtype=np.int64)


def psi(live: Counts, reference: Counts) -> FloatArray:
    """Population stability index, nats: sum (a - b) ln(a / b). Shape [...]."""
    live, reference = _checked(live, reference)
    used = (live > 0) | (reference > 0)
    a = np.where(used, live + 0.5, 0.0)
    b = np.where(used, reference + 0.5, 0.0)
    shares_a = _divide(a, a.sum(axis=-1, keepdims=True))
    shares_b = _divide(b, b.sum(axis=-1, keepdims=True))
    # 1 where a bin is left out: its logarithm is 0, and no warning is raised
    ratio = np.divide(shares_a, shares_b, out=np.ones_like(a), where=used)
    return _known(((shares_a - shares_b) * np.log(ratio)).sum(axis=-1), live, reference)


def psi_debiased(live: Counts, reference: Counts) -> FloatArray:
    """PSI minus what noise alone adds on average, (B - 1)(1/n + 1/m). May be below 0. Shape [...]."""
    live, reference = _checked(live, reference)
    noise = _noise(live.sum(axis=-1), reference.sum(axis=-1))
    value = psi(live, reference)
    bias = np.where(np.isfinite(noise), noise, 0.0) * np.maximum(used_bins(live, reference) - 1, 0)
    return np.asarray(value - bias, dtype=np.float64)


def psi_floor(n: npt.ArrayLike, m: npt.ArrayLike, bins: npt.ArrayLike, alpha: npt.ArrayLike) -> FloatArray:
    """The PSI that an unchanged distribution exceeds with probability ``alpha``: (1/n + 1/m) chi2.isf(alpha, B - 1).

    Infinite where n or m is 0 or B < 2: there is nothing to compare. Valid where every bin expects 3 rows or more.
    """
    degrees = np.asarray(bins, dtype=np.float64) - 1.0
    quantile = 2.0 * special.gammainccinv(np.maximum(degrees, 1.0) / 2.0, np.asarray(alpha, dtype=np.float64))
    return np.where(degrees >= 1.0, quantile * _noise(n, m), np.inf)


def psi_p_value(value: npt.ArrayLike, n: npt.ArrayLike, m: npt.ArrayLike, bins: npt.ArrayLike) -> FloatArray:
    """Chance of a PSI at least this large without any change (chi-squared approximation). 1 where nothing is
    compared."""
    degrees = np.asarray(bins, dtype=np.float64) - 1.0
    noise = _noise(n, m)
    usable = (degrees >= 1.0) & np.isfinite(noise) & np.isfinite(value)
    scaled = _divide(np.where(usable, value, 0.0), np.where(usable, noise, 1.0))
    return np.where(usable, special.chdtrc(np.maximum(degrees, 1.0), np.maximum(scaled, 0.0)), 1.0)


def js_divergence(live: Counts, reference: Counts) -> FloatArray:
    """Jensen-Shannon divergence, nats, in [0, ln 2]. Shape [...].

    ``scipy.spatial.distance.jensenshannon`` returns the *square root* of this. No 0.5 is added: JS needs none.
    """
    live, reference = _checked(live, reference)
    a, b = _shares(live), _shares(reference)
    middle = (a + b) / 2.0
    # rel_entr(0, .) = 0, and the middle is 0 only where both are
    total = (special.rel_entr(a, middle) + special.rel_entr(b, middle)).sum(axis=-1) / 2.0
    return _known(np.maximum(total, 0.0), live, reference)


def js_floor(n: npt.ArrayLike, m: npt.ArrayLike, bins: npt.ArrayLike, alpha: npt.ArrayLike) -> FloatArray:
    """Noise floor of the JS divergence, nats: to second order JS is PSI / 8."""
    return np.asarray(psi_floor(n, m, bins, alpha) / 8.0, dtype=np.float64)


def l_infinity(live: Counts, reference: Counts) -> FloatArray:
    """The largest change of one bin's share, in [0, 1]. Shape [...]. For categories in large numbers."""
    live, reference = _checked(live, reference)
    return _known(np.abs(_shares(live) - _shares(reference)).max(axis=-1, initial=0.0), live, reference)


def l_infinity_floor(live: Counts, reference: Counts, alpha: npt.ArrayLike) -> FloatArray:
    """What l_infinity exceeds without any change with probability at most ``alpha``: Bernstein's bound over all B bins.

    A normal quantile would do for common categories, but lies for rare ones at small alphas. Shape [...].
    """
    live, reference = _checked(live, reference)
    n, m = live.sum(axis=-1), reference.sum(axis=-1)
    noise = _noise(n, m)
    finite = np.where(np.isfinite(noise), noise, 0.0)
    pooled = _shares(live + reference)
    spread = (pooled * (1.0 - pooled)).max(axis=-1, initial=0.0)
    log_term = np.log(2.0 * np.maximum(used_bins(live, reference), 1) / np.asarray(alpha, dtype=np.float64))
    floor = np.sqrt(2.0 * spread * finite * log_term) + finite * log_term / 3.0
    return np.where(np.isfinite(noise), floor, np.inf)


def smallest_expected(live: Counts, reference: Counts) -> FloatArray:
    """The live rows that the reference's share predicts for its rarest used bin. Below 3 the PSI's floor lies."""
    live, reference = _checked(live, reference)
    used = (live > 0) | (reference > 0)
    expected = live.sum(axis=-1, keepdims=True) * _shares(reference)
    smallest = np.where(used, expected, np.inf).min(axis=-1, initial=np.inf)
    return np.where(np.isfinite(smallest), smallest, 0.0)


def rare_bins(live: Counts, reference: Counts, minimum: float = 3.0) -> npt.NDArray[np.bool_]:
    """Which bins expect fewer than ``minimum`` live rows under the reference's shares. Shape [..., B]."""
    live, reference = _checked(live, reference)
    return np.asarray(live.sum(axis=-1, keepdims=True) * _shares(reference) < minimum)


def merge_rare(live: Counts, reference: Counts, minimum: float = 3.0) -> tuple[IntArray, IntArray]:
    """Live and reference counts, int64[..., B + 1], with rare bins pooled so that each used bin expects ``minimum``
    rows.

    The pool is the last bin. Where even the pool expects too few, it joins the smallest common bin. The choice depends
    on the reference and on n alone, so the test stays honest. What pooling hides (live rows where the reference has
    next to none) is a share: judge :func:`rare_mass` by the exact binomial.
    """
    live, reference = _checked(live, reference)
    rare = rare_bins(live, reference, minimum)
    pool_live = np.where(rare, live, 0).sum(axis=-1)
    pool_reference = np.where(rare, reference, 0).sum(axis=-1)
    n, m = live.sum(axis=-1), reference.sum(axis=-1)
    thin = (n * pool_reference < minimum * m) & ~rare.all(axis=-1)
    # the smallest common bin: rare ones are out of the question
    home = np.where(rare, np.iinfo(np.int64).max, reference).argmin(axis=-1)
    at_home = thin[..., None] & (np.arange(live.shape[-1]) == home[..., None])
    tables = []
    for counts, pool in ((live, pool_live), (reference, pool_reference)):
        kept = np.where(rare, 0, counts) + np.where(at_home, pool[..., None], 0)
        tables.append(np.concatenate([kept, np.where(thin, 0, pool)[..., None]], axis=-1))
    return tables[0], tables[1]


def rare_mass(live: Counts, reference: Counts, minimum: float = 3.0) -> tuple[IntArray, IntArray]:
    """Live and reference rows that lie in rare bins (tails never seen, new categories). Shapes [...]."""
    live, reference = _checked(live, reference)
    rare = rare_bins(live, reference, minimum)
    return np.where(rare, live, 0).sum(axis=-1), np.where(rare, reference, 0).sum(axis=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All divergences of many histogram pairs, each array of shape [...].

    PSI, JS and the p-value are taken after rare bins were pooled, L-infinity before; ``bins`` is B after pooling.
    ``rare_live`` and ``rare_reference`` are the rows in the pooled bins.
    """

    n: IntArray
    m: IntArray
    bins: IntArray
    psi: FloatArray
    psi_debiased: FloatArray
    psi_floor: FloatArray
    p_value: FloatArray
    js: FloatArray
    js_floor: FloatArray
    l_infinity: FloatArray
    l_infinity_floor: FloatArray
    rare_live: IntArray
    rare_reference: IntArray


def compare(live: Counts, reference: Counts, *, alpha: npt.ArrayLike, minimum: float = 3.0) -> Comparison:
    """Every divergence with its floor at ``alpha``, guarded: rare bins are pooled first."""
    live, reference = _checked(live, reference)
    merged_live, merged_reference = merge_rare(live, reference, minimum)
    rare_live, rare_reference = rare_mass(live, reference, minimum)
    n, m = live.sum(axis=-1), reference.sum(axis=-1)
    bins = used_bins(merged_live, merged_reference)
    value = psi(merged_live, merged_reference)
    floor = psi_floor(n, m, bins, alpha)
    return Comparison(
        n=n,
        m=m,
        bins=bins,
        psi=value,
        psi_debiased=psi_debiased(merged_live, merged_reference),
        psi_floor=floor,
        p_value=psi_p_value(value, n, m, bins),
        js=js_divergence(merged_live, merged_reference),
        js_floor=np.asarray(floor / 8.0, dtype=np.float64),
        l_infinity=l_infinity(live, reference),
        l_infinity_floor=l_infinity_floor(live, reference, alpha),
        rare_live=rare_live,
        rare_reference=rare_reference,
    )


def _checked(live: Counts, reference: Counts) -> tuple[IntArray, IntArray]:
    live, reference = np.asarray(live), np.asarray(reference)
    if live.dtype.kind not in "iu" or reference.dtype.kind not in "iu":
        raise BadValues("counts are integers")
    if live.ndim == 0 or reference.ndim == 0 or live.shape[-1] != reference.shape[-1]:
        raise BadValues(f"counts of shapes {live.shape} and {reference.shape} lie over different bins")
    a, b = np.broadcast_arrays(live.astype(np.int64, copy=False), reference.astype(np.int64, copy=False))
    if a.size and (a.min() < 0 or b.min() < 0):
        raise BadValues("counts are negative")
    return a, b


def _divide(top: npt.ArrayLike, bottom: npt.ArrayLike) -> FloatArray:
    top, bottom = np.broadcast_arrays(np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64))
    ratio: FloatArray = np.divide(top, bottom, out=np.zeros(top.shape), where=bottom != 0)
    return ratio


def _shares(counts: IntArray) -> FloatArray:
    return _divide(counts, counts.sum(axis=-1, keepdims=True))


def _noise(n: npt.ArrayLike, m: npt.ArrayLike) -> FloatArray:
    n, m = np.asarray(n, dtype=np.float64), np.asarray(m, dtype=np.float64)
    both = (n > 0) & (m > 0)
    return np.where(both, _divide(1.0, np.where(both, n, 1.0)) + _divide(1.0, np.where(both, m, 1.0)), np.inf)


def _known(value: FloatArray, live: IntArray, reference: IntArray) -> FloatArray:
    both = (live.sum(axis=-1) > 0) & (reference.sum(axis=-1) > 0)
    return np.where(both, value, np.nan)
