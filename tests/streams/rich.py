"""A model whose service publishes everything it may: rows as a frame, and the log of them through the backtest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from leadline.config import Config, Model
from streams.backtest.backtest import Backtest
from streams.baselines.reference_files import build_reference
from streams.core.stage import Record
from streams.counting.figure import Figure
from streams.counting.references import Reference
from streams.figures.figures import figures
from streams.judge.incidents import Where

START = 1_780_000_000.0
FEATURES = ("age", "stay", "rate", "dose")
RUNTIME = {"python": "3.12", "numpy": "2.1.0", "torch": "2.5"}
DIMENSIONS = 16


def rows_of(
    seed: int, n: int, change: Callable[[pd.DataFrame, np.random.Generator], None] | None = None
) -> pd.DataFrame:
    """Clean rows; `change` spoils some of them in place. Vectors stand in column `vector`."""
    rng = np.random.default_rng(seed)
    age = rng.normal(60, 12, n)
    rate = rng.normal(80, 9, n)
    frame = pd.DataFrame(
        {
            "age": age.round(3),
            "stay": rng.gamma(2.0, 2.0, n).round(2),
            "rate": rate.round(3),
            "dose": (0.5 * age + 0.3 * rate + rng.normal(0, 2, n)).round(3),
            "site": rng.choice(["north", "south"], n, p=[0.6, 0.4]),
            "score": (1 / (1 + np.exp(-((age - 60) / 10 + rng.normal(0, 0.6, n))))).round(6),
            "version": rng.choice(["1", "2"], n),
            "latency_ms": rng.lognormal(3, 0.6, n).round(4),
            "cpu_s": rng.gamma(4.0, 0.01, n).round(6),
            "ram_mb": rng.normal(700, 30, n).round(2),
            "layer_mean": rng.normal(0.1, 0.02, n).round(6),
            "layer_std": rng.normal(1.0, 0.05, n).round(6),
            "has_nan": False,
            "has_inf": False,
            "pipeline": "p1",
            "numpy": RUNTIME["numpy"],
        }
    )
    frame["confidence"] = np.maximum(frame["score"], 1 - frame["score"]).round(6)
    frame["vector"] = list(rng.normal(0, 1, (n, DIMENSIONS)).round(5))
    if change is not None:
        change(frame, rng)
    return frame


def events_of(frame: pd.DataFrame, every_s: float = 0.5, start: float = START) -> Iterator[tuple[str, Record]]:
    """One prediction a row."""
    for at, row in enumerate(frame.to_dict("records")):
        event = {
            "request_id": f"r{start:.0f}-{at}",
            "model_id": "m",
            "model_version": row["version"],
            "timestamp": start + at * every_s,
            "score": row["score"],
            "features": {name: row[name] for name in FEATURES if name in row and row[name] is not None},
            "segments": {"site": row["site"]},
            "latency_ms": row["latency_ms"],
            "confidence": row["confidence"],
            "resources": {"cpu_s": row["cpu_s"], "ram_mb": row["ram_mb"], "unknown": 1.0},
            "embedding": row["vector"] if isinstance(row["vector"], float) else row["vector"].tolist(),
            "probes": {
                "dense": {
                    "mean": row["layer_mean"],
                    "std": row["layer_std"],
                    "has_nan": bool(row["has_nan"]),
                    "has_inf": bool(row["has_inf"]),
                }
            },
            "pipeline_fingerprint": row["pipeline"],
            "runtime": {**RUNTIME, "numpy": row["numpy"]},
        }
        event["features"].update(row.get("more") or {})
        for path in row.get("without") or ():
            field, _, name = path.partition(".")
            del (event[field] if name else event)[name or field]
        yield "predictions", Record(at, event["request_id"].encode(), json.dumps(event).encode(), event["timestamp"])


def reference_columns(frame: pd.DataFrame, *, optional: bool) -> dict[str, list[Any]]:
    """The columns of training rows; with `optional` also what services publish beside features and score."""
    columns = {name: frame[name].tolist() for name in (*FEATURES, "score")}
    columns["segment__site"] = frame["site"].tolist()
    if optional:
        columns |= {
            "embedding_norm": np.linalg.norm(np.stack(frame["vector"]), axis=1).tolist(),
            "latency_ms": frame["latency_ms"].tolist(),
            "confidence": frame["confidence"].tolist(),
            "resource__cpu_s": frame["cpu_s"].tolist(),
            "resource__ram_mb": frame["ram_mb"].tolist(),
            "probe__dense__mean": frame["layer_mean"].tolist(),
            "probe__dense__std": frame["layer_std"].tolist(),
            "pipeline_fingerprint": frame["pipeline"].tolist(),
            "runtime__python": [RUNTIME["python"]] * len(frame),
            "runtime__numpy": frame["numpy"].tolist(),
            "runtime__torch": [float(RUNTIME["torch"])] * len(frame),  # as CSV reads it
        }
    return columns


def configuration(**model: Any) -> Config:
    model = {"probes": ["dense"], "resources": ["cpu_s", "ram_mb"], "learn_rows": 1000, **model}
    return Config(models={"m": Model.model_validate(model)}, join={"max_future": 1e9})


class Played:
    """A log through observer and judge, and what is known of it then."""

    def __init__(self, config: Config, reference: Reference | None, *logs: Iterator[tuple[str, Record]]) -> None:
        self.backtest = Backtest(config)
        if reference is not None:
            model = config.model_for("m")
            known = reference.keeping(model.probes, model.resources)
            self.backtest.book._known["m"] = known
        for log in logs:
            self.backtest.feed(log)
        self.judge = self.backtest.judge.models["m"]
        self.incidents = sorted([*self.judge.resolved, *self.judge.incidents], key=lambda item: item.opened_at)
        self.alerts = self.backtest.alerts

    def figures(self, segment: str | None = None, version: str | None = None) -> dict[tuple[str, str | None], Figure]:
        """Of the whole log, by (signal, subject)."""
        vector = self.judge.cells.days.total(Where(version, "live", segment))
        found = figures(self.judge.reference, vector, self.judge.live.vector(segment))
        return {(figure.signal, figure.subject): figure for figure in found}

    def fired(self) -> set[tuple[str, str | None]]:
        """Every (signal, subject) that any incident holds."""
        return {row.finding.key for incident in self.incidents for row in incident.evidence}


def known(optional: bool = True, seed: int = 1, n: int = 3000) -> Reference:
    return build_reference(reference_columns(rows_of(seed, n), optional=optional))
