"""Figures of the data layer: every feature, and rows as wholes."""

from __future__ import annotations

from collections.abc import Iterator

from detectors.shares import share
from streams.figure import NAN, Figure, estimated, subject_of
from streams.layout import Vector
from streams.references import Reference
from streams.subject_figures import subject_figures


def data_figures(reference: Reference, vector: Vector, baseline: Vector | None) -> Iterator[Figure]:
    """Figures of what came in."""
    layout = reference.layout
    rows = round(layout.one(vector, "rows"))
    yield Figure("data", "rows", None, float(rows), rows, NAN, NAN)
    if not rows:
        return
    for feature in reference.features:
        yield from subject_figures(
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
        yield estimated("data", "out_of_distribution_rate", live, base)
        yield Figure("data", "extra_feature_rate", None, layout.one(vector, "extra") / rows, rows, 0.0, NAN)
