"""Calibration: does a score of 0.3 mean three in ten? Expected calibration error, debiased, with a noise floor.

Rows are counted in equal-width bins of the score. A bin needs three sums (rows, sum of scores, positive labels), which
add, subtract and take corrections. ECE sums *absolute* gaps, so noise alone makes it positive: a perfectly calibrated
model shows about 0.04 at n = 1,000. `debiased` subtracts what noise is expected to give; `floor` is what noise can give
with probability alpha. The signed `gap` of each bin tells over-confidence from under-confidence.

The noise is taken at the bin's *mean score*, the share that a calibrated model promises, not at the observed share: a
bin in which no positive has come yet would otherwise claim to be free of noise.

Sources: Naeini, Cooper & Hauskrecht 2015 (ECE); Broecker 2012; Roelofs et al. 2022 (its bias); Bernstein 1927.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.shares import Array, counts, divide

ECE_BINS = 10


class Calibration(NamedTuple):
    """Shares in [0, 1]. `gap` is [..., bins], mean score minus observed share: above 0 is over-confident."""

    ece: Array
    debiased: Array
    noise: Array
    se: Array
    floor: Array
    gap: Array
    gap_se: Array
    n: Array


def calibration_bins(scores: npt.ArrayLike, bins: int = ECE_BINS) -> npt.NDArray[np.int64]:
    """Equal-width bin [i / bins, (i + 1) / bins) of each score; 1 belongs to the last bin. -1 where invalid."""
    score = np.asarray(scores, dtype=np.float64)
    valid = (score >= 0.0) & (score <= 1.0)
    return np.where(valid, np.minimum(np.where(valid, score, 0.0) * bins, bins - 1.0).astype(np.int64), -1)


def calibration_sums(
    scores: npt.ArrayLike, labels: npt.ArrayLike, bins: int = ECE_BINS
) -> tuple[npt.NDArray[np.int64], Array, npt.NDArray[np.int64]]:
    """(rows, sum of scores, positives) of each bin, for one batch. Rows with an invalid score are left out."""
    score, where = np.asarray(scores, dtype=np.float64), calibration_bins(scores, bins)
    kept = where >= 0
    where, score, positive = where[kept], score[kept], np.asarray(labels).astype(bool)[kept]
    return (
        np.bincount(where, minlength=bins).astype(np.int64),
        np.bincount(where, weights=score, minlength=bins).astype(np.float64),  # an empty batch gives integers
        np.bincount(where[positive], minlength=bins).astype(np.int64),
    )


def expected_calibration_error(
    count: npt.ArrayLike, score_sum: npt.ArrayLike, positives: npt.ArrayLike, alpha: float = 0.01
) -> Calibration:
    """ECE = sum_b (n_b / n) |mean score_b - positive share_b| from sums [..., bins].

    `noise` is the ECE expected of a calibrated model (normal approximation), `debiased` = ece - noise (it may fall
    below 0), `se` the standard error of `ece`. `floor` holds without any approximation and at any alpha: a calibrated
    model passes it with probability at most alpha (a Bernstein bound over all signs of the gaps).
    """
    rows, promised, seen = counts(count), np.asarray(score_sum, dtype=np.float64), counts(positives)
    total = rows.sum(axis=-1)
    mean_score = np.clip(divide(promised, rows), 0.0, 1.0)
    gap = np.asarray(mean_score - divide(seen, rows))
    variance = mean_score * (1.0 - mean_score)  # of one row; the true one can only be smaller
    gap_se = np.asarray(np.sqrt(divide(variance, rows)))
    weight = np.nan_to_num(divide(rows, total[..., None]))
    ece = _total(weight * np.nan_to_num(np.abs(gap)), total)
    spread = weight * np.nan_to_num(gap_se)
    noise = _total(spread * np.sqrt(2.0 / np.pi), total)
    # |gap| of a calibrated bin varies by (1 - 2/pi) of its variance, that of a wrong bin by all of it: take all
    se = np.asarray(np.sqrt(_total(spread**2, total)))
    used = (rows > 0.0).sum(axis=-1)
    per_row = _total(weight * np.nan_to_num(variance), total)
    exponent = used * np.log(2.0) - np.log(alpha)
    floor = divide(exponent / 3.0 + np.sqrt((exponent / 3.0) ** 2 + 2.0 * total * per_row * exponent), total)
    return Calibration(ece, np.asarray(ece - noise), noise, se, np.minimum(floor, 1.0), gap, gap_se, total)


def _total(parts: Array, rows: Array) -> Array:
    return np.asarray(np.where(rows > 0.0, parts.sum(axis=-1), np.nan))
