"""Figures of the outcome layer: what the labels say."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from detectors.auc import auc_from_histograms, average_precision, delong_se, hanley_mcneil_se
from detectors.calibration import Calibration, expected_calibration_error
from detectors.cbpe import auc_departure, calibration_map, estimated_auc, positives_departure
from detectors.classification import binary_metrics, multiclass_metrics
from detectors.ratios import per_request, ratio
from detectors.regression import RegressionSums, regression_metrics
from detectors.shares import Estimate, share
from streams.figure import FIGURE_ALPHA, NAN, QUANTILES, Figure, estimated, number
from streams.layout import Layout, Vector
from streams.log_bins import DELAY_S
from streams.references import Reference


def outcome_figures(reference: Reference, vector: Vector, baseline: Vector | None) -> Iterator[Figure]:
    """Figures of the joined rows; none before a label came."""
    layout = reference.layout
    if layout.one(vector, "outcomes") <= 0 and layout.one(vector, "joined") <= 0:
        return
    rows, joined = layout.one(vector, "rows"), layout.one(vector, "joined")
    if rows:
        yield estimated("outcome", "label_coverage", share(joined, rows), None)
    delays = np.maximum(layout.part(vector, "delay"), 0)
    if delays.sum() > 0:
        for name, q in QUANTILES.items():
            yield Figure(
                "outcome",
                f"label_delay_{name}",
                "delay_s",
                DELAY_S.quantile(delays, q),
                round(float(delays.sum())),
                NAN,
                NAN,
            )
    if reference.task == "binary":
        yield from _binary(reference, layout, vector, baseline)
    elif reference.task == "regression":
        yield from _regression(layout, vector, baseline)
    else:
        yield from _multiclass(reference, layout, vector, baseline)
    for name in layout.business:
        n = layout.one(vector, f"value_rows:{name}")
        if n:
            live = ratio(
                per_request(n, layout.one(vector, f"value:{name}"), layout.one(vector, f"value_squares:{name}"))
            )
            base = None
            if baseline is not None and (m := layout.one(baseline, f"value_rows:{name}")):
                base = ratio(
                    per_request(m, layout.one(baseline, f"value:{name}"), layout.one(baseline, f"value_squares:{name}"))
                )
            yield estimated("outcome", "business_mean", live, base, name)


def _binary(reference: Reference, layout: Layout, vector: Vector, baseline: Vector | None) -> Iterator[Figure]:
    pos, neg = layout.part(vector, "positives"), layout.part(vector, "negatives")
    p, n = float(pos.sum()), float(neg.sum())
    total = round(p + n)
    if total <= 0:
        return
    base_total = 0.0
    if baseline is not None:
        base_pos, base_neg = layout.part(baseline, "positives"), layout.part(baseline, "negatives")
        base_total = float(base_pos.sum() + base_neg.sum())
    known = baseline if base_total > 0 else None
    auc = auc_from_histograms(pos, neg)
    base_auc = number(auc_from_histograms(base_pos, base_neg).value) if known is not None else NAN
    if p > 0 and n > 0:
        error = number(hanley_mcneil_se(auc.value, p, n))
        yield Figure("outcome", "auc", None, number(auc.value), total, base_auc, 3 * error, number(auc.bound))
        yield Figure("outcome", "auc_standard_error", None, number(delong_se(pos, neg)), total, NAN, NAN)
        precision = average_precision(pos, neg)
        base_precision = number(average_precision(base_pos, base_neg).value) if known is not None else NAN
        bound = max(number(precision.high) - number(precision.value), number(precision.value) - number(precision.low))
        yield Figure("outcome", "average_precision", None, number(precision.value), total, base_precision, NAN, bound)
    live = binary_metrics(*_squares(layout, vector))
    base = binary_metrics(*_squares(layout, known)) if known is not None else None
    for name in ("accuracy", "precision", "recall", "f1", "false_negative_rate", "false_positive_rate"):
        yield estimated("outcome", name, getattr(live, name), getattr(base, name) if base is not None else None)
    yield estimated(
        "outcome",
        "label_rate",
        share(p, p + n),
        share(base_pos.sum(), base_total) if known is not None else None,
        "label",
    )
    for signal, section in (("log_loss", "log_loss"), ("brier", "squared_loss")):
        base_mean = layout.one(known, section) / base_total if known is not None else NAN
        yield Figure("outcome", signal, None, layout.one(vector, section) / total, total, base_mean, NAN)
    calibration = calibration_of(layout, vector, FIGURE_ALPHA)
    base_ece = number(calibration_of(layout, known, FIGURE_ALPHA).ece) if known is not None else NAN
    yield Figure(
        "outcome",
        "ece",
        None,
        number(calibration.ece),
        total,
        base_ece,
        number(calibration.noise) + 3 * number(calibration.se),
    )
    yield Figure("outcome", "ece_debiased", None, number(calibration.debiased), total, NAN, 3 * number(calibration.se))
    if known is not None and reference.score is not None:
        yield from _before_labels(reference, layout, vector, known, total)


def calibration_of(layout: Layout, vector: Vector, alpha: float) -> Calibration:
    """The calibration error of a vector's joined rows."""
    rows, scores, positives = (
        np.maximum(layout.part(vector, f"calibration_{part}"), 0) for part in ("rows", "scores", "positives")
    )
    return expected_calibration_error(rows, scores, positives, alpha=alpha)


def _before_labels(reference: Reference, layout: Layout, vector: Vector, known: Vector, total: int) -> Iterator[Figure]:
    """Estimates that need no labels, and what the labels then said beside what was to be expected of the same rows."""
    assert reference.score is not None
    ordered = reference.score.bins.ordered
    positives, rows = layout.part(known, "labelled_positives")[:ordered], layout.part(known, "labelled")[:ordered]
    mu = calibration_map(positives, rows - positives)
    scores = layout.part(vector, "score")[:ordered]
    if scores.sum() > 0:
        yield Figure(
            "outcome",
            "estimated_auc",
            None,
            number(estimated_auc(scores, mu).value),
            round(float(scores.sum())),
            NAN,
            NAN,
        )
    labelled, hits = layout.part(vector, "labelled")[:ordered], layout.part(vector, "labelled_positives")[:ordered]
    gap = positives_departure(hits.sum(), labelled, mu)
    yield Figure("outcome", "realised_minus_estimated", "label", number(gap.delta), total, 0.0, 3 * number(gap.se))
    ranks = auc_departure(hits, labelled - hits, mu)
    yield Figure("outcome", "realised_minus_estimated", "auc", number(ranks.delta), total, 0.0, 3 * number(ranks.se))


def _squares(layout: Layout, vector: Vector) -> tuple[float, float, float, float]:
    """(true positives, false positives, false negatives, true negatives)."""
    tn, fp, fn, tp = layout.part(vector, "confusion").tolist()
    return tp, fp, fn, tn


def _regression(layout: Layout, vector: Vector, baseline: Vector | None) -> Iterator[Figure]:
    def metrics(values: Vector) -> RegressionSums:
        names = ("outcomes", "error", "absolute_error", "squared_error", "truth", "truth_squares")
        return RegressionSums(*(np.asarray(layout.one(values, name)) for name in names))

    live = regression_metrics(metrics(vector))
    base = regression_metrics(metrics(baseline)) if baseline is not None and layout.one(baseline, "outcomes") else None
    for name, attribute in (("mae", "mae"), ("rmse", "rmse"), ("bias", "bias"), ("r2", "r2")):
        yield estimated(
            "outcome", name, getattr(live, attribute), getattr(base, attribute) if base is not None else None
        )


def _multiclass(reference: Reference, layout: Layout, vector: Vector, baseline: Vector | None) -> Iterator[Figure]:
    width = len(reference.classes) + 1

    def metrics(values: Vector) -> tuple[object, float]:
        matrix = layout.part(values, "confusion").reshape(width, width)
        # A class that is unknown to the reference counts as wrong; where none came its empty row must not enter the macro average.
        used = width if matrix[-1].sum() + matrix[:, -1].sum() > 0 else width - 1
        return multiclass_metrics(matrix[:used, :used]), float(matrix.sum())

    live, n = metrics(vector)
    if n <= 0:
        return
    base = metrics(baseline)[0] if baseline is not None and layout.one(baseline, "outcomes") else None
    for name in ("accuracy", "macro_f1"):
        yield estimated("outcome", name, getattr(live, name), getattr(base, name) if base is not None else None)
    for at, cls in enumerate(reference.classes):
        for name in ("precision", "recall", "f1"):
            estimate: Estimate = getattr(live, name)
            yield Figure("outcome", name, cls, float(estimate.value[at]), round(float(estimate.n[at])), NAN, NAN)
    if reference.classes:
        yield Figure("outcome", "log_loss", None, layout.one(vector, "log_loss") / n, round(n), NAN, NAN)
        yield Figure("outcome", "brier", None, layout.one(vector, "squared_loss") / n, round(n), NAN, NAN)
