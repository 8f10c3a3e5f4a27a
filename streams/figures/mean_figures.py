"""Figures of the optional fields that are means, each with its change against the baseline."""

from __future__ import annotations

from collections.abc import Iterator

from detectors.embedding import norm_shift
from detectors.moments import mean_shift_z
from streams.counting.figure import NAN, Figure, Side, number
from streams.counting.layout import Layout, Vector
from streams.counting.means import means_of, moments


def mean_figures(layout: Layout, vector: Vector, baseline: Vector | None, layer: Side) -> Iterator[Figure]:
    """Of one layer; nothing of a field that no row states."""
    for mean in means_of(layout):
        if mean.layer != layer:
            continue
        live = moments(layout, vector, mean)
        if live is None:
            continue
        base = moments(layout, baseline, mean) if baseline is not None else None
        n, floor = round(live.n), 3 * live.std / live.n**0.5
        yield Figure(layer, mean.figure, mean.subject, live.mean, n, base.mean if base else NAN, floor)
        if base is not None:
            law = norm_shift if mean.kind == "relative" else mean_shift_z
            shift, error = law(live.n, live.mean, live.std, base.n, base.mean, base.std)
            value = number(shift)
            if mean.sides == "upper" and live.mean < base.mean:
                value = 0.0
            yield Figure(layer, mean.signal, mean.subject, value, n, 0.0, 3 * number(error))
