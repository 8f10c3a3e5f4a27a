"""AUC and average precision from two histograms of the score, one per class, with certified bounds.

The bins are equally spaced in the *logit* of the score, so that a model whose scores crowd near 0 (fraud, clicks) is
resolved as well as one whose scores spread. Histograms add (panes, partitions), subtract (sliding windows) and correct
(a label that changes moves one row between them), all exactly, and so every figure made of them. Within a bin the order
of the rows is forgotten: `bound` says how much that can matter, at most.

Histograms are arrays [..., bins]; leading dimensions (cells) broadcast. A count below 0, left by a correction that
arrived before its row, is read as 0.

Sources: Hanley & McNeil 1982; DeLong, DeLong & Clarke-Pearson 1988; Birnbaum & Klose 1957; Bouckaert 2006;
Brzezinski & Stefanowski 2017.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from detectors.shares import Array, counts, divide

SCORE_BINS = 1024
LOGIT_LIMIT = 18.0  # scores within 1.5e-8 of 0 or 1 share the outermost bins
INVALID_BIN = -1


class Auc(NamedTuple):
    """AUC in [0, 1] and its certified half-width: the exact AUC of the rows lies in value +/- bound. NaN: one class."""

    value: Array
    bound: Array


class AveragePrecision(NamedTuple):
    """Average precision in [0, 1]: `value` as if rows of one bin were tied; the exact one lies in [low, high]."""

    value: Array
    low: Array
    high: Array


@cache
def score_edges(bins: int = SCORE_BINS) -> Array:
    """Scores at the inner edges of the bins, shape [bins - 1]. With an even number of bins 0.5 is one of them."""
    edges = np.asarray(special.expit(np.linspace(-LOGIT_LIMIT, LOGIT_LIMIT, bins + 1)[1:-1]))
    edges.setflags(write=False)  # shared by all callers
    return edges


def score_bins(scores: npt.ArrayLike, bins: int = SCORE_BINS) -> npt.NDArray[np.int64]:
    """Bin of each score: 0 and 1 fall in the outermost bins, NaN and what is outside [0, 1] gets `INVALID_BIN`.

    A score that is no probability (a margin, a rank) must be mapped to [0, 1] by a strictly increasing function first,
    `scipy.special.expit` for a margin: AUC does not change under such a map.
    """
    score = np.asarray(scores, dtype=np.float64)
    valid = (score >= 0.0) & (score <= 1.0)
    score = np.where(valid, score, 0.5)
    logit = special.logit(score)
    guess = np.clip((logit + LOGIT_LIMIT) * (bins / (2.0 * LOGIT_LIMIT)), 0.0, bins - 1.0).astype(np.int64)
    # the logit is rounded: hold the guess against the edges themselves, or a score beside an edge would swap its order
    edges = np.concatenate([[-np.inf], score_edges(bins), [np.inf]])
    exact = guess + (score >= edges[guess + 1]) - (score < edges[guess])
    return np.where(valid, exact, INVALID_BIN)


def score_histograms(scores: npt.ArrayLike, labels: npt.ArrayLike, bins: int = SCORE_BINS) -> npt.NDArray[np.int64]:
    """Counts [2, bins] of rows labelled 0 and 1, by the bin of their score. Invalid scores are left out."""
    where = score_bins(scores, bins)
    positive = np.asarray(labels).astype(bool)
    kept = where != INVALID_BIN
    flat = np.bincount((where + bins * positive)[kept], minlength=2 * bins)
    return flat.reshape(2, bins).astype(np.int64)


def auc_from_histograms(pos: npt.ArrayLike, neg: npt.ArrayLike) -> Auc:
    """sum_b pos_b (neg_below_b + neg_b / 2) / (P N), with bound 0.5 sum_b pos_b neg_b / (P N)."""
    p, n = counts(pos), counts(neg)
    pairs = p.sum(axis=-1) * n.sum(axis=-1)
    below = np.cumsum(n, axis=-1) - n
    shared = (p * n).sum(axis=-1)
    return Auc(divide((p * below).sum(axis=-1) + 0.5 * shared, pairs), divide(0.5 * shared, pairs))


def hanley_mcneil_se(auc: npt.ArrayLike, positives: npt.ArrayLike, negatives: npt.ArrayLike) -> Array:
    """Standard error of an AUC that is truly `auc`. A test passes the *reference's* AUC: at a live AUC of 1 it is 0."""
    a, p, n = np.asarray(auc, dtype=np.float64), counts(positives), counts(negatives)
    both_positives = a / (2.0 - a) - a * a  # Q1 - A^2 in the paper
    both_negatives = 2.0 * a * a / (1.0 + a) - a * a  # Q2 - A^2
    variance = divide(a * (1.0 - a) + (p - 1.0) * both_positives + (n - 1.0) * both_negatives, p * n)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def worst_case_se(auc: npt.ArrayLike, positives: npt.ArrayLike, negatives: npt.ArrayLike) -> Array:
    """Largest standard error that any pair of score distributions with this AUC can have (Birnbaum & Klose)."""
    a = np.asarray(auc, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(divide(a * (1.0 - a), np.minimum(counts(positives), counts(negatives)))))


def delong_se(pos: npt.ArrayLike, neg: npt.ArrayLike) -> Array:
    """DeLong's standard error, rows of one bin taken as tied. NaN with fewer than two rows of a class."""
    p, n = counts(pos), counts(neg)
    positives, negatives = p.sum(axis=-1), n.sum(axis=-1)
    auc = auc_from_histograms(p, n).value[..., None]
    # share of the other class that each row beats, minus its mean
    beaten = divide(np.cumsum(n, axis=-1) - 0.5 * n, negatives[..., None]) - auc
    beating = divide(positives[..., None] - np.cumsum(p, axis=-1) + 0.5 * p, positives[..., None]) - auc
    spread = divide((p * beaten**2).sum(axis=-1), positives * (positives - 1.0))
    spread = spread + divide((n * beating**2).sum(axis=-1), negatives * (negatives - 1.0))
    return np.asarray(np.where((positives >= 2.0) & (negatives >= 2.0), np.sqrt(np.abs(spread)), np.nan))


def average_precision(pos: npt.ArrayLike, neg: npt.ArrayLike) -> AveragePrecision:
    """Average precision (sum of precision times recall step) from the histograms. NaN without a positive row.

    `low`: in each bin all negatives come first. `high`: all positives come first, tied with each other, the most that
    any order with any ties can reach under the convention that tied rows share the precision at the end of their tie.
    """
    steps = _steps(pos, neg)
    p, hits, misses = steps.p, steps.hits, steps.misses
    before, tied = hits - p, _tied(steps)
    # sum_{i=1..p} (before + i) / (before + i + misses), closed by the digamma function
    low = p - misses * (special.digamma(hits + misses + 1.0) - special.digamma(before + misses + 1.0))
    low = np.where(misses == 0.0, p, np.clip(low, 0.0, tied))
    return AveragePrecision(*(divide(part.sum(axis=-1), hits[..., -1]) for part in (tied, low, _highest(steps))))


def tied_precision(pos: npt.ArrayLike, neg: npt.ArrayLike) -> Array:
    """`average_precision(...).value` alone, to the last digit."""
    steps = _steps(pos, neg)
    return divide(_tied(steps).sum(axis=-1), steps.hits[..., -1])


def highest_precision(pos: npt.ArrayLike, neg: npt.ArrayLike) -> Array:
    """`average_precision(...).high` alone, to the last digit."""
    steps = _steps(pos, neg)
    return divide(_highest(steps).sum(axis=-1), steps.hits[..., -1])


class _Steps(NamedTuple):
    """From the highest score down, [..., bins]: rows of each class in a bin, and in it and all above it."""

    p: Array
    n: Array
    hits: Array
    misses: Array


def _steps(pos: npt.ArrayLike, neg: npt.ArrayLike) -> _Steps:
    p, n = counts(pos)[..., ::-1], counts(neg)[..., ::-1]
    return _Steps(p, n, np.cumsum(p, axis=-1), np.cumsum(n, axis=-1))


def _tied(steps: _Steps) -> Array:
    p, _, hits, misses = steps
    return p * np.nan_to_num(divide(hits, hits + misses))


def _highest(steps: _Steps) -> Array:
    p, n, hits, misses = steps
    return p * np.nan_to_num(divide(hits, hits + misses - n))
