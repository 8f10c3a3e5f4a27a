"""Figures: every number that a count vector holds, with its n, its reference and its noise floor. Pure functions of counts.

The same functions make the backtest's report, the Redis views and the text of an alert, so that one log has one set of figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from detectors.auc import auc_from_histograms, average_precision, delong_se, hanley_mcneil_se
from detectors.binning import CategoryBins
from detectors.calibration import Calibration, expected_calibration_error
from detectors.cbpe import auc_departure, calibration_map, estimated_auc, positives_departure
from detectors.classification import binary_metrics, mean_from_sums, multiclass_metrics
from detectors.divergence import js_divergence, l_infinity, psi, psi_debiased, psi_floor, used_bins
from detectors.ks import ks_floor, ks_p_value, ks_statistic
from detectors.ratios import per_request, ratio
from detectors.regression import RegressionSums, regression_metrics
from detectors.shares import Estimate, share
from streams.layout import COLLAPSE_SLOTS, Layout, Vector
from streams.log_bins import DELAY_S, LATENCY_MS
from streams.references import Feature, Reference

Side = Literal["data", "model", "outcome"]
FIGURE_ALPHA = 0.01  # the floor shown beside a figure: what noise alone exceeds once in a hundred looks
FIGURE_Z = 2.5758293035489  # the normal quantile of it, two-sided
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
RESERVED_SUBJECTS = frozenset({"score", "prediction", "label", "latency_ms", "delay_s"})


class Figure(NamedTuple):
    """One figure. `reference` and `floor` are NaN where there is none; `n` counts the rows behind `value`."""

    layer: Side
    signal: str
    subject: str | None
    value: float
    n: int
    reference: float
    floor: float
    bound: float = float("nan")
    """Certified half-width of the value, where counting by bins leaves one (AUC)."""


NAN = float("nan")


def subject_of(feature: str) -> str:
    """A feature's name as a subject; one that is called like a subject of ours is told apart."""
    return f"feature.{feature}" if feature in RESERVED_SUBJECTS else feature


def figures(reference: Reference, vector: Vector, baseline: Vector | None) -> Iterator[Figure]:
    """Every figure of one vector. `baseline` is the reference's vector of the same segment, None where it has none."""
    layout = reference.layout
    yield from _data(reference, layout, vector, baseline)
    yield from _model(reference, layout, vector, baseline)
    if layout.one(vector, "outcomes") > 0 or layout.one(vector, "joined") > 0:
        yield from _outcome(reference, layout, vector, baseline)


def _one(value: object) -> float:
    return float(np.asarray(value))


def _estimate(
    layer: Side, signal: str, live: Estimate, baseline: Estimate | None, subject: str | None = None
) -> Figure:
    base = _one(baseline.value) if baseline is not None else NAN
    errors = _one(live.se) ** 2 + (_one(baseline.se) ** 2 if baseline is not None else 0.0)
    return Figure(layer, signal, subject, _one(live.value), round(_one(live.n)), base, FIGURE_Z * errors**0.5)


def _data(reference: Reference, layout: Layout, vector: Vector, baseline: Vector | None) -> Iterator[Figure]:
    rows = round(layout.one(vector, "rows"))
    yield Figure("data", "rows", None, float(rows), rows, NAN, NAN)
    if not rows:
        return
    for feature in reference.features:
        yield from _feature(
            feature, f"feature:{feature.name}", subject_of(feature.name), layout, vector, baseline, "data"
        )
        absent = layout.one(vector, f"absent:{feature.name}")
        if absent:
            yield Figure("data", "absent_rate", subject_of(feature.name), absent / rows, rows, 0.0, NAN)
    if reference.features:
        live = share(layout.one(vector, "out_of_distribution"), rows)
        base = (
            share(layout.one(baseline, "out_of_distribution"), layout.one(baseline, "rows"))
            if baseline is not None
            else None
        )
        yield _estimate("data", "out_of_distribution_rate", live, base)
        yield Figure("data", "extra_feature_rate", None, layout.one(vector, "extra") / rows, rows, 0.0, NAN)


def _feature(
    feature: Feature, section: str, subject: str, layout: Layout, vector: Vector, baseline: Vector | None, layer: Side
) -> Iterator[Figure]:
    codes = np.maximum(np.rint(layout.part(vector, section)), 0).astype(np.int64)
    n = int(codes.sum())
    bins = feature.bins
    base = np.rint(layout.part(baseline, section)).astype(np.int64) if baseline is not None else None
    m = int(base.sum()) if base is not None else 0
    if n and base is not None and m:
        size = feature.group_count
        grouped = np.bincount(feature.groups, weights=codes, minlength=size).astype(np.int64)
        base_grouped = np.bincount(feature.groups, weights=base, minlength=size).astype(np.int64)
        used = _one(used_bins(grouped, base_grouped))
        floor = _one(psi_floor(n, m, used, FIGURE_ALPHA))
        yield Figure(layer, "psi", subject, _one(psi(grouped, base_grouped)), n, 0.0, floor)
        yield Figure(layer, "psi_debiased", subject, _one(psi_debiased(grouped, base_grouped)), n, 0.0, floor)
        yield Figure(layer, "js_divergence", subject, _one(js_divergence(grouped, base_grouped)), n, 0.0, floor / 8)
        if isinstance(bins, CategoryBins):
            yield Figure(layer, "l_infinity", subject, _one(l_infinity(grouped, base_grouped)), n, 0.0, NAN)
        else:
            valid, base_valid = codes[: bins.ordered], base[: bins.ordered]
            if valid.sum() and base_valid.sum():
                gap = _one(ks_statistic(valid, base_valid))
                k, j = int(valid.sum()), int(base_valid.sum())
                yield Figure(layer, "ks", subject, gap, k, 0.0, _one(ks_floor(k, j, FIGURE_ALPHA)))
                yield Figure(layer, "ks_p_value", subject, _one(ks_p_value(gap, k, j)), k, NAN, NAN)
    for signal, code in (("null_rate", bins.missing), ("invalid_rate", bins.invalid)):
        yield _estimate(
            layer, signal, share(codes[code], n), share(base[code], m) if base is not None and m else None, subject
        )
    if isinstance(bins, CategoryBins):
        yield _estimate(layer, "new_category_rate", share(codes[bins.new], n), None, subject)
        return
    live, base_mean = _moments(feature, section, layout, vector), None
    if baseline is not None:
        base_mean = _moments(feature, section, layout, baseline)
    if live is None:
        return
    mean, std, k = live
    yield Figure(layer, "mean", subject, mean, k, base_mean[0] if base_mean else NAN, 3 * std / k**0.5)
    yield Figure(layer, "standard_deviation", subject, std, k, base_mean[1] if base_mean else NAN, NAN)
    if base_mean is not None and base_mean[1] > 0:
        shift = abs(mean - base_mean[0]) / base_mean[1]
        floor = 3 * (std**2 / k + base_mean[1] ** 2 / base_mean[2]) ** 0.5 / base_mean[1]
        yield Figure(layer, "mean_shift", subject, shift, k, 0.0, floor)


def _moments(feature: Feature, section: str, layout: Layout, vector: Vector) -> tuple[float, float, int] | None:
    """(mean, standard deviation, n) in the value's unit."""
    codes = layout.part(vector, section)
    n = round(float(codes[: feature.bins.ordered].sum()))
    if n <= 0:
        return None
    if section == "score":
        total, squares = layout.one(vector, "score_sum"), layout.one(vector, "score_squares")
        mean = total / n
        return mean, max(squares / n - mean**2, 0.0) ** 0.5, n
    mean_z = layout.one(vector, f"z:{feature.name}") / n
    variance = max(layout.one(vector, f"zz:{feature.name}") / n - mean_z**2, 0.0)
    return feature.center + feature.scale * mean_z, feature.scale * variance**0.5, n


def _model(reference: Reference, layout: Layout, vector: Vector, baseline: Vector | None) -> Iterator[Figure]:
    rows = round(layout.one(vector, "rows"))
    if not rows:
        return
    if reference.score is not None:
        yield from _feature(reference.score, "score", "score", layout, vector, baseline, "model")
    else:
        yield Figure("model", "mean", "score", layout.one(vector, "score_sum") / rows, rows, NAN, NAN)
    if reference.task == "binary":
        live = share(layout.one(vector, "predicted_positive"), rows)
        base = (
            share(layout.one(baseline, "predicted_positive"), layout.one(baseline, "rows"))
            if baseline is not None
            else None
        )
        yield _estimate("model", "predicted_positive_rate", live, base, "prediction")
    top = layout.part(vector, "collapse").max()
    base_top = (
        layout.part(baseline, "collapse").max() / max(layout.one(baseline, "rows"), 1) if baseline is not None else NAN
    )
    # Slots are shared by about 1/256 of all other answers: that much the share may be too high.
    yield Figure("model", "output_collapse", "score", float(top) / rows, rows, float(base_top), 1 / COLLAPSE_SLOTS)
    counted = layout.one(vector, "entropy_rows")
    if counted:
        mean = mean_from_sums(counted, layout.one(vector, "entropy_sum"), layout.one(vector, "entropy_squares"))
        base_mean = None
        if baseline is not None and layout.one(baseline, "entropy_rows"):
            base_mean = mean_from_sums(
                *(layout.one(baseline, name) for name in ("entropy_rows", "entropy_sum", "entropy_squares"))
            )
        yield _estimate("model", "prediction_entropy", mean, base_mean, "score")
        spread = _one(mean.se) * counted**0.5
        yield Figure(
            "model",
            "entropy_spread",
            "score",
            spread,
            round(counted),
            _one(base_mean.se) * _one(base_mean.n) ** 0.5 if base_mean else NAN,
            NAN,
        )
    stated = layout.one(vector, "confidence_rows")
    if stated:
        yield Figure(
            "model", "confidence", None, layout.one(vector, "confidence_sum") / stated, round(stated), NAN, NAN
        )
    timed = layout.one(vector, "latency_rows")
    if timed:
        yield Figure(
            "model", "latency_mean", "latency_ms", layout.one(vector, "latency_sum") / timed, round(timed), NAN, NAN
        )
        for name, q in QUANTILES.items():
            yield Figure(
                "model",
                f"latency_{name}",
                "latency_ms",
                LATENCY_MS.quantile(layout.part(vector, "latency"), q),
                round(timed),
                NAN,
                NAN,
            )


def _outcome(reference: Reference, layout: Layout, vector: Vector, baseline: Vector | None) -> Iterator[Figure]:
    rows, joined = layout.one(vector, "rows"), layout.one(vector, "joined")
    if rows:
        yield _estimate("outcome", "label_coverage", share(joined, rows), None)
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
            yield _estimate("outcome", "business_mean", live, base, name)


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
    base_auc = _one(auc_from_histograms(base_pos, base_neg).value) if known is not None else NAN
    if p > 0 and n > 0:
        error = _one(hanley_mcneil_se(auc.value, p, n))
        yield Figure("outcome", "auc", None, _one(auc.value), total, base_auc, 3 * error, _one(auc.bound))
        yield Figure("outcome", "auc_standard_error", None, _one(delong_se(pos, neg)), total, NAN, NAN)
        precision = average_precision(pos, neg)
        base_precision = _one(average_precision(base_pos, base_neg).value) if known is not None else NAN
        bound = max(_one(precision.high) - _one(precision.value), _one(precision.value) - _one(precision.low))
        yield Figure("outcome", "average_precision", None, _one(precision.value), total, base_precision, NAN, bound)
    live = binary_metrics(*_squares(layout, vector))
    base = binary_metrics(*_squares(layout, known)) if known is not None else None
    for name in ("accuracy", "precision", "recall", "f1", "false_negative_rate", "false_positive_rate"):
        yield _estimate("outcome", name, getattr(live, name), getattr(base, name) if base is not None else None)
    yield _estimate(
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
    base_ece = _one(calibration_of(layout, known, FIGURE_ALPHA).ece) if known is not None else NAN
    yield Figure(
        "outcome",
        "ece",
        None,
        _one(calibration.ece),
        total,
        base_ece,
        _one(calibration.noise) + 3 * _one(calibration.se),
    )
    yield Figure("outcome", "ece_debiased", None, _one(calibration.debiased), total, NAN, 3 * _one(calibration.se))
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
            _one(estimated_auc(scores, mu).value),
            round(float(scores.sum())),
            NAN,
            NAN,
        )
    labelled, hits = layout.part(vector, "labelled")[:ordered], layout.part(vector, "labelled_positives")[:ordered]
    gap = positives_departure(hits.sum(), labelled, mu)
    yield Figure("outcome", "realised_minus_estimated", "label", _one(gap.delta), total, 0.0, 3 * _one(gap.se))
    ranks = auc_departure(hits, labelled - hits, mu)
    yield Figure("outcome", "realised_minus_estimated", "auc", _one(ranks.delta), total, 0.0, 3 * _one(ranks.se))


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
        yield _estimate(
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
        yield _estimate("outcome", name, getattr(live, name), getattr(base, name) if base is not None else None)
    for at, cls in enumerate(reference.classes):
        for name in ("precision", "recall", "f1"):
            estimate: Estimate = getattr(live, name)
            yield Figure("outcome", name, cls, float(estimate.value[at]), round(float(estimate.n[at])), NAN, NAN)
    if reference.classes:
        yield Figure("outcome", "log_loss", None, layout.one(vector, "log_loss") / n, round(n), NAN, NAN)
        yield Figure("outcome", "brier", None, layout.one(vector, "squared_loss") / n, round(n), NAN, NAN)
