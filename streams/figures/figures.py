"""Every number that a count vector holds. Pure functions of counts.

The same functions make the backtest's report, the Redis views and the text of an alert, so that one log has one set of figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streams.counting.figure import Figure, Side
from streams.counting.layout import Vector
from streams.counting.references import Reference
from streams.figures.data_figures import data_figures
from streams.figures.model_figures import model_figures
from streams.figures.outcome_figures import outcome_figures
from streams.figures.subject_figures import subject_figures

LAYERS: tuple[Side, ...] = ("data", "model", "outcome")


def figures(
    reference: Reference,
    vector: Vector,
    baseline: Vector | None,
    latency_slo_ms: float | None = None,
    layers: Sequence[Side] = LAYERS,
) -> Iterator[Figure]:
    """Every figure of one vector, or those of some layers. `baseline` is the reference's vector of the same segment, if it has one."""
    if "data" in layers or "model" in layers:
        of_subjects = subject_figures(reference, vector, baseline)
        if "data" in layers:
            yield from data_figures(reference, vector, baseline, of_subjects)
        if "model" in layers:
            yield from model_figures(reference, vector, baseline, of_subjects, latency_slo_ms)
    if "outcome" in layers:
        yield from outcome_figures(reference, vector, baseline)
