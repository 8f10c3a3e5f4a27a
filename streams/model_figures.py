"""Figures of the model layer: the score, collapsed answers, entropy, confidence, latency."""

from __future__ import annotations

from collections.abc import Iterator

from detectors.classification import mean_from_sums
from detectors.shares import share
from streams.figure import NAN, QUANTILES, Figure, estimated, number
from streams.layout import COLLAPSE_SLOTS, Vector
from streams.log_bins import LATENCY_MS
from streams.references import Reference
from streams.subject_figures import subject_figures


def model_figures(reference: Reference, vector: Vector, baseline: Vector | None) -> Iterator[Figure]:
    """Figures of what the model answered."""
    layout = reference.layout
    rows = round(layout.one(vector, "rows"))
    if not rows:
        return
    if reference.score is not None:
        yield from subject_figures(reference.score, "score", "score", layout, vector, baseline, "model")
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
