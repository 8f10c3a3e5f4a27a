"""Streams of single values that the sequential detectors of a model are fed with, and what the reference says of each.

Kinds: the score; every numeric feature; the loss of joined rows (0 or 1 for classes, the absolute error of a regression). Values are
mapped to [0, 1] over a fixed range and clipped: ADWIN's bound and the e-detector's bets need bounded values.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from leadline.config import Limits, Panes, Rules
from streams.counting.features import FINE_BINS, Feature
from streams.counting.figure import Side, subject_of
from streams.counting.layout import Vector
from streams.counting.references import Reference

Kind = Literal["score", "features", "loss"]
KINDS: tuple[Kind, ...] = ("score", "features", "loss")


class ValueStream(NamedTuple):
    """One stream. `mean` and `sd` are the reference's, of clipped values on the unit scale, from `rows` rows; `effects` are in units of
    `unit` (unit scale); `worse` tells that only a rise matters."""

    subject: str
    layer: Side
    low: float
    high: float
    mean: float
    sd: float
    rows: float
    effects: Limits
    unit: float
    worse: bool

    def value(self, level: float) -> float:
        """A number of the unit scale in the values' own unit."""
        return self.low + level * (self.high - self.low)

    @property
    def tolerance(self) -> float:
        """How far the mean may be from the reference's without being news: the effect that matters, and the reference's own error."""
        return float(self.effects.warn * self.unit + 4.0 * self.sd / max(self.rows, 1.0) ** 0.5)


def score_range(reference: Reference) -> tuple[float, float] | None:
    """The range that scores are mapped from; None before there is one."""
    if reference.task != "regression":
        return None if reference.task == "multiclass" and reference.score is None else (0.0, 1.0)
    return None if reference.score is None else (reference.score.low, reference.score.high)


def loss_range(reference: Reference) -> tuple[float, float] | None:
    """The same for the loss: an error of a regression counts up to the width of the score's range."""
    if reference.task != "regression":
        return (0.0, 1.0)
    return None if reference.score is None else (0.0, reference.score.high - reference.score.low)


def stream_rate(kind: Kind, panes: Panes, reference: Reference) -> float:
    """Rows a second and model that are sampled for streams of this kind; all features together keep within their total."""
    if kind != "features":
        return panes.sample_per_second
    features = max(len(reference.ranged_features), 1)
    return min(panes.feature_sample_per_second, panes.feature_values_per_second / features)


def losses(reference: Reference, predicted: Vector, label: Vector) -> Vector:
    """Loss of each joined row, in its own unit; NaN where prediction or label cannot be compared."""
    if reference.task == "regression":
        return np.abs(predicted - label)
    return np.where(np.isfinite(predicted) & np.isfinite(label), (predicted != label).astype(np.float64), np.nan)


def value_streams(reference: Reference, rules: Rules) -> dict[Kind, list[ValueStream]]:
    """The streams of a model by kind; a kind without a baseline has none."""
    vector = reference.cell(None)
    if vector is None or reference.layout.one(vector, "rows") <= 0:
        return {}
    found: dict[Kind, list[ValueStream]] = {
        "score": [*_score(reference, rules, vector)],
        "features": [
            _distribution(reference.features[at], f"feature:{reference.features[at].name}", reference, vector, rules)
            for at in reference.ranged_features
        ],
        "loss": [*_loss(reference, rules, vector)],
    }
    return {kind: streams for kind, streams in found.items() if streams}


def _score(reference: Reference, rules: Rules, vector: Vector) -> list[ValueStream]:
    limits = score_range(reference)
    if limits is None or reference.score is None:
        return []
    if reference.task == "regression":
        return [_distribution(reference.score, "score", reference, vector, rules)]
    rows = float(reference.layout.part(vector, "score")[: reference.score.bins.ordered].sum())
    if rows <= 0:
        return []
    mean = reference.layout.one(vector, "score_sum") / rows
    sd = max(reference.layout.one(vector, "score_squares") / rows - mean**2, 1e-12) ** 0.5
    return [ValueStream("score", "model", *limits, mean, sd, rows, rules.edetector, sd, False)]


def _distribution(feature: Feature, section: str, reference: Reference, vector: Vector, rules: Rules) -> ValueStream:
    """Moments of the clipped values by the middles of the fine bins: some hundred bins, so within a small part of `sd`. A feature of few
    values (a count, a yes or no) has as few bins, and its values lie at their lower ends: its sums are exact, and nothing is clipped."""
    counts = np.maximum(reference.layout.part(vector, section)[: feature.bins.ordered], 0.0)
    rows = float(counts.sum())
    if feature.bins.ordered < FINE_BINS and section != "score":
        mean, sd = _exact(feature, reference, vector, rows)
    else:
        middles = _middles(feature)
        mean = float(counts @ middles) / max(rows, 1.0)
        sd = max(float(counts @ (middles - mean) ** 2) / max(rows, 1.0), 1e-12) ** 0.5
    layer: Side = "model" if section == "score" else "data"
    subject = "score" if section == "score" else subject_of(feature.name)
    return ValueStream(subject, layer, feature.low, feature.high, mean, sd, rows, rules.edetector, sd, False)


def _exact(feature: Feature, reference: Reference, vector: Vector, rows: float) -> tuple[float, float]:
    """Mean and standard deviation on the unit scale, by the sums of the values themselves."""
    width = feature.high - feature.low
    z = reference.layout.one(vector, f"z:{feature.name}") / max(rows, 1.0)
    square = reference.layout.one(vector, f"zz:{feature.name}") / max(rows, 1.0)
    sd = max(square - z**2, 1e-12) ** 0.5 * feature.scale / width
    return min(max((feature.center + feature.scale * z - feature.low) / width, 0.0), 1.0), sd


def _middles(feature: Feature) -> npt.NDArray[np.float64]:
    """The middle of each fine bin on the unit scale, the open ones cut at the range's ends."""
    edges = np.asarray(getattr(feature.bins, "edges", ()), dtype=np.float64)
    bounds = np.clip(np.concatenate([[feature.low], edges, [feature.high]]), feature.low, feature.high)
    return np.asarray(((bounds[:-1] + bounds[1:]) / 2.0 - feature.low) / (feature.high - feature.low))


def _loss(reference: Reference, rules: Rules, vector: Vector) -> list[ValueStream]:
    layout, limits = reference.layout, loss_range(reference)
    if limits is None or limits[1] <= limits[0]:
        return []
    if reference.task == "regression":
        rows = layout.one(vector, "outcomes")
        if rows < rules.minimum_rows:
            return []
        width = limits[1]
        mean = min(layout.one(vector, "absolute_error") / rows / width, 1.0)
        sd = max(layout.one(vector, "squared_error") / rows / width**2 - mean**2, 1e-12) ** 0.5
        return [
            ValueStream("loss", "outcome", *limits, mean, sd, rows, rules.mean_absolute_error, max(mean, 1e-6), True)
        ]
    matrix = layout.part(vector, "confusion")
    size = math.isqrt(len(matrix))
    rows = float(matrix.sum())
    if rows < rules.minimum_rows:
        return []
    mean = 1.0 - float(np.trace(matrix.reshape(size, size))) / rows
    return [
        ValueStream(
            "loss", "outcome", *limits, mean, max(mean * (1 - mean), 1e-12) ** 0.5, rows, rules.accuracy, 1.0, True
        )
    ]
