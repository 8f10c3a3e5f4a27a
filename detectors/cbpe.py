"""Performance before the labels come: confidence-based estimates (CBPE), and how far reality then departs from them.

A calibration map mu_b = P(label = 1 | score in bin b), fitted on the reference, turns counts of scores into expected
outcomes: of c_b rows in bin b, c_b mu_b are positive. Every confusion metric and the AUC follow. This follows
covariate drift and is blind to concept drift, since it assumes that the map still holds. So *realised minus
estimated*, on the very rows whose labels came, is the concept-drift signal: covariate drift moves both sides alike.

Bins are those of `detectors.auc`; counts are [..., bins], the map is [bins]. The map's own error counts: an isotonic
fit is a set of blocks, each a share of so many reference rows.

Sources: NannyML, arXiv 2401.08348 (CBPE, PAPE); Ayer et al. 1955 (pool adjacent violators).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.auc import Auc, auc_from_histograms, hanley_mcneil_se
from detectors.classification import BinaryMetrics, binary_metrics
from detectors.shares import Array, counts, divide, normal_log_p


class CalibrationMap(NamedTuple):
    """`share` = P(label = 1 | bin), non-decreasing; `block` numbers the fit's blocks; `weight` = rows of that block.

    All are [bins]. An empty reference (weight 0 everywhere) has no map: `share` is NaN.
    """

    share: Array
    block: npt.NDArray[np.int64]
    weight: Array


class ExpectedConfusion(NamedTuple):
    """Expected counts, shape [...]; they need not be whole."""

    tp: Array
    fp: Array
    fn: Array
    tn: Array


class Departure(NamedTuple):
    """Realised minus estimated. `se` holds the labels' noise and the map's error; `log_p` two-sided, natural log.

    For shares (accuracy, positives) `log_p` is Bernstein's bound, which few expected rows cannot fool.
    """

    realised: Array
    estimated: Array
    delta: Array
    se: Array
    z: Array
    log_p: Array


def isotonic(values: npt.ArrayLike, weights: npt.ArrayLike) -> tuple[Array, npt.NDArray[np.int64]]:
    """Weighted non-decreasing least-squares fit of [n] values, and the block of each (pool adjacent violators)."""
    means: list[float] = []
    masses: list[float] = []
    sizes: list[int] = []
    for value, mass in zip(np.asarray(values).tolist(), np.asarray(weights).tolist(), strict=True):
        mean, size = value, 1
        while means and means[-1] >= mean:
            together = masses[-1] + mass
            mean = (means[-1] * masses.pop() + mean * mass) / together
            means.pop()
            mass, size = together, size + sizes.pop()
        means.append(mean)
        masses.append(mass)
        sizes.append(size)
    return np.repeat(np.array(means, dtype=np.float64), sizes), np.repeat(np.arange(len(sizes)), sizes)


def calibration_map(pos: npt.ArrayLike, neg: npt.ArrayLike) -> CalibrationMap:
    """Isotonic map from the reference's two score histograms [bins]. Bins it never saw lie between their neighbours."""
    hits, rows = counts(pos), counts(pos) + counts(neg)
    seen = np.flatnonzero(rows)
    if seen.size == 0:
        nothing = np.zeros(rows.shape)
        return CalibrationMap(nothing * np.nan, nothing.astype(np.int64), nothing)
    fit, block = isotonic(hits[seen] / rows[seen], rows[seen])
    bins = np.arange(rows.size)
    near = np.clip(np.searchsorted(seen, bins), 0, seen.size - 1)
    mass = np.bincount(block, weights=rows[seen]).astype(np.float64)
    return CalibrationMap(np.interp(bins, seen, fit), block[near], mass[block[near]])


def expected_confusion(
    predicted_positive: npt.ArrayLike, predicted_negative: npt.ArrayLike, mu: CalibrationMap
) -> ExpectedConfusion:
    """Expected confusion counts of rows counted [..., bins] by score, apart for each predicted class."""
    yes, no = counts(predicted_positive), counts(predicted_negative)
    return ExpectedConfusion(yes @ mu.share, yes @ (1.0 - mu.share), no @ mu.share, no @ (1.0 - mu.share))


def estimated_metrics(
    predicted_positive: npt.ArrayLike, predicted_negative: npt.ArrayLike, mu: CalibrationMap
) -> BinaryMetrics:
    """Accuracy, precision, recall, F1 and rates before labels. `se` is the noise that the labels will bring."""
    return binary_metrics(*expected_confusion(predicted_positive, predicted_negative, mu))


def estimated_auc(scores: npt.ArrayLike, mu: CalibrationMap) -> Auc:
    """AUC before labels, from score counts [..., bins]."""
    rows = counts(scores)
    return auc_from_histograms(rows * mu.share, rows * (1.0 - mu.share))


def accuracy_departure(
    correct: npt.ArrayLike, predicted_positive: npt.ArrayLike, predicted_negative: npt.ArrayLike, mu: CalibrationMap
) -> Departure:
    """Realised accuracy (rows predicted correctly) minus the estimate on the same joined rows."""
    yes, no = counts(predicted_positive), counts(predicted_negative)
    expected = expected_confusion(yes, no, mu)
    return _departure(correct, expected.tp + expected.tn, yes + no, yes - no, mu)


def positives_departure(positives: npt.ArrayLike, scores: npt.ArrayLike, mu: CalibrationMap) -> Departure:
    """Realised share of positive labels minus the estimate on the same joined rows, counted [..., bins] by score."""
    rows = counts(scores)
    return _departure(positives, rows @ mu.share, rows, rows, mu)


def auc_departure(pos: npt.ArrayLike, neg: npt.ArrayLike, mu: CalibrationMap) -> Departure:
    """Realised AUC minus the estimate on the same joined rows, with Hanley & McNeil's error under the *estimated* AUC.

    `log_p` is normal: it needs 20 rows of each class. The map's error is not in it: the reference must be several times
    larger than the rows compared.
    """
    p, n = counts(pos), counts(neg)
    realised, estimated = auc_from_histograms(p, n).value, estimated_auc(p + n, mu).value
    se = hanley_mcneil_se(estimated, p.sum(axis=-1), n.sum(axis=-1))
    delta = np.asarray(realised - estimated)
    z = divide(delta, se)
    return Departure(realised, estimated, delta, se, z, normal_log_p(z))


def _departure(hits: npt.ArrayLike, expected: Array, rows: Array, slope: Array, mu: CalibrationMap) -> Departure:
    """`slope` [..., bins]: how the expected hits change with the map's share in each bin."""
    total = rows.sum(axis=-1)
    # a block of only one label is not free of error: half a row of each is added, as for PSI
    steady = (mu.share * mu.weight + 0.5) / (mu.weight + 1.0)
    variance = steady * (1.0 - steady)
    of_labels = rows @ variance
    starts = np.flatnonzero(np.diff(mu.block, prepend=-1))
    of_map = np.add.reduceat(slope, starts, axis=-1) ** 2 @ (variance / (mu.weight + 1.0))[starts]
    spread = of_labels + of_map
    realised, estimated = divide(hits, total), divide(expected, total)
    delta = np.asarray(realised - estimated)
    se = divide(np.sqrt(spread), total)
    # Bernstein rather than normal: where few positives are expected, one of them is many standard errors and no news
    miss = np.abs(delta) * total
    log_p = np.minimum(np.log(2.0) - divide(miss * miss, 2.0 * (spread + miss / 3.0)), 0.0)
    return Departure(realised, estimated, delta, se, divide(delta, se), np.asarray(log_p))
