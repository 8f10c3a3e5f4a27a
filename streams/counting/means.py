"""Figures that are means of a real value a row: where their rows, sums and squares stand in a vector, and what change of them matters.

Norms of embeddings, resources, confidence, a layer's activations, what main directions leave unexplained: each is judged as a mean, by
the normal law with the errors of both sides.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from leadline.alert import Layer
from streams.counting.layout import Layout, Vector

LARGEST = 1e15
"""A value further out counts as this far: one 1e300 must not swallow every later sum of squares."""


class Mean(NamedTuple):
    """`kind` is how its change is measured: `relative` to the reference's mean, or in `deviations` of the reference."""

    rows: str
    total: str
    squares: str
    figure: str
    signal: str
    subject: str | None
    layer: Layer
    kind: Literal["relative", "deviations"]
    sides: Literal["both", "upper"]


class Moments(NamedTuple):
    """Mean, standard deviation (population) and rows."""

    mean: float
    std: float
    n: float


@lru_cache(maxsize=1024)
def means_of(layout: Layout) -> tuple[Mean, ...]:
    """All means of a layout, by which the optional fields of a prediction are judged."""
    found = [
        Mean(
            "embedding_rows",
            "embedding_sum",
            "embedding_squares",
            "embedding_norm",
            "embedding_norm_shift",
            "embedding",
            "data",
            "relative",
            "both",
        ),
        Mean(
            "confidence_rows",
            "confidence_sum",
            "confidence_squares",
            "confidence",
            "confidence_shift",
            "confidence",
            "model",
            "deviations",
            "both",
        ),
    ]
    for layer in layout.probes:
        found += [
            Mean(
                f"layer_{part}_rows:{layer}",
                f"layer_{part}_sum:{layer}",
                f"layer_{part}_squares:{layer}",
                "layer_activation",
                "layer_shift",
                f"layer.{layer}.{part}",
                "model",
                "deviations",
                "both",
            )
            for part in ("mean", "std")
        ]
    found += [
        Mean(
            f"resource_rows:{name}",
            f"resource_sum:{name}",
            f"resource_squares:{name}",
            "resource_mean",
            "resource_growth",
            f"resource.{name}",
            "model",
            "relative",
            "upper",
        )
        for name in layout.resources
    ]
    if layout.joint:
        found.append(
            Mean(
                "joint_rows",
                "joint_sum",
                "joint_squares",
                "reconstruction_error",
                "multivariate_drift",
                None,
                "data",
                "deviations",
                "upper",
            )
        )
    return tuple(found)


def moments(layout: Layout, vector: Vector, mean: Mean) -> Moments | None:
    """None without a row."""
    n = layout.one(vector, mean.rows)
    if n < 1:
        return None
    average = layout.one(vector, mean.total) / n
    variance = max(layout.one(vector, mean.squares) / n - average**2, 0.0)
    # Below the rounding of the sums nothing varied.
    noise = 64 * np.finfo(np.float64).eps * average**2
    return Moments(average, variance**0.5 if variance > noise else 0.0, n)
