"""Every number that a count vector holds. Pure functions of counts.

The same functions make the backtest's report, the Redis views and the text of an alert, so that one log has one set of figures.
"""

from __future__ import annotations

from collections.abc import Iterator

from streams.counting.figure import Figure
from streams.counting.layout import Vector
from streams.counting.references import Reference
from streams.figures.data_figures import data_figures
from streams.figures.model_figures import model_figures
from streams.figures.outcome_figures import outcome_figures


def figures(
    reference: Reference, vector: Vector, baseline: Vector | None, latency_slo_ms: float | None = None
) -> Iterator[Figure]:
    """Every figure of one vector. `baseline` is the reference's vector of the same segment, None where it has none."""
    yield from data_figures(reference, vector, baseline)
    yield from model_figures(reference, vector, baseline, latency_slo_ms)
    yield from outcome_figures(reference, vector, baseline)
