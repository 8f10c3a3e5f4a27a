"""Outcome figures of a regression."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from detectors.regression import RegressionMetrics, RegressionSums, regression_metrics
from detectors.shares import Estimate
from streams.counting.figure import Figure, estimated
from streams.counting.layout import Layout, Vector

METRICS = ("mae", "rmse", "bias", "r2")


def value_metrics(layout: Layout, vector: Vector) -> RegressionMetrics:
    """Errors with their standard errors. R2 is NaN where labels of another baseline, counted from another center, are among the rows."""
    names = (
        "error_rows",
        "error",
        "absolute_error",
        "squared_error",
        "truth",
        "truth_squares",
        "squared_error_squares",
    )
    sums = RegressionSums(*(np.asarray(layout.one(vector, name)) for name in names))
    found = regression_metrics(sums)
    if layout.one(vector, "truth_rows") != layout.one(vector, "error_rows"):
        unknown = np.asarray(np.nan)
        return found._replace(r2=Estimate(unknown, unknown, found.r2.n))
    return found


def value_figures(layout: Layout, vector: Vector, baseline: Vector | None) -> Iterator[Figure]:
    """MAE, RMSE and bias in the label's unit, R2."""
    if layout.one(vector, "error_rows") <= 0:
        return
    live = value_metrics(layout, vector)
    base = value_metrics(layout, baseline) if baseline is not None and layout.one(baseline, "error_rows") > 0 else None
    for name in METRICS:
        yield estimated("outcome", name, getattr(live, name), getattr(base, name) if base is not None else None)
