"""Labels by the time they took: errors compared at the same age, and weighted as the reference's delays.

Early labels are no fair sample. Rows are counted by the delay of their label (`AGE_EDGES_S`), so live labels can be held against
reference labels of the same delays, whatever share of the late ones has come.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detectors.classification import mean_from_sums
from detectors.coverage import Weighted, coverage_weighted, delays, same_age_baseline
from detectors.shares import Estimate
from streams.counting.layout import AGE_EDGES_S, Layout, Vector

LEAST_AGED = 5.0
"""Reference labels of one delay that can speak for that delay."""


class Aged(NamedTuple):
    """Labelled rows by delay with the sum and the squares of a figure of one row, [ages]; `rows` are all predictions."""

    n: Vector
    total: Vector
    squares: Vector
    rows: float


class Compared(NamedTuple):
    """Means over the labels whose delays the reference knows: of the live rows, and what the reference had at those delays."""

    live: Estimate
    expected: Estimate


def aged_sums(layout: Layout, vector: Vector, section: str | None = None) -> Aged:
    """Errors (0 or 1) or absolute errors by delay; with `section` the counts of that section."""
    n = np.maximum(layout.part(vector, "aged"), 0.0)
    if section is None and layout.task == "regression":
        total, squares = layout.part(vector, "aged_error"), layout.part(vector, "aged_error_squares")
    else:
        total = squares = layout.part(vector, section or "aged_errors")
    return Aged(n, total, squares, layout.one(vector, "rows"))


def same_age(live: Aged, base: Aged) -> Compared | None:
    """None where the reference has no label of the delays that the live rows have."""
    weight = np.where(base.n >= LEAST_AGED, live.n, 0.0)
    if weight.sum() <= 0:
        return None
    used = weight > 0
    each = mean_from_sums(base.n, base.total, base.squares)
    mean = mean_from_sums(weight.sum(), live.total[used].sum(), live.squares[used].sum())
    return Compared(mean, same_age_baseline(each, weight))


def coverage_weighted_mean(live: Aged, base: Aged) -> Weighted | None:
    """The live mean with delays weighted as in the reference; None without delays on either side."""
    if base.n.sum() <= 0 or live.n.sum() <= 0:
        return None
    weighted = coverage_weighted(
        live.n, live.total, live.squares, delays(AGE_EDGES_S, base.n, max(base.rows, float(base.n.sum())))
    )
    return weighted if np.isfinite(weighted.estimate.value) else None
