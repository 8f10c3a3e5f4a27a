"""Figures of the data layer: every feature, and rows as wholes."""

from __future__ import annotations

from collections.abc import Iterator

from detectors.shares import share
from streams.counting.figure import NAN, Figure, estimated, subject_of
from streams.counting.layout import Vector
from streams.counting.references import Reference
from streams.figures.mean_figures import mean_figures
from streams.figures.subject_figures import subject_figures


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
        if feature.far_codes is not None:
            of_live = layout.part(vector, f"feature:{feature.name}")
            of_base = layout.part(baseline, f"feature:{feature.name}") if baseline is not None else None
            yield estimated(
                "data",
                "out_of_distribution_rate",
                share(of_live[feature.far_codes].sum(), of_live.sum()),
                share(of_base[feature.far_codes].sum(), of_base.sum()) if of_base is not None else None,
                subject_of(feature.name),
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
    yield from mean_figures(layout, vector, baseline, "data")
    given = layout.one(vector, "embedding_rows") + layout.one(vector, "embedding_invalid")
    if given:
        invalid = share(layout.one(vector, "embedding_invalid"), given)
        yield estimated("data", "invalid_rate", invalid, None, "embedding")
    for signal, section in (("pipeline_fingerprint", "pipeline"), ("runtime_version", "runtime")):
        stated = layout.one(vector, f"{section}_rows")
        if stated and baseline is not None and layout.one(baseline, f"{section}_rows"):
            unknown = layout.part(vector, section)[layout.part(baseline, section) <= 0]
            yield estimated("data", signal, share(float(unknown.max(initial=0.0)), stated), None)
