"""Labels that come late: how many have come, how many should have, and figures that may be compared meanwhile.

Labels that come early are not a fair sample (a fraud is reported in days, its absence shows after months), so a young
cohort always looks different from a grown one. Three remedies, all from counts by delay:
coverage (joined / due) against what the reference had at the same age; the reference's figure *at the same age* as
baseline; and the figure of the cohort with its delays weighted as in the reference.

Delays are seconds from prediction to label, counted in bins with edges [K + 1]: [edges[k], edges[k + 1]). Shares are of
*all* reference predictions, those never labelled included.

Sources: Dvoretzky, Kiefer & Wolfowitz 1956, Massart 1990 (band around the delays); Hoeffding 1956 (sums of unequal
trials spread less than the binomial); Podkopaev & Ramdas, arXiv 2110.06177.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.classification import mean_from_sums
from detectors.errors import BadParameter
from detectors.shares import Array, Estimate, binomial_log_tail, counts, divide, share


class Delays(NamedTuple):
    """The reference's delays: `edges` [K + 1] seconds, `labelled` [K] rows by delay, `rows` all its predictions."""

    edges: Array
    labelled: Array
    rows: float


class CoverageShift(NamedTuple):
    """Coverage in [0, 1] against that expected at the same age; `log_p` natural, of so *few* labels."""

    coverage: Estimate
    expected: Array
    delta: Array
    log_p: Array


class Weighted(NamedTuple):
    """A figure with the reference's delays; `covered` = share of the reference's labels whose delays it stands for."""

    estimate: Estimate
    covered: Array


def delays(edges: npt.ArrayLike, labelled: npt.ArrayLike, rows: float) -> Delays:
    """Reference delays. BadParameter unless edges increase and the labelled rows are at most all rows."""
    borders, by_delay = np.asarray(edges, dtype=np.float64), counts(labelled)
    if borders.ndim != 1 or by_delay.shape != (borders.size - 1,) or not np.all(np.diff(borders) > 0.0):
        raise BadParameter("edges must increase and be one more than the counts")
    if by_delay.sum() > rows:
        raise BadParameter(f"{by_delay.sum():.0f} labelled rows cannot come from {rows:.0f}")
    return Delays(borders, by_delay, float(rows))


def share_by_age(reference: Delays, age_s: npt.ArrayLike) -> Array:
    """Share of all reference predictions whose label had come at each age, linear within a bin. NaN without rows."""
    reached = np.concatenate([[0.0], np.cumsum(reference.labelled)])
    return divide(np.interp(np.asarray(age_s, dtype=np.float64), reference.edges, reached), reference.rows)


def delay_quantiles(reference: Delays, q: npt.ArrayLike) -> Array:
    """Delays in seconds that the shares `q` of the *labelled* rows do not exceed. NaN without labels."""
    reached = np.concatenate([[0.0], np.cumsum(reference.labelled)])
    wanted = np.asarray(q, dtype=np.float64) * reached[-1]
    after = np.clip(np.searchsorted(reached, wanted, side="left"), 1, reached.size - 1)
    part = divide(wanted - reached[after - 1], reached[after] - reached[after - 1])
    left, right = reference.edges[after - 1], reference.edges[after]
    return np.asarray(np.where(reached[-1] > 0.0, left + np.nan_to_num(part) * (right - left), np.nan))


def label_coverage(joined: npt.ArrayLike, due: npt.ArrayLike) -> Estimate:
    """Joined over due predictions, with its error."""
    return share(joined, due)


def expected_coverage(reference: Delays, age_s: npt.ArrayLike, rows: npt.ArrayLike) -> Array:
    """Coverage that panes of `rows` predictions, each of its age, should have together: [..., panes] to [...]."""
    weight = counts(rows)
    return divide((weight * share_by_age(reference, age_s)).sum(axis=-1), weight.sum(axis=-1))


def coverage_shift(
    reference: Delays, joined: npt.ArrayLike, age_s: npt.ArrayLike, rows: npt.ArrayLike, alpha: float = 1e-4
) -> CoverageShift:
    """Have too few labels come? `joined` [...] of the panes [..., panes] with these ages and rows.

    The exact binomial tail, against what the reference's delays can be at the least (a band that holds at all ages
    with probability 1 - alpha). Panes of unequal ages spread less than the binomial, so the tail errs on the safe side.
    """
    total = counts(rows).sum(axis=-1)
    expected = expected_coverage(reference, age_s, rows)
    band = np.sqrt(divide(np.log(1.0 / alpha), 2.0 * reference.rows))
    least = np.clip(expected - band, 0.0, 1.0)
    coverage = share(joined, total)
    # Hoeffding's comparison holds one row below the mean; nearer to it there is no news anyway
    log_p = np.where(
        counts(joined) <= total * least - 1.0, binomial_log_tail(joined, total, np.nan_to_num(least), "lower"), 0.0
    )
    return CoverageShift(
        coverage, expected, np.asarray(coverage.value - expected), np.where(np.isnan(least), np.nan, log_p)
    )


def baseline_at_age(
    edges: npt.ArrayLike, n: npt.ArrayLike, total: npt.ArrayLike, squares: npt.ArrayLike, age_s: npt.ArrayLike
) -> Estimate:
    """Mean of a per-row figure over those reference labels [K] that had come at each age [...], with its error.

    A figure that is a share (error rate) has squares = total. NaN at ages before the first label.
    """
    age, borders = np.asarray(age_s, dtype=np.float64), np.asarray(edges, dtype=np.float64)
    parts = (
        np.interp(age, borders, np.concatenate([[0.0], np.cumsum(np.asarray(part, dtype=np.float64))]))
        for part in (n, total, squares)
    )
    return mean_from_sums(*parts)


def same_age_baseline(baseline: Estimate, joined: npt.ArrayLike) -> Estimate:
    """Baseline for panes of different ages [..., panes], each weighted with the labels it has: [...].

    Panes without labels do not count. The panes' baselines are the same reference rows, so errors add up in full.
    """
    weight = np.where(np.isnan(baseline.value), 0.0, counts(joined))
    part = divide(weight, weight.sum(axis=-1, keepdims=True))
    value, se = ((part * np.nan_to_num(figure)).sum(axis=-1) for figure in (baseline.value, baseline.se))
    return Estimate(value, se, np.asarray(baseline.n.max(axis=-1)))


def coverage_weighted(
    n: npt.ArrayLike, total: npt.ArrayLike, squares: npt.ArrayLike, reference: Delays, min_rows: float = 2.0
) -> Weighted:
    """Mean of a per-row figure with the delays weighted as in the reference (post-stratification): [..., K] to [...].

    Delay bins with fewer than `min_rows` rows cannot stand for themselves; `covered` says what is left. Where it is
    well below 1 the late rows are simply unknown, and no weight can tell them.
    """
    rows = counts(n)
    each = mean_from_sums(rows, total, squares)
    usable = (rows >= min_rows) & ~np.isnan(each.se)
    weight = np.where(usable, reference.labelled, 0.0)
    covered = weight.sum(axis=-1)
    part = divide(weight, covered[..., None])
    value = (part * np.where(usable, each.value, 0.0)).sum(axis=-1)
    se = np.sqrt((part * np.where(usable, each.se, 0.0) ** 2 * part).sum(axis=-1))
    used = np.where(usable, rows, 0.0).sum(axis=-1)
    return Weighted(Estimate(value, se, used), divide(covered, reference.labelled.sum()))
