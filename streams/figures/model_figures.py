"""Figures of the model layer: the score, collapsed answers, entropy, confidence, latency."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from detectors.classification import mean_from_sums
from detectors.shares import share
from streams.counting.figure import FIGURE_Z, NAN, QUANTILES, Figure, estimated, number
from streams.counting.layout import COLLAPSE_SLOTS, Layout, Vector
from streams.counting.log_bins import LATENCY_MS, RESOURCE, slower_than
from streams.counting.references import Reference
from streams.figures.mean_figures import mean_figures


def model_figures(
    reference: Reference,
    vector: Vector,
    baseline: Vector | None,
    of_subjects: Sequence[Sequence[Figure]],
    latency_slo_ms: float | None = None,
) -> Iterator[Figure]:
    """Figures of what the model answered. `of_subjects` is `subject_figures`' list."""
    layout = reference.layout
    rows = round(layout.one(vector, "rows"))
    if not rows:
        return
    if reference.score is not None:
        yield from of_subjects[-1]
    else:
        yield Figure("model", "mean", "score", layout.one(vector, "score_sum") / rows, rows, NAN, NAN)
    if reference.task == "binary":
        live = share(layout.one(vector, "predicted_positive"), rows)
        base = (
            share(layout.one(baseline, "predicted_positive"), layout.one(baseline, "rows"))
            if baseline is not None
            else None
        )
        yield estimated("model", "predicted_positive_rate", live, base, "prediction")
    elif reference.task == "multiclass":
        answers = layout.part(vector, "predicted")
        known = layout.part(baseline, "predicted") if baseline is not None else None
        for at, name in enumerate(reference.classes):
            of_known = share(known[at], known.sum()) if known is not None and known.sum() else None
            yield estimated("model", "predicted_share", share(answers[at], answers.sum()), of_known, name)
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
        yield estimated("model", "prediction_entropy", mean, base_mean, "score")
        spread = number(mean.se) * counted**0.5
        yield Figure(
            "model",
            "entropy_spread",
            "score",
            spread,
            round(counted),
            number(base_mean.se) * number(base_mean.n) ** 0.5 if base_mean else NAN,
            NAN,
        )
    yield from mean_figures(layout, vector, baseline, "model")
    yield from _resources(layout, vector, baseline)
    yield from _faults(layout, vector, rows)
    yield from _latency(layout, vector, baseline, latency_slo_ms)


def _faults(layout: Layout, vector: Vector, rows: int) -> Iterator[Figure]:
    """Rows with NaN or infinity in a layer: written of a declared layer always, of others where there are some."""
    for layer in layout.probes:
        for signal in ("nan", "inf"):
            count = layout.one(vector, f"{signal}:{layer}")
            yield Figure("model", f"layer_{signal}", f"layer.{layer}", count / rows, rows, 0.0, 0.0)
    for signal in ("nan", "inf"):
        count = layout.one(vector, f"probe_{signal}")
        if count:
            yield Figure("model", f"layer_{signal}", None, count / rows, rows, 0.0, 0.0)


def _resources(layout: Layout, vector: Vector, baseline: Vector | None) -> Iterator[Figure]:
    """Quantiles of what a request takes; their means stand with the other means."""
    for name in layout.resources:
        stated = round(layout.one(vector, f"resource_rows:{name}"))
        if not stated:
            continue
        used = layout.part(vector, f"resource_used:{name}")
        known = layout.part(baseline, f"resource_used:{name}") if baseline is not None else np.zeros(len(used))
        for quantile, q in QUANTILES.items():
            value, usual = (_least_is_none(RESOURCE.quantile(counts, q)) for counts in (used, known))
            yield Figure("model", f"resource_{quantile}", f"resource.{name}", value, stated, usual, NAN)


def _least_is_none(value: float) -> float:
    """The first bin holds what is too small to be told from nothing."""
    return 0.0 if value < RESOURCE.least else value


def _latency(layout: Layout, vector: Vector, baseline: Vector | None, latency_slo_ms: float | None) -> Iterator[Figure]:
    timed = round(layout.one(vector, "latency_rows"))
    if not timed:
        return
    counted = layout.part(vector, "latency")
    known = layout.part(baseline, "latency") if baseline is not None else np.zeros(len(counted))
    known_rows = layout.one(baseline, "latency_rows") if baseline is not None else 0.0
    mean = layout.one(vector, "latency_sum") / timed
    floor = NAN
    if timed > 1:
        variance = max(layout.one(vector, "latency_squares") / timed - mean**2, 0.0)
        floor = 3 * (variance / timed) ** 0.5
    known_mean = layout.one(baseline, "latency_sum") / known_rows if baseline is not None and known_rows else NAN
    yield Figure("model", "latency_mean", "latency_ms", mean, timed, known_mean, floor)
    for name, q in QUANTILES.items():
        value = LATENCY_MS.quantile(counted, q)
        yield Figure("model", f"latency_{name}", "latency_ms", value, timed, LATENCY_MS.quantile(known, q), NAN)
    if latency_slo_ms is not None:
        slow = share(counted[LATENCY_MS.middles() > latency_slo_ms].sum(), timed)
        floor = FIGURE_Z * number(slow.se)
        yield Figure("model", "latency_over_slo", "latency_ms", number(slow.value), timed, 0.01, floor)
    if known.any():
        at = slower_than(known, 0.99)
        slow, base = share(counted[at:].sum(), timed), share(known[at:].sum(), known.sum())
        yield estimated("model", "latency_shift", slow, base, "latency_ms")
