"""Fairness between groups: who is selected, who is missed, for whom the score lies.

Counts come per group in the last axis [..., groups]. A gap between groups is the largest minus the smallest share, as
in fairlearn; with many small groups noise alone makes one, so each gap carries the error of the pair that made it and a
p-value over all pairs. A pair speaks only where both sides expect some hits and some misses.

Sources: Hardt, Price & Srebro 2016 (equalised odds); Kleinberg et al. 2017 (why not all gaps can be 0 at once).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.shares import Array, Estimate, counts, divide, normal_log_p, share

MIN_EXPECTED = 5.0
"""Hits and misses that both groups of a pair must expect before the normal approximation is heard."""


class GroupRates(NamedTuple):
    """Shares of each group, [..., groups]. NaN where the group has no row that bears on the share."""

    selection_rate: Estimate
    true_positive_rate: Estimate
    false_positive_rate: Estimate


class GroupGap(NamedTuple):
    """`value` = largest minus smallest share; `se` of that pair; `high`, `low` the groups, -1 where none.

    `log_p`: natural, two-sided, the best pair after Bonferroni over all pairs (not always the pair with the largest
    gap).
    """

    value: Array
    se: Array
    log_p: Array
    high: npt.NDArray[np.int64]
    low: npt.NDArray[np.int64]


def group_rates(tp: npt.ArrayLike, fp: npt.ArrayLike, fn: npt.ArrayLike, tn: npt.ArrayLike) -> GroupRates:
    """Selection rate (over all joined rows), true and false positive rate of each group from confusion counts."""
    tp, fp, fn, tn = (counts(part) for part in (tp, fp, fn, tn))
    return GroupRates(share(tp + fp, tp + fp + fn + tn), share(tp, tp + fn), share(fp, fp + tn))


def largest_gap(k: npt.ArrayLike, n: npt.ArrayLike) -> GroupGap:
    """Gap between the groups' shares k / n, over the last axis. NaN with fewer than two groups that have rows."""
    hits, rows = np.broadcast_arrays(counts(k), counts(n))
    rate = share(hits, rows)
    gap = _spread_between(rate)
    pooled = divide(hits[..., :, None] + hits[..., None, :], rows[..., :, None] + rows[..., None, :])
    smaller = np.minimum(rows[..., :, None], rows[..., None, :])
    heard = np.nan_to_num(smaller * np.minimum(pooled, 1.0 - pooled)) >= MIN_EXPECTED
    inverse = divide(1.0, rows)
    se = np.sqrt(np.nan_to_num(pooled * (1.0 - pooled) * (inverse[..., :, None] + inverse[..., None, :])))
    z = np.where(heard, divide(rate.value[..., :, None] - rate.value[..., None, :], np.where(heard, se, np.nan)), 0.0)
    return gap._replace(log_p=_over_pairs(normal_log_p(z), gap.value))


def calibration_gaps(count: npt.ArrayLike, score_sum: npt.ArrayLike, positives: npt.ArrayLike) -> Estimate:
    """Mean score minus positive share of each group: above 0 the score promises more than comes."""
    rows = counts(count)
    mean = np.clip(divide(score_sum, rows), 0.0, 1.0)
    se = np.asarray(np.sqrt(divide(mean * (1.0 - mean), rows)))
    return Estimate(np.asarray(mean - divide(counts(positives), rows)), se, rows)


def calibration_difference(gaps: Estimate) -> GroupGap:
    """Largest difference between the groups' calibration gaps. Normal errors: some 10 positives a group."""
    gap = _spread_between(gaps)
    se = np.hypot(gaps.se[..., :, None], gaps.se[..., None, :])
    z = np.nan_to_num(divide(gaps.value[..., :, None] - gaps.value[..., None, :], se))
    return gap._replace(log_p=_over_pairs(normal_log_p(z), gap.value))


def demographic_parity(tp: npt.ArrayLike, fp: npt.ArrayLike, fn: npt.ArrayLike, tn: npt.ArrayLike) -> GroupGap:
    """Demographic parity difference: the gap between the groups' selection rates."""
    tp, fp, fn, tn = (counts(part) for part in (tp, fp, fn, tn))
    return largest_gap(tp + fp, tp + fp + fn + tn)


def equalised_odds(tp: npt.ArrayLike, fp: npt.ArrayLike, fn: npt.ArrayLike, tn: npt.ArrayLike) -> GroupGap:
    """Equalised odds difference: the larger of the gaps in true and in false positive rate, with its own error.

    `log_p` is of the better of the two, doubled. Where only one of the two gaps exists it stands alone.
    """
    tp, fp, fn, tn = (counts(part) for part in (tp, fp, fn, tn))
    true, false = largest_gap(tp, tp + fn), largest_gap(fp, fp + tn)
    first = np.nan_to_num(true.value, nan=-1.0) >= np.nan_to_num(false.value, nan=-1.0)
    value, se, _, high, low = (np.where(first, a, b) for a, b in zip(true, false, strict=True))
    best = np.fmin(true.log_p, false.log_p) + np.log(2.0)
    return GroupGap(value, se, np.minimum(best, 0.0), high, low)


def _spread_between(rate: Estimate) -> GroupGap:
    known = ~np.isnan(rate.value)
    enough = known.sum(axis=-1) >= 2
    high = np.where(known, rate.value, -np.inf).argmax(axis=-1)
    low = np.where(known, rate.value, np.inf).argmin(axis=-1)
    value, se = (
        [np.take_along_axis(part, group[..., None], axis=-1)[..., 0] for group in (high, low)]
        for part in (rate.value, rate.se)
    )
    return GroupGap(
        np.asarray(np.where(enough, value[0] - value[1], np.nan)),
        np.asarray(np.where(enough, np.hypot(se[0], se[1]), np.nan)),
        np.full(enough.shape, np.nan),
        np.where(enough, high, -1).astype(np.int64),
        np.where(enough, low, -1).astype(np.int64),
    )


def _over_pairs(log_p: Array, value: Array) -> Array:
    groups = log_p.shape[-1]
    pairs = max(groups * (groups - 1) // 2, 1)
    best = np.minimum(log_p.min(axis=(-2, -1)) + np.log(pairs), 0.0)
    return np.asarray(np.where(np.isnan(value), np.nan, best))
