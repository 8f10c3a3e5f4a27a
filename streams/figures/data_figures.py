"""Figures of the data layer: every feature, and rows as wholes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from detectors.shares import share
from streams.counting.figure import NAN, Figure, estimated, subject_of
from streams.counting.layout import Layout, Vector
from streams.counting.references import Reference
from streams.counting.stated import baseline_stated, rows_stating, stated_fields
from streams.figures.mean_figures import mean_figures


def data_figures(
    reference: Reference, vector: Vector, baseline: Vector | None, of_subjects: Sequence[Sequence[Figure]]
) -> Iterator[Figure]:
    """Figures of what came in. `of_subjects` is `subject_figures`' list."""
    layout = reference.layout
    rows = round(layout.one(vector, "rows"))
    yield Figure("data", "rows", None, float(rows), rows, NAN, NAN)
    if not rows:
        return
    absent = vector[reference.subjects.absent].tolist()
    for at, feature in enumerate(reference.features):
        yield from of_subjects[at]
        if absent[at]:
            yield Figure("data", "absent_rate", subject_of(feature.name), absent[at] / rows, rows, 0.0, NAN)
    if reference.features:
        live = share(layout.one(vector, "out_of_distribution"), rows)
        base = (
            share(layout.one(baseline, "out_of_distribution"), layout.one(baseline, "rows"))
            if baseline is not None
            else None
        )
        yield estimated("data", "out_of_distribution_rate", live, base)
        yield Figure("data", "extra_feature_rate", None, layout.one(vector, "extra") / rows, rows, 0.0, NAN)
    if baseline is not None:
        yield from _missing_rates(layout, vector, baseline)
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


def _missing_rates(layout: Layout, vector: Vector, baseline: Vector) -> Iterator[Figure]:
    """Rows without a field that services may leave out, of each field that the baseline states."""
    stated, asked = baseline_stated(layout, baseline)
    rows, live = layout.one(vector, "rows"), rows_stating(layout, vector)
    for at in np.flatnonzero(stated > 0).tolist():
        missing = share(rows - live[at], rows)
        yield estimated(
            "data", "missing_rate", missing, share(asked[at] - stated[at], asked[at]), stated_fields(layout)[at]
        )
