"""The faults: what each does to a log, and what an ideal report would call it.

A fault acts on one layer: the traffic, the world (features before the truth is drawn), the pipeline (what the model sees and the
service publishes), the published record alone, the score, the truth, or the latency.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from benchmarks.incident_logs import WORLD, Mask, Rows, Shape, mask_of, numbers, sigmoid, traffic
from benchmarks.incident_worlds import move

Layer = Literal["traffic", "world", "pipeline", "record", "score", "truth", "latency"]
Act = Callable[[Rows, Mask, np.random.Generator], None]

DRIFT = frozenset({"psi", "mean_shift"})
CONCEPT = frozenset({"auc", "accuracy", "realised_minus_estimated", "ece", "false_negative_rate", "label_rate"})


@dataclass(frozen=True)
class Fault:
    """One kind of fault. `signals` and `subjects` are what may name it; None subjects: any."""

    name: str
    layer: Layer
    act: Act
    signals: frozenset[str]
    subjects: frozenset[str | None] | None
    version: str | None = None
    segment: str | None = None
    hours: float = 12.0
    start: float = 0.0

    @property
    def end(self) -> float:
        return self.start + self.hours * 3600.0

    def at(self, start: float, hours: float) -> Fault:
        return replace(self, start=start, hours=hours)

    def mask(self, rows: Rows) -> Mask:
        return mask_of(rows, self.start, self.end, self.version, self.segment) & rows.kept


def _add(feature: str, amount: float) -> Act:
    def act(rows: Rows, mask: Mask, rng: np.random.Generator) -> None:
        rows.features[feature][mask] += amount

    return act


def _times(feature: str, factor: float) -> Act:
    def act(rows: Rows, mask: Mask, rng: np.random.Generator) -> None:
        rows.features[feature][mask] *= factor

    return act


def _all(*acts: Act) -> Act:
    def act(rows: Rows, mask: Mask, rng: np.random.Generator) -> None:
        for each in acts:
            each(rows, mask, rng)

    return act


def _null(feature: str, share: float) -> Act:
    def act(rows: Rows, mask: Mask, rng: np.random.Generator) -> None:
        column = rows.features[feature]
        column[mask & (rng.random(len(mask)) < share)] = None if column.dtype == object else np.nan

    return act


def _replace(feature: str, share: float, value: object) -> Act:
    def act(rows: Rows, mask: Mask, rng: np.random.Generator) -> None:
        column = rows.features[feature].astype(object)
        column[mask & (rng.random(len(mask)) < share)] = value
        rows.features[feature] = column

    return act


def _rename(feature: str, other: str) -> Act:
    def act(rows: Rows, mask: Mask, rng: np.random.Generator) -> None:
        rows.names.setdefault(feature, []).append((mask, other))

    return act


def _standardise(rows: Rows, mask: Mask, rng: np.random.Generator) -> None:
    for name in ("age", "pressure", "glucose", "lactate", "cost", "stays"):
        values = numbers(rows.features[name])
        rows.features[name][mask] = (values[mask] - np.nanmean(values)) / np.nanstd(values)


def _collapse(rows: Rows, mask: Mask, rng: np.random.Generator) -> None:
    rows.score[mask] = 0.2871


def _permute_scores(rows: Rows, mask: Mask, rng: np.random.Generator) -> None:
    at = np.flatnonzero(mask)
    rows.score[at] = rows.score[rng.permutation(at)]


def _sharpen(rows: Rows, mask: Mask, rng: np.random.Generator) -> None:
    rows.score[mask] = sigmoid(2.5 * np.log(rows.score[mask] / (1.0 - rows.score[mask])))


def _score_bias(rows: Rows, mask: Mask, rng: np.random.Generator) -> None:
    rows.score[mask] = sigmoid(np.log(rows.score[mask] / (1.0 - rows.score[mask])) + 1.2)


def _flip(share: float, *, older_than: float = -np.inf) -> Act:
    def act(rows: Rows, mask: Mask, rng: np.random.Generator) -> None:
        hit = (
            mask
            & (rng.random(len(mask)) < share)
            & (np.nan_to_num(numbers(rows.features["age"]), nan=60.0) > older_than)
        )
        rows.label[hit] = 1.0 - rows.label[hit]

    return act


def _more_positives(rows: Rows, mask: Mask, rng: np.random.Generator) -> None:
    rows.label[mask & (rng.random(len(mask)) < 0.4)] = 1.0


def _less_likely(rows: Rows, mask: Mask, rng: np.random.Generator) -> None:
    rows.label[mask] = rng.random(int(mask.sum())) < sigmoid(rows.logit[mask] - 1.3)


def _vanish(rows: Rows, mask: Mask, rng: np.random.Generator) -> None:
    rows.kept &= ~mask


def _treble(rows: Rows, mask: Mask, rng: np.random.Generator) -> None:
    # Three times the site's share, at the cost of the others: the rate stays.
    within = (rows.time >= rows.time[mask].min()) & (rows.time <= rows.time[mask].max())
    rows.segments["site"][within & (rng.random(len(mask)) < 0.35)] = "west"


def _slow(rows: Rows, mask: Mask, rng: np.random.Generator) -> None:
    rows.latency_ms[mask] *= 6.0


def _of(*names: str | None) -> frozenset[str | None]:
    return frozenset(names)


def _catalogue() -> list[Fault]:
    outcome = _of(None, "label", "score")
    return [
        Fault("shift-one", "world", _add("pressure", 20.0), DRIFT, _of("pressure")),
        Fault("shift-heavy-tail", "world", _times("lactate", 1.7), DRIFT, _of("lactate")),
        Fault("shift-counts", "world", _add("visits", 1.0), DRIFT, _of("visits")),
        Fault("shift-integers", "world", _add("stays", 2.0), DRIFT, _of("stays")),
        Fault("shift-category", "world", _replace("code", 0.3, "c07"), DRIFT, _of("code")),
        Fault(
            "shift-three",
            "world",
            _all(_add("age", 12.0), _times("glucose", 1.2), _add("ratio", 0.15)),
            DRIFT,
            _of("age", "glucose", "ratio"),
        ),
        Fault("shift-segment", "world", _add("pressure", 20.0), DRIFT, _of("pressure"), segment="site=west"),
        Fault("shift-tier", "world", _add("age", 18.0), DRIFT, _of("age"), segment="tier=c"),
        Fault("shift-rare", "world", _add("pressure", 30.0), DRIFT, _of("pressure"), segment="tier=d", hours=18.0),
        Fault(
            "scaler-version",
            "record",
            _standardise,
            DRIFT | {"refitted_scaler"},
            None,
            version="2",
        ),
        Fault("nulls", "pipeline", _null("lactate", 0.35), frozenset({"null_rate"}), _of("lactate")),
        Fault(
            "nulls-version", "pipeline", _null("pressure", 0.4), frozenset({"null_rate"}), _of("pressure"), version="2"
        ),
        Fault(
            "nulls-segment", "pipeline", _null("age", 0.5), frozenset({"null_rate"}), _of("age"), segment="site=south"
        ),
        Fault("nulls-few", "pipeline", _null("stays", 0.06), frozenset({"null_rate"}), _of("stays")),
        Fault("nulls-category", "pipeline", _null("insurer", 0.5), frozenset({"null_rate"}), _of("insurer")),
        Fault("rename", "record", _rename("pressure", "bp"), frozenset({"absent_rate"}), _of("pressure")),
        Fault(
            "rename-version",
            "record",
            _rename("glucose", "glu"),
            frozenset({"absent_rate"}),
            _of("glucose"),
            version="2",
        ),
        Fault("unit", "pipeline", _times("glucose", 1000.0), DRIFT, _of("glucose")),
        Fault("unit-version", "pipeline", _times("cost", 0.001), DRIFT, _of("cost"), version="2"),
        Fault(
            "new-category",
            "pipeline",
            _replace("insurer", 0.15, "i99"),
            frozenset({"new_category_rate"}),
            _of("insurer"),
        ),
        Fault(
            "new-category-version",
            "pipeline",
            _replace("department", 0.5, "D1"),
            frozenset({"new_category_rate"}),
            _of("department"),
            version="2",
        ),
        Fault("invalid-type", "pipeline", _replace("age", 0.3, "unknown"), frozenset({"invalid_rate"}), _of("age")),
        Fault("concept-subgroup", "truth", _flip(1.0, older_than=65.0), CONCEPT, outcome, hours=18.0),
        Fault("concept-noise", "truth", _flip(0.35), CONCEPT, outcome, hours=18.0),
        Fault("concept-segment", "truth", _flip(0.6), CONCEPT, outcome, segment="site=south", hours=20.0),
        Fault("concept-version", "score", _permute_scores, CONCEPT, outcome, version="2", hours=18.0),
        Fault("label-definition", "truth", _more_positives, CONCEPT, outcome, hours=18.0),
        Fault("calibration", "truth", _less_likely, CONCEPT, outcome, hours=18.0),
        Fault("sharpened", "score", _sharpen, DRIFT | {"adwin"}, _of("score"), version="2"),
        Fault("score-bias", "score", _score_bias, DRIFT | {"adwin"}, _of("score"), version="2"),
        Fault("collapse", "score", _collapse, frozenset({"output_collapse"}), _of("score"), version="2"),
        Fault("latency", "latency", _slow, frozenset({"latency_over_slo"}), _of("latency_ms")),
        Fault("latency-version", "latency", _slow, frozenset({"latency_over_slo"}), _of("latency_ms"), version="2"),
        Fault("segment-vanishes", "traffic", _vanish, frozenset({"traffic_share"}), None, segment="site=west"),
        Fault("segment-trebles", "traffic", _treble, frozenset({"traffic_share"}), None, segment="site=west"),
    ]


CATALOGUE = {fault.name: fault for fault in _catalogue()}


def play(faults: list[Fault], shape: Shape, rng: np.random.Generator) -> Rows:
    """A log's rows with the faults in them."""
    rows = traffic(rng, shape)

    def layer(name: Layer) -> None:
        for fault in faults:
            if fault.layer == name:
                fault.act(rows, fault.mask(rows), rng)

    layer("traffic")
    rows.features = WORLD.features(rng, rows.segments)
    move(shape.world, rows.time, rows.customers, rows.segments, rows.features, rng)
    layer("world")
    rows.logit = WORLD.logit(rows.features)
    rows.label = (rng.random(len(rows.time)) < sigmoid(rows.logit)).astype(np.float64)
    layer("pipeline")
    rows.score = sigmoid(WORLD.logit(rows.features) + rng.normal(0.0, 0.3, len(rows.time)))
    layer("record")
    layer("score")
    layer("truth")
    layer("latency")
    return rows
