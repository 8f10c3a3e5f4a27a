"""A figure: one number of a count vector, with its n, its reference and its noise floor."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from detectors.shares import Estimate

Side = Literal["data", "model", "outcome"]
FIGURE_ALPHA = 0.01  # the floor shown beside a figure: what noise alone exceeds once in a hundred looks
FIGURE_Z = 2.5758293035489  # the normal quantile of it, two-sided
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
RESERVED_SUBJECTS = frozenset({"score", "prediction", "label", "latency_ms", "delay_s"})


class Figure(NamedTuple):
    """One figure. `reference` and `floor` are NaN where there is none; `n` counts the rows behind `value`."""

    layer: Side
    signal: str
    subject: str | None
    value: float
    n: int
    reference: float
    floor: float
    bound: float = float("nan")
    """Certified half-width of the value, where counting by bins leaves one (AUC)."""


NAN = float("nan")


def subject_of(feature: str) -> str:
    """A feature's name as a subject; one that is called like a subject of ours is told apart."""
    return f"feature.{feature}" if feature in RESERVED_SUBJECTS else feature


def number(value: object) -> float:
    return float(np.asarray(value))


def estimated(
    layer: Side, signal: str, live: Estimate, baseline: Estimate | None, subject: str | None = None
) -> Figure:
    base = number(baseline.value) if baseline is not None else NAN
    errors = number(live.se) ** 2 + (number(baseline.se) ** 2 if baseline is not None else 0.0)
    return Figure(layer, signal, subject, number(live.value), round(number(live.n)), base, FIGURE_Z * errors**0.5)
