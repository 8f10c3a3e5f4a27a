"""Recorded logs of a made-up hospital model, clean but for the faults one asks for: traffic, features, scores, labels with their delays.

The world (features, truth) and the service (what is published, scored, timed) are apart, because faults are: a new population changes
the world and the model is still right about it; a broken pipeline changes what the model sees and the world stays as it was.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.incident_worlds import gather, move

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

START = 1_735_689_600.0  # 2025-01-01 UTC
DAY_S = 86_400.0
SITES = {"north": 0.5, "south": 0.35, "west": 0.15}
TIERS = {"a": 0.4, "b": 0.3, "c": 0.2, "d": 0.08, "e": 0.02}
NUMERIC = ("age", "pressure", "glucose", "lactate", "cost", "visits", "stays", "ratio", "urgent")
CATEGORICAL = {"department": 3, "insurer": 8, "admission": 5, "code": 40}
NULLS = {"lactate": 0.08, "glucose": 0.03, "insurer": 0.02}
MODEL = "readmission"


class Shape(NamedTuple):
    """Size and pace of a log."""

    events: int = 18_000
    seconds: float = 10 * DAY_S
    versions: tuple[tuple[str, float], ...] = (("1", 0.6), ("2", 0.4))
    label_median_s: float = 3600.0
    delay_window_s: float = 12 * 3600.0
    world: str = "iid"
    """Of `benchmarks.incident_worlds`: how its rows depend on each other."""


@dataclass
class Rows:
    """Columns of one log. A feature is float64 (NaN is null) or an object array (None is null)."""

    time: Floats
    version: npt.NDArray[np.str_]
    segments: dict[str, npt.NDArray[np.str_]]
    features: dict[str, npt.NDArray[Any]]
    logit: Floats
    score: Floats
    label: Floats
    latency_ms: Floats
    names: dict[str, list[tuple[Mask, str]]] = field(default_factory=dict)
    """feature to (rows, the name it is published under)."""
    kept: Mask = field(default_factory=lambda: np.empty(0, dtype=np.bool_))
    customers: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Whose batch a row belongs to; -1: nobody's."""


def _zipf(size: int) -> Floats:
    weights = 1.0 / np.arange(1, size + 1) ** 1.1
    return np.asarray(weights / weights.sum(), dtype=np.float64)


class World:
    """Draws rows. The population is the same for every seed: a seed draws rows of it."""

    def __init__(self) -> None:
        rng = np.random.default_rng(7)
        self.shares = {name: _zipf(size) for name, size in CATEGORICAL.items()}
        self.weights = {name: rng.normal(0.0, 0.5, size) for name, size in CATEGORICAL.items()}

    def features(
        self, rng: np.random.Generator, segments: dict[str, npt.NDArray[np.str_]]
    ) -> dict[str, npt.NDArray[Any]]:
        site, tier = segments["site"], segments["tier"]
        n = len(site)
        drawn: dict[str, npt.NDArray[Any]] = {
            "age": rng.normal(60.0, 15.0, n) + 6.0 * (site == "west"),
            "pressure": rng.normal(128.0, 17.0, n),
            "glucose": np.where(rng.random(n) < 0.3, rng.normal(165.0, 30.0, n), rng.normal(98.0, 12.0, n)),
            "lactate": rng.lognormal(0.3, 0.6, n) * (1.0 + 0.25 * (tier == "d")),
            "cost": 200.0 * (1.0 + rng.pareto(2.5, n)),
            "visits": (rng.poisson(2.5, n) * (rng.random(n) < 0.4)).astype(np.float64),
            "stays": np.minimum(rng.geometric(0.25, n), 30).astype(np.float64),
            "ratio": rng.beta(2.0, 3.0, n),
            "urgent": (rng.random(n) < 0.35 + 0.1 * (tier == "c")).astype(np.float64),
        }
        for name, size in CATEGORICAL.items():
            drawn[name] = np.array([f"{name[0]}{at:02d}" for at in range(size)], dtype=object)[
                rng.choice(size, n, p=self.shares[name])
            ]
        for name, share in NULLS.items():
            drawn[name][rng.random(n) < share] = None if drawn[name].dtype == object else np.nan
        return drawn

    def logit(self, features: dict[str, npt.NDArray[Any]]) -> Floats:
        """Log-odds of the truth; inputs saturate, as a tree's do, and what is no number counts as usual."""

        def z(name: str, center: float, scale: float) -> Floats:
            return np.nan_to_num(np.clip((numbers(features[name]) - center) / scale, -3.0, 3.0))

        total = (
            1.0 * z("age", 60, 15)
            + 0.7 * z("pressure", 128, 17)
            + 0.6 * z("glucose", 118, 36)
            + 0.8 * z("lactate", 1.6, 1.0)
        )
        total = (
            total
            + 0.5 * z("visits", 1.0, 1.6)
            + 0.4 * z("stays", 4, 3.4)
            + 0.3 * z("ratio", 0.4, 0.2) * z("age", 60, 15)
        )
        for name, weights in self.weights.items():
            index = {f"{name[0]}{at:02d}": weight for at, weight in enumerate(weights.tolist())}
            total = total + np.array(
                [index.get(value, 0.0) if isinstance(value, str) else 0.0 for value in features[name]]
            )
        return np.asarray(total - 0.9, dtype=np.float64)


WORLD = World()


def numbers(column: npt.NDArray[Any]) -> Floats:
    """The column as numbers; NaN for what is none."""
    if column.dtype != object:
        return np.asarray(column, dtype=np.float64)
    return np.array([value if isinstance(value, float) else np.nan for value in column], dtype=np.float64)


def sigmoid(logit: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-logit)), dtype=np.float64)


def _times(rng: np.random.Generator, shape: Shape) -> Floats:
    """More by day than by night: thirty per cent of the rate."""
    grid = np.linspace(0.0, shape.seconds, 20_000)
    mass = np.cumsum(1.0 + 0.3 * np.sin(2 * np.pi * grid / DAY_S))
    return START + np.sort(np.interp(rng.random(shape.events) * mass[-1], mass, grid))


def traffic(rng: np.random.Generator, shape: Shape) -> Rows:
    """When, by which version and of which segments; the rest is drawn once faults had their say about the traffic."""
    time = _times(rng, shape)
    n = len(time)
    customers = np.full(n, -1, dtype=np.int64)
    if shape.world == "bursts":
        time, customers = gather(time, rng)
    names, shares = zip(*shape.versions, strict=True)
    segments = {
        "site": rng.choice(list(SITES), n, p=list(SITES.values())),
        "tier": rng.choice(list(TIERS), n, p=list(TIERS.values())),
    }
    nothing = np.empty(0)
    rows = Rows(
        time, rng.choice(names, n, p=shares), segments, {}, nothing, nothing, nothing, rng.lognormal(3.2, 0.35, n)
    )
    rows.kept, rows.customers = np.ones(n, dtype=np.bool_), customers
    return rows


def write_reference(path: Path, rng: np.random.Generator, n: int = 3000, world: str = "iid") -> None:
    """Hold-out rows of ten days as CSV, in order of time: features, segments, score, label."""
    rows = traffic(rng, Shape(events=n, world=world))
    features = WORLD.features(rng, rows.segments)
    move(world, rows.time, rows.customers, rows.segments, features, rng)
    logit = WORLD.logit(features)
    label = (rng.random(n) < sigmoid(logit)).astype(int)
    score = sigmoid(logit + rng.normal(0.0, 0.3, n))
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow([*features, *(f"segment__{name}" for name in rows.segments), "score", "label"])
        columns = [_cells(column) for column in features.values()] + [
            column.tolist() for column in rows.segments.values()
        ]
        out.writerows(zip(*columns, [f"{value:.6f}" for value in score], label.tolist(), strict=True))


def _cells(column: npt.NDArray[Any]) -> list[Any]:
    return ["" if value is None or value != value else value for value in column.tolist()]


def write_predictions(path: Path, rows: Rows, rng: np.random.Generator) -> None:
    encode = msgspec.json.Encoder().encode
    at = np.flatnonzero(rows.kept)
    columns = {
        name: [None if value is None or value != value else value for value in column.tolist()]
        for name, column in rows.features.items()
    }
    published = {name: np.full(len(rows.time), name, dtype=object) for name in columns}
    for name, changes in rows.names.items():
        for mask, other in changes:
            published[name][mask] = other
    arrived = rows.time + rng.exponential(0.3, len(rows.time))
    lines = []
    for row in at[np.argsort(arrived[at], kind="stable")].tolist():
        event = {
            "request_id": f"r{row:07d}",
            "model_id": MODEL,
            "model_version": str(rows.version[row]),
            "timestamp": round(float(rows.time[row]), 3),
            "score": round(float(rows.score[row]), 6),
            "features": {published[name][row]: column[row] for name, column in columns.items()},
            "segments": {name: str(values[row]) for name, values in rows.segments.items()},
            "latency_ms": round(float(rows.latency_ms[row]), 2),
            "arrived_at": round(float(arrived[row]), 3),
        }
        lines.append(encode(event))
    path.write_bytes(b"\n".join(lines) + b"\n")


def write_labels(path: Path, rows: Rows, rng: np.random.Generator, shape: Shape) -> None:
    """6 % never come, 2 % after the window, 1 % stamped before their prediction; some come twice, some are corrected, some are nobody's."""
    n = len(rows.time)
    delay = rng.lognormal(np.log(shape.label_median_s), 0.9, n)
    fate = rng.random(n)
    delay = np.where(
        fate < 0.02, shape.delay_window_s * (1.05 + rng.random(n)), np.minimum(delay, 0.98 * shape.delay_window_s)
    )
    delay = np.where((fate >= 0.02) & (fate < 0.03), -rng.random(n) * 60.0, delay)
    given = rows.kept & (fate < 0.94)
    entries: list[tuple[float, str, float, float]] = []
    for row in np.flatnonzero(given).tolist():
        stamp = float(rows.time[row] + delay[row])
        name, label = f"r{row:07d}", float(rows.label[row])
        entries.append(
            (
                max(stamp, float(rows.time[row]) + 0.5 if delay[row] < 0 else stamp) + float(rng.exponential(0.3)),
                name,
                label,
                stamp,
            )
        )
        again = rng.random()
        if again < 0.015:
            later = stamp + float(rng.exponential(600.0))
            entries.append((later + 0.2, name, label if again < 0.009 else 1.0 - label, later))
    for stray in range(n // 200):
        stamp = float(rng.uniform(rows.time[0], rows.time[-1]))
        entries.append((stamp + 0.2, f"stray{stray:05d}", float(rng.integers(2)), stamp))
    encode = msgspec.json.Encoder().encode
    lines = [
        encode({"request_id": name, "label": int(label), "timestamp": round(stamp, 3), "arrived_at": round(arrived, 3)})
        for arrived, name, label, stamp in sorted(entries)
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")


def mask_of(rows: Rows, start: float, end: float, version: str | None, segment: str | None) -> Mask:
    """Rows of a scope and time."""
    mask = (rows.time >= start) & (rows.time < end)
    if version is not None:
        mask &= rows.version == version
    if segment is not None:
        name, _, value = segment.partition("=")
        mask &= rows.segments[name] == value
    return np.asarray(mask, dtype=np.bool_)
