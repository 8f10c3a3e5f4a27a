"""Figures of the outcome layer: what the labels say. The tasks have files of their own; what all share is here."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from detectors.ratios import lift, per_request, ratio
from detectors.shares import Estimate, share
from streams.counting.delay_mix import aged_sums, coverage_weighted_mean, same_age
from streams.counting.figure import FIGURE_Z, NAN, QUANTILES, Figure, estimated, number
from streams.counting.layout import Layout, Vector
from streams.counting.log_bins import DELAY_S
from streams.counting.references import Reference
from streams.figures.binary_figures import binary_figures
from streams.figures.class_figures import class_figures
from streams.figures.value_figures import value_figures


def outcome_figures(reference: Reference, vector: Vector, baseline: Vector | None) -> Iterator[Figure]:
    """Figures of the joined rows; what scores promise needs no label, all else comes with the first."""
    layout = reference.layout
    if reference.task == "binary":
        yield from binary_figures(reference, vector, baseline)
    if layout.one(vector, "outcomes") <= 0 and layout.one(vector, "joined") <= 0:
        return
    rows, joined = layout.one(vector, "rows"), layout.one(vector, "joined")
    if rows:
        yield estimated("outcome", "label_coverage", share(joined, rows), None)
    delays = np.maximum(layout.part(vector, "delay"), 0)
    base_delays = np.maximum(layout.part(baseline, "delay"), 0) if baseline is not None else delays * 0
    if delays.sum() > 0:
        for name, q in QUANTILES.items():
            usual = DELAY_S.quantile(base_delays, q)
            value, n = DELAY_S.quantile(delays, q), round(float(delays.sum()))
            yield Figure("outcome", f"label_delay_{name}", "delay_s", value, n, usual, NAN)
    if reference.task == "regression":
        yield from value_figures(layout, vector, baseline)
    elif reference.task == "multiclass":
        yield from class_figures(reference, vector, baseline)
    yield from _by_age(layout, vector, baseline)
    yield from _business(layout, vector, baseline)


def _by_age(layout: Layout, vector: Vector, baseline: Vector | None) -> Iterator[Figure]:
    """The error against that of reference labels of the same delays, and the error with delays weighted as in the reference."""
    if baseline is None:
        return
    live, base = aged_sums(layout, vector), aged_sums(layout, baseline)
    name = "mae" if layout.task == "regression" else "error_rate"
    compared = same_age(live, base)
    if compared is not None:
        yield estimated("outcome", f"{name}_same_age", compared.live, compared.expected)
    weighted = coverage_weighted_mean(live, base)
    if weighted is not None:
        yield estimated("outcome", f"{name}_coverage_weighted", weighted.estimate, None)
        n = round(number(weighted.estimate.n))
        yield Figure("outcome", f"{name}_coverage_weighted_share", None, number(weighted.covered), n, NAN, NAN)


def business_mean(layout: Layout, vector: Vector, name: str) -> Estimate | None:
    """The mean of a business value over the labels that state it, with its delta-method error; None where none does."""
    n = layout.one(vector, f"value_rows:{name}")
    if n <= 0:
        return None
    return ratio(per_request(n, layout.one(vector, f"value:{name}"), layout.one(vector, f"value_squares:{name}")))


def _business(layout: Layout, vector: Vector, baseline: Vector | None) -> Iterator[Figure]:
    for name in layout.business:
        live = business_mean(layout, vector, name)
        if live is None:
            continue
        base = business_mean(layout, baseline, name) if baseline is not None else None
        yield estimated("outcome", "business_mean", live, base, name)
        if base is not None:
            yield lift_figure("business_lift", name, live, base)


def lift_figure(signal: str, name: str, live: Estimate, base: Estimate) -> Figure:
    """The relative change of a business value; its floor is that of the lift itself."""
    change = lift(live, base)
    return Figure(
        "outcome", signal, name, number(change.value), round(number(live.n)), 0.0, FIGURE_Z * number(change.se)
    )
