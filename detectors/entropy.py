"""What a model's outputs say of its health before any label: entropy, confidence, and collapse onto one answer.

A model fed garbage often answers one thing (collapse, entropy falls) or shrugs (entropy rises towards ln C). Entropy is
in nats: 0 for certainty, ln 2 for a coin, ln C for a shrug over C classes.

Sources: Shannon 1948; Clopper & Pearson 1934 (the collapse test).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from detectors.errors import BadValues
from detectors.shares import Array, Estimate, binomial_log_tail, counts, divide, share, upper_limit

COLLAPSE_LIMIT = 0.8
SCORE_GRAIN = 1e-6
"""Scores that agree to a millionth are the same answer."""


class Spread(NamedTuple):
    """Standard deviation (population) of a bounded figure and an upper bound of its standard error, same unit."""

    value: Array
    se: Array
    n: Array


class Collapse(NamedTuple):
    """`share` of the most frequent answer; `limit` it must pass; `floor` the share at which n rows prove that it did.

    `log_p` natural: the chance of such a share if the true one were at the limit. A `floor` above 1 means that even
    unanimous rows would be too few.
    """

    share: Estimate
    limit: Array
    floor: Array
    log_p: Array


def binary_entropy(scores: npt.ArrayLike) -> Array:
    """Entropy of each row, nats in [0, ln 2], from P(label = 1). NaN outside [0, 1]."""
    p = np.asarray(scores, dtype=np.float64)
    return _inside(p, np.asarray(special.entr(p) + special.entr(1.0 - p)))


def class_entropy(probabilities: npt.ArrayLike) -> Array:
    """Entropy of each row of class probabilities [..., classes], nats in [0, ln classes]."""
    p = np.asarray(probabilities, dtype=np.float64)
    total = np.asarray(special.entr(p).sum(axis=-1))
    return np.asarray(np.where(np.all((p >= 0.0) & (p <= 1.0), axis=-1), total, np.nan))


def binary_confidence(scores: npt.ArrayLike) -> Array:
    """Probability of the more likely class, in [0.5, 1]."""
    p = np.asarray(scores, dtype=np.float64)
    return _inside(p, np.maximum(p, 1.0 - p))


def class_confidence(probabilities: npt.ArrayLike) -> Array:
    """Probability of the most likely class, over the last axis."""
    return np.asarray(np.asarray(probabilities, dtype=np.float64).max(axis=-1))


def _inside(p: Array, value: Array) -> Array:
    return np.asarray(np.where((p >= 0.0) & (p <= 1.0), value, np.nan))


def spread_from_sums(n: npt.ArrayLike, total: npt.ArrayLike, squares: npt.ArrayLike, largest: float) -> Spread:
    """Standard deviation of values in [0, largest] from n, their sum and their sum of squares.

    The error needs no fourth powers: of bounded values the kurtosis is at most largest^2 / variance.
    """
    rows = counts(n)
    mean = divide(total, rows)
    variance = np.maximum(divide(squares, rows) - mean * mean, 0.0)
    # var(s^2) <= (largest^2 variance - variance^2) / n, and se(s) = se(s^2) / 2 s
    se = np.asarray(np.sqrt(np.maximum(divide(largest**2 - variance, 4.0 * rows), 0.0)))
    return Spread(np.asarray(np.sqrt(variance)), se, np.broadcast_to(rows, mean.shape))


def spread_ratio(live: Spread, reference: Spread) -> Estimate:
    """Live spread over the reference's, with its error; n is the live rows. NaN where the reference does not spread."""
    value = divide(live.value, reference.value)
    relative = divide(live.se, reference.value) ** 2 + (value * divide(reference.se, reference.value)) ** 2
    return Estimate(value, np.asarray(np.sqrt(relative)), live.n)


def answers(scores: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Key of each score for counting answers: the score in whole millionths."""
    return np.rint(np.asarray(scores, dtype=np.float64) / SCORE_GRAIN).astype(np.int64)


def most_frequent(keys: npt.ArrayLike) -> tuple[int, int]:
    """(key, count) of the most frequent answer in a batch; the least key among equals. BadValues when empty."""
    values, sizes = np.unique(np.asarray(keys, dtype=np.int64), return_counts=True)
    if values.size == 0:
        raise BadValues("no answers to count")
    first = int(sizes.argmax())
    return int(values[first]), int(sizes[first])


def collapse(
    top: npt.ArrayLike,
    n: npt.ArrayLike,
    reference_top: npt.ArrayLike = 0,
    reference_n: npt.ArrayLike = 0,
    limit: float = COLLAPSE_LIMIT,
    alpha: float = 1e-4,
) -> Collapse:
    """Has one answer taken over? `top` of `n` rows gave the most frequent one.

    A model of a rare event says "no" to 99 % of its rows in good health: with a reference the limit is the larger of
    `limit` and the reference's own top share (its upper confidence limit at `alpha`).
    """
    from scipy import stats  # here, because it takes a second, which every process would pay at its start

    rows, ref_rows = counts(n), counts(reference_n)
    known = np.where(ref_rows > 0.0, upper_limit(reference_top, ref_rows, alpha), 0.0)
    bar = np.asarray(np.maximum(limit, known))
    needed = divide(stats.binom.isf(alpha, rows, bar) + 1.0, rows)
    return Collapse(share(top, rows), bar, needed, binomial_log_tail(top, rows, bar))
