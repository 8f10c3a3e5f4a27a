"""Outcome figures of a binary model."""

from __future__ import annotations

from collections.abc import Iterator

from detectors.auc import auc_from_histograms, average_precision, delong_se, hanley_mcneil_se
from detectors.calibration import Calibration, expected_calibration_error
from detectors.cbpe import (
    CalibrationMap,
    accuracy_departure,
    auc_departure,
    calibration_map,
    estimated_auc,
    estimated_metrics,
    positives_departure,
)
from detectors.classification import BinaryMetrics, binary_metrics, mean_from_sums
from detectors.shares import Estimate, counts, share
from streams.counting.figure import FIGURE_ALPHA, NAN, Figure, estimated, number
from streams.counting.layout import Layout, Vector
from streams.counting.references import Reference


def binary_figures(reference: Reference, vector: Vector, baseline: Vector | None) -> Iterator[Figure]:
    """What labels say, and before them what the same scores used to mean."""
    layout = reference.layout
    base = baseline if baseline is not None and labelled(layout, baseline) > 0 else None
    total = round(labelled(layout, vector))
    if total > 0:
        yield from _ranking(layout, vector, base, total)
        yield from _shares(layout, vector, base)
        yield from loss_figures(layout, vector, base)
        yield from calibration_figures(layout, vector, base)
    if base is not None and reference.score is not None:
        yield from _before_labels(reference, vector, base, total)


def labelled(layout: Layout, vector: Vector) -> float:
    """Rows with a usable score and a label."""
    return float(layout.part(vector, "positives").sum() + layout.part(vector, "negatives").sum())


def _ranking(layout: Layout, vector: Vector, base: Vector | None, total: int) -> Iterator[Figure]:
    pos, neg = layout.part(vector, "positives"), layout.part(vector, "negatives")
    p, n = float(pos.sum()), float(neg.sum())
    usual = usual_precision = NAN
    if base is not None:
        base_pos, base_neg = layout.part(base, "positives"), layout.part(base, "negatives")
        usual = number(auc_from_histograms(base_pos, base_neg).value)
        usual_precision = number(average_precision(base_pos, base_neg).value)
    if p > 0 and n > 0:
        auc = auc_from_histograms(pos, neg)
        error = number(hanley_mcneil_se(auc.value, p, n))
        yield Figure("outcome", "auc", None, number(auc.value), total, usual, 3 * error, number(auc.bound))
        yield Figure("outcome", "auc_standard_error", None, number(delong_se(pos, neg)), total, NAN, NAN)
        precision = average_precision(pos, neg)
        bound = max(number(precision.high) - number(precision.value), number(precision.value) - number(precision.low))
        yield Figure("outcome", "average_precision", None, number(precision.value), total, usual_precision, NAN, bound)
    yield estimated(
        "outcome",
        "label_rate",
        share(p, p + n),
        share(base_pos.sum(), base_pos.sum() + base_neg.sum()) if base is not None else None,
        "label",
    )


METRICS = ("accuracy", "precision", "recall", "f1", "false_negative_rate", "false_positive_rate")


def confusion_metrics(layout: Layout, vector: Vector) -> BinaryMetrics:
    """Metrics of the thresholded predictions."""
    tn, fp, fn, tp = layout.part(vector, "confusion").tolist()
    return binary_metrics(tp, fp, fn, tn)


def _shares(layout: Layout, vector: Vector, base: Vector | None) -> Iterator[Figure]:
    live = confusion_metrics(layout, vector)
    usual = confusion_metrics(layout, base) if base is not None else None
    for name in METRICS:
        yield estimated("outcome", name, getattr(live, name), getattr(usual, name) if usual is not None else None)


def mean_loss(layout: Layout, vector: Vector, section: str) -> Estimate:
    """Mean of a loss (`log_loss` in nats, `squared_loss`) with its standard error."""
    n = layout.one(vector, "scored_rows") if layout.task == "multiclass" else labelled(layout, vector)
    return mean_from_sums(n, layout.one(vector, section), layout.one(vector, f"{section}_squares"))


def loss_figures(layout: Layout, vector: Vector, base: Vector | None) -> Iterator[Figure]:
    """Log loss and Brier score."""
    for signal, section in (("log_loss", "log_loss"), ("brier", "squared_loss")):
        live = mean_loss(layout, vector, section)
        if live.n > 0:
            yield estimated("outcome", signal, live, mean_loss(layout, base, section) if base is not None else None)


def calibration_of(layout: Layout, vector: Vector, alpha: float) -> Calibration:
    """The calibration error of a vector's joined rows."""
    rows, scores, positives = (
        counts(layout.part(vector, f"calibration_{part}")) for part in ("rows", "scores", "positives")
    )
    return expected_calibration_error(rows, scores, positives, alpha=alpha)


def calibration_figures(layout: Layout, vector: Vector, base: Vector | None) -> Iterator[Figure]:
    """The expected calibration error; of a class model that of the class that it chose."""
    found = calibration_of(layout, vector, FIGURE_ALPHA)
    n = round(number(found.n))
    if n <= 0:
        return
    usual = number(calibration_of(layout, base, FIGURE_ALPHA).ece) if base is not None else NAN
    se = 3 * number(found.se)
    yield Figure("outcome", "ece", None, number(found.ece), n, usual, number(found.noise) + se)
    yield Figure("outcome", "ece_debiased", None, number(found.debiased), n, NAN, se)


def score_map(reference: Reference, base: Vector) -> CalibrationMap:
    """P(label = 1 | bin of the score) from the reference's labelled rows."""
    assert reference.score is not None
    ordered = reference.score.bins.ordered
    layout = reference.layout
    positives, rows = layout.part(base, "labelled_positives")[:ordered], layout.part(base, "labelled")[:ordered]
    return calibration_map(positives, rows - positives)


def _before_labels(reference: Reference, vector: Vector, base: Vector, total: int) -> Iterator[Figure]:
    """Estimates that need no labels, and what the labels then said beside what was to be expected of the same rows."""
    assert reference.score is not None
    layout, ordered = reference.layout, reference.score.bins.ordered
    mu = score_map(reference, base)
    scores, chosen = (counts(layout.part(vector, name)[:ordered]) for name in ("score", "chosen"))
    n = round(float(scores.sum()))
    if n > 0:
        yield Figure("outcome", "estimated_auc", None, number(estimated_auc(scores, mu).value), n, NAN, NAN)
        promised = estimated_metrics(chosen, scores - chosen, mu)
        usual = confusion_metrics(layout, base)
        for name in METRICS[:-1]:
            yield estimated("outcome", f"estimated_{name}", getattr(promised, name), getattr(usual, name))
    if total <= 0:
        return
    rows, hits = (counts(layout.part(vector, name)[:ordered]) for name in ("labelled", "labelled_positives"))
    gap = positives_departure(hits.sum(), rows, mu)
    yield Figure("outcome", "realised_minus_estimated", "label", number(gap.delta), total, 0.0, 3 * number(gap.se))
    ranks = auc_departure(hits, rows - hits, mu)
    yield Figure("outcome", "realised_minus_estimated", "auc", number(ranks.delta), total, 0.0, 3 * number(ranks.se))
    tn, _, _, tp = layout.part(vector, "confusion").tolist()
    if layout.part(vector, "confusion").sum() == rows.sum():
        yes = counts(layout.part(vector, "labelled_chosen")[:ordered])
        right = accuracy_departure(tp + tn, yes, rows - yes, mu)
        yield Figure(
            "outcome", "realised_minus_estimated", "accuracy", number(right.delta), total, 0.0, 3 * number(right.se)
        )
