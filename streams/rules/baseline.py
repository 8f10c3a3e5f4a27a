"""One cell's reference, prepared once for all looks at spans of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from detectors.auc import auc_from_histograms, hanley_mcneil_se
from detectors.calibration import expected_calibration_error
from detectors.cbpe import CalibrationMap, calibration_map
from detectors.shares import Estimate, lower_limit, upper_limit
from streams.counting.layout import Layout, Vector
from streams.counting.log_bins import slower_than
from streams.counting.references import Reference
from streams.counting.subjects import Subjects
from streams.figures.binary_figures import mean_loss
from streams.figures.class_figures import OTHER_CLASS, class_histograms, confusion_of
from streams.figures.outcome_figures import business_mean
from streams.rules.screen import PooledPsi, PrecisionAtShare
from streams.rules.share_rule import LIMIT_ALPHA


@dataclass(frozen=True)
class Baseline:
    """One cell's reference, prepared once: grouped counts and the limits of its shares."""

    vector: Vector
    groups: npt.NDArray[np.int64]
    occupied: npt.NDArray[np.bool_]
    rows: float
    null_limits: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
    invalid_limits: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
    null_share: npt.NDArray[np.float64]
    invalid_share: npt.NDArray[np.float64]
    mean_z: npt.NDArray[np.float64]
    sd_z: npt.NDArray[np.float64]
    valid: npt.NDArray[np.float64]
    score_mean: float
    score_sd: float
    score_valid: float
    positives: float
    negatives: float
    auc: float
    auc_se: float
    calibration: CalibrationMap | None
    label_share: npt.NDArray[np.float64]
    """P(label = 1) in each bin of the score; NaN without labels, empty where there is no score of two classes."""
    label_noise: npt.NDArray[np.float64]
    """Variance of one label in each of these bins."""
    precision: PrecisionAtShare
    ece: float
    """Debiased, not below 0; NaN without labels."""
    pooled: PooledPsi
    means: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]
    """(rows, mean, standard deviation) of each of `streams.counting.means.means_of`, without those whose rule is off."""
    unstated: npt.NDArray[np.float64]
    """[optional fields, 3]: share of rows without the field and its limits; NaN where services need not state it."""
    fine_rows: npt.NDArray[np.float64]
    """[fine]: rows of the subjects with fine bins."""
    fine_shares: npt.NDArray[np.float64]
    """[fine, bins]: their distribution functions."""
    entropy_variance: float
    slow_from: int
    """The first bin of the latency beyond the 99 % quantile."""
    limits: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    """share signal to (reference share, lower limit, upper limit)."""
    losses: dict[str, Estimate] = field(default_factory=dict)
    business: dict[str, Estimate] = field(default_factory=dict)
    class_auc: tuple[tuple[float, float], ...] = ()
    """AUC of each class against the rest, and its standard error."""
    aged: bool = False
    """Whether the reference says how long its labels took."""


def prepare(
    reference: Reference,
    subjects: Subjects,
    vector: Vector,
    means: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]],
    fine: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    unstated: npt.NDArray[np.float64],
    least: float,
) -> Baseline:
    """Groups, moments and limits of the reference's vector of one segment. Fewer rows than `least` say nothing."""
    layout = reference.layout
    groups = subjects.grouped(vector)
    totals = np.maximum(groups.sum(axis=1), 1)
    missing, invalid = vector[subjects.missing], vector[subjects.invalid]
    valid = (
        np.maximum(groups[subjects.numeric].sum(axis=1) - missing[subjects.numeric] - invalid[subjects.numeric], 1.0)
        if subjects.numeric
        else np.empty(0)
    )
    mean = vector[subjects.z] / valid
    sd = np.sqrt(np.maximum(vector[subjects.zz] / valid - mean**2, 1e-12))
    rows = layout.one(vector, "rows")
    score_valid = max(rows, 1.0)
    score_mean = layout.one(vector, "score_sum") / score_valid
    score_sd = max(layout.one(vector, "score_squares") / score_valid - score_mean**2, 1e-12) ** 0.5
    positives = negatives = 0.0
    auc = auc_se = ece = float("nan")
    classes = np.zeros(0), np.zeros(0)
    calibration = None
    scored = reference.score.bins.ordered if reference.score is not None and reference.task == "binary" else 0
    label_share = label_noise = np.full(scored, np.nan)
    shares = {"out_of_distribution_rate": (layout.one(vector, "out_of_distribution"), rows)}
    shares["extra_feature_rate"] = (layout.one(vector, "extra"), rows)
    shares["output_collapse"] = (float(layout.part(vector, "collapse").max()), rows)
    timed = layout.part(vector, "latency")
    slow_from = slower_than(timed, 0.99)
    if timed.sum() > 0:
        shares["latency_shift"] = (float(timed[slow_from:].sum()), float(timed.sum()))
    if reference.task == "binary":
        shares["predicted_positive_rate"] = (layout.one(vector, "predicted_positive"), rows)
        pos, neg = classes = layout.part(vector, "positives"), layout.part(vector, "negatives")
        positives, negatives = float(pos.sum()), float(neg.sum())
        if positives > 1 and negatives > 1:
            auc = float(auc_from_histograms(pos, neg).value)
            auc_se = float(hanley_mcneil_se(auc, positives, negatives))
        tn, fp, fn, tp = layout.part(vector, "confusion").tolist()
        shares["accuracy"] = (tn + tp, tn + fp + fn + tp)
        shares["false_negative_rate"] = (fn, fn + tp)
        shares["recall"] = (tp, fn + tp)
        shares["precision"] = (tp, tp + fp)
        shares["f1"] = (tp, tp + fp + fn)  # its Jaccard share, see BinaryRules
        shares["label_rate"] = (positives, positives + negatives)
        if reference.score is not None and positives + negatives > 0:
            ordered = reference.score.bins.ordered
            hits, labelled = (
                layout.part(vector, "labelled_positives")[:ordered],
                layout.part(vector, "labelled")[:ordered],
            )
            calibration = calibration_map(hits, labelled - hits)
            steady = (calibration.share * calibration.weight + 0.5) / (calibration.weight + 1.0)
            label_share, label_noise = calibration.share, steady * (1.0 - steady)
    elif reference.task == "multiclass":
        matrix = confusion_of(layout, vector)
        shares["accuracy"] = (float(np.trace(matrix[:-1, :-1])), float(matrix.sum()))
        for name, rows_of in zip((*reference.classes, OTHER_CLASS), matrix.sum(axis=1).tolist(), strict=True):
            shares[f"label_rate:{name}"] = (rows_of, float(matrix.sum()))
    if reference.task != "regression":
        sums = [layout.part(vector, f"calibration_{name}") for name in ("rows", "scores", "positives")]
        ece = max(float(expected_calibration_error(sums[0], sums[1], sums[2]).debiased), 0.0)
    known = [name for name, (_, n) in shares.items() if n > 0]
    hits, of = (np.array([shares[name][part] for name in known]) for part in (0, 1))
    lows, highs = lower_limit(hits, of, LIMIT_ALPHA), upper_limit(hits, of, LIMIT_ALPHA)
    limits = {
        name: (shares[name][0] / shares[name][1], low, high)
        for name, low, high in zip(known, lows.tolist(), highs.tolist(), strict=True)
    }
    return Baseline(
        vector=vector,
        groups=groups,
        occupied=groups > 0,
        rows=rows,
        null_limits=(lower_limit(missing, totals, LIMIT_ALPHA), upper_limit(missing, totals, LIMIT_ALPHA)),
        invalid_limits=(lower_limit(invalid, totals, LIMIT_ALPHA), upper_limit(invalid, totals, LIMIT_ALPHA)),
        null_share=missing / totals,
        invalid_share=invalid / totals,
        mean_z=mean,
        sd_z=sd,
        valid=valid,
        score_mean=score_mean,
        score_sd=score_sd,
        score_valid=score_valid,
        positives=positives,
        negatives=negatives,
        auc=auc,
        auc_se=auc_se,
        calibration=calibration,
        label_share=label_share,
        label_noise=label_noise,
        precision=PrecisionAtShare(*classes),
        ece=ece,
        pooled=PooledPsi(groups),
        means=means,
        unstated=unstated,
        fine_rows=fine[0],
        fine_shares=fine[1],
        entropy_variance=float(entropy_variance(layout, vector, least)),
        slow_from=slow_from,
        limits=limits,
        losses=_losses(layout, vector) if reference.task != "regression" else {},
        business={
            name: found for name in layout.business if (found := business_mean(layout, vector, name)) is not None
        },
        class_auc=_class_auc(layout, vector) if layout.ranked else (),
        aged=bool(layout.part(vector, "aged").sum() > 0),
    )


def entropy_variance(layout: Layout, vectors: Vector, least: float) -> npt.NDArray[np.float64]:
    """Of the answers' entropy, nats squared, [...] of vectors [..., slots]; 0 where fewer than `least` rows state one."""
    n = layout.part(vectors, "entropy_rows")[..., 0]
    count = np.maximum(n, 1.0)
    mean = layout.part(vectors, "entropy_sum")[..., 0] / count
    variance = layout.part(vectors, "entropy_squares")[..., 0] / count - mean * mean
    return np.where(n >= least, np.maximum(variance, 0.0), 0.0)


def _losses(layout: Layout, vector: Vector) -> dict[str, Estimate]:
    return {
        signal: mean
        for signal, section in (("log_loss", "log_loss"), ("brier", "squared_loss"))
        if (mean := mean_loss(layout, vector, section)).n > 1
    }


def _class_auc(layout: Layout, vector: Vector) -> tuple[tuple[float, float], ...]:
    members, others = class_histograms(layout, vector)
    auc = auc_from_histograms(members, others).value
    error = hanley_mcneil_se(auc, members.sum(axis=1), others.sum(axis=1))
    return tuple(zip(auc.tolist(), error.tolist(), strict=True))
