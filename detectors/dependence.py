"""Rows that depend on each other: how far spans of one length vary by themselves, over what independent rows would.

A mean or a share over n rows has variance s^2 / n where rows are independent. Where they are not (a cycle of the day, weather, a batch
of one customer) spans of n rows vary by s^2 (1 / n + rho): rho is what is common to the rows of one span, relative to the variance of
one row. Then n rows are worth n / D independent ones, with the *design effect* D = 1 + n rho, and a test's chance p becomes p^(1 / D):
the exponent of every test here (normal, chi-squared, binomial, Bernstein) is proportional to n. The exact tail is smaller still.

rho is taken from past spans. Of each the distance from what they have in common is kept, less what three in four independent spans
stay below: their third quartile is then 0 without dependence, and a quarter of all spans may be faulty without moving it. Unless far more
than one in ten spans is beyond what one in ten independent ones passes, rho is 0: independent rows keep all their worth.

Sources: Kish 1965 (design effect); Rao & Scott 1981 (chi-squared tests of clustered rows); Beran 1994 (variance of means by span length).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from detectors.shares import Array, binomial_log_tail

TYPICAL, RARE = 0.75, 0.9
LEAST_SPANS = 8
GATE = 1e-5  # chance that independent rows pass for dependent
LEAST_EXPECTED = 3.0  # rows of a bin: rarer ones say more of chance than of variation
QUARTILE = 1.3233036969314664  # third quartile of a squared normal


class Excess(NamedTuple):
    """`value`: the squared distance of a span, relative to the variance of one row, over `noise`, the third quartile of independent spans.
    `rare`: whether nine in ten independent spans are nearer. NaN, False where rows are too few to say."""

    value: Array
    rare: npt.NDArray[np.bool_]
    noise: Array


def histogram_excess(live: npt.ArrayLike, usual: npt.ArrayLike, held: npt.ArrayLike = 0.0) -> Excess:
    """Counts [..., bins] of a span against those of all spans. `held` [...] is the share of `usual`'s rows that are the span's own.

    The distance is Pearson's: it bounds that of any share and any mean taken of the bins. Bins of fewer than three expected rows are
    left out.
    """
    k, c = (np.asarray(part, dtype=np.float64) for part in (live, usual))
    n, m = k.sum(axis=-1), c.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = k / n[..., None], c / m[..., None]
        used = n[..., None] * b >= LEAST_EXPECTED
        distance = np.where(used, (a - b) ** 2 / b, 0.0).sum(axis=-1)
    spread = np.where(used, 1.0 - b, 0.0).sum(axis=-1)
    kept = used.sum(axis=-1)
    degrees = np.where((used | (c <= 0)).all(axis=-1), kept - 1, kept)
    return _excess(distance, spread, degrees, n, m, held)


def share_excess(
    k: npt.ArrayLike, n: npt.ArrayLike, usual_k: npt.ArrayLike, usual_n: npt.ArrayLike, held: npt.ArrayLike = 0.0
) -> Excess:
    """Hits k of n rows of a span against those of all spans, [...]."""
    hits, rows, of, m = (np.asarray(part, dtype=np.float64) for part in (k, n, usual_k, usual_n))
    with np.errstate(divide="ignore", invalid="ignore"):
        b = np.clip(of / m, 0.5 / m, 1.0 - 0.5 / m)  # no share is known to be 0
        distance = (hits / rows - b) ** 2 / (b * (1.0 - b))
    return _excess(distance, 1.0, 1, rows, m, held)


def mean_excess(
    n: npt.ArrayLike,
    mean: npt.ArrayLike,
    usual_n: npt.ArrayLike,
    usual_mean: npt.ArrayLike,
    usual_variance: npt.ArrayLike,
    held: npt.ArrayLike = 0.0,
) -> Excess:
    """The mean of n rows of a span against that of all spans, whose rows have the given variance, [...]."""
    rows, m, variance = (np.asarray(part, dtype=np.float64) for part in (n, usual_n, usual_variance))
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = (np.asarray(mean, dtype=np.float64) - np.asarray(usual_mean, dtype=np.float64)) ** 2 / variance
    return _excess(distance, 1.0, 1, rows, m, held)


def _excess(
    distance: Array, spread: npt.ArrayLike, degrees: npt.ArrayLike, n: Array, m: Array, held: npt.ArrayLike
) -> Excess:
    """`spread` of one row and `degrees` of freedom: without dependence the distance is about spread / degrees chi2(degrees) noise."""
    own = np.asarray(held, dtype=np.float64)
    freedom = np.asarray(degrees, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        others = m * (1.0 - own)
        scale = np.asarray(spread, dtype=np.float64) / freedom * (1.0 / n + 1.0 / others)
        # What lies in the usual of the span itself drew it nearer.
        apart = distance / (1.0 - own) ** 2
    known = np.isfinite(apart) & np.isfinite(scale) & (freedom >= 1.0) & (others >= n)
    half = np.where(known, freedom, 1.0) / 2.0
    typical, rare = (2.0 * special.gammaincinv(half, part) * np.where(known, scale, 0.0) for part in (TYPICAL, RARE))
    value = np.where(known, apart - typical, np.nan)
    beyond = np.asarray(known & (np.where(known, apart, 0.0) > rare))
    return Excess(np.asarray(value), beyond, np.asarray(np.where(known, typical, np.nan)))


class Variation(NamedTuple):
    """`rho` if rows depend on each other, NaN where fewer than eight spans are known; `log_p`, natural, of so many rare spans if they do
    not."""

    rho: Array
    log_p: Array


def variation(value: npt.ArrayLike, rare: npt.ArrayLike) -> Variation:
    """Of the `Excess` of past spans [..., spans]. Few spans have not seen all: the fewer, the larger rho is taken."""
    past, beyond = np.asarray(value, dtype=np.float64), np.asarray(rare, dtype=np.bool_)
    known = ~np.isnan(past)
    spans = known.sum(axis=-1).astype(np.float64)
    hits = (beyond & known).sum(axis=-1).astype(np.float64)
    last = np.sort(np.where(known, past, np.inf), axis=-1)  # unknown ones last
    place = np.maximum(np.ceil(TYPICAL * spans).astype(np.int64) - 1, 0)
    quartile = np.take_along_axis(last, place[..., None], axis=-1)[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = np.maximum(quartile, 0.0) / QUARTILE * (1.0 + 2.0 / np.sqrt(spans))
    return Variation(np.where(spans >= LEAST_SPANS, rho, np.nan), binomial_log_tail(hits, spans, 1.0 - RARE))


def own_variation(value: npt.ArrayLike, rare: npt.ArrayLike) -> Array:
    """rho [...] of spans [..., spans] that stand alone: 0 where they are no farther apart than independent ones."""
    found = variation(value, rare)
    return np.asarray(np.where((found.log_p > np.log(GATE)) & ~np.isnan(found.rho), 0.0, found.rho))


def design_effect(n: npt.ArrayLike, rho: npt.ArrayLike) -> Array:
    """How many rows are worth one independent row, at least 1; where rho is not known, 1."""
    return np.asarray(1.0 + np.asarray(n, dtype=np.float64) * np.nan_to_num(np.asarray(rho, dtype=np.float64)))


def discounted(log_p: npt.ArrayLike, effect: npt.ArrayLike) -> Array:
    """ln p of a test whose rows are worth one in `effect`: never smaller than that of the test over so many fewer rows."""
    return np.asarray(np.asarray(log_p, dtype=np.float64) / np.asarray(effect, dtype=np.float64))
