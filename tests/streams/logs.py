"""Recorded logs made for tests, and what is true of them by pandas and scikit-learn."""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from sklearn import metrics

DAY_S = 86_400
START = 1_735_689_600.0 - 6 * 3600  # not at midnight: days are cut within the log
BAD_LINES = {
    "malformed_json": '{"request_id": "x"',
    "not_finite": '{"request_id":"x","model_id":"risk","model_version":"1","timestamp":1735689600,"score":NaN}',
    "duplicate_key": '{"request_id":"x","model_id":"risk","model_version":"1","timestamp":1735689600,"score":0.5,"score":0.6}',
    "missing_field": '{"request_id":"x","model_id":"risk","timestamp":1735689600,"score":0.5}',
    "timestamp_in_milliseconds": '{"request_id":"x","model_id":"risk","model_version":"1","timestamp":1735689600000,"score":0.5}',
    "not_an_object": "[1, 2, 3]",
    "empty_id": '{"request_id":"","model_id":"risk","model_version":"1","timestamp":1735689600,"score":0.5}',
}


@dataclass
class Log:
    """Lines in order of arrival; `bad` counts what is to be rejected, by reason."""

    predictions: list[str]
    labels: list[str]
    bad: dict[str, int]

    def write(self, folder: Path, suffix: str = ".jsonl.gz") -> tuple[Path, Path]:
        paths = folder / f"predictions{suffix}", folder / f"labels{suffix}"
        for path, lines in zip(paths, (self.predictions, self.labels), strict=True):
            data = "".join(f"{line}\n" for line in lines).encode()
            path.write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
        return paths


def rows_of(rng: np.random.Generator, n: int, shift: float = 0.0) -> dict[str, Any]:
    """Features, a score that depends on them, and a label that depends on the score."""
    age = rng.normal(60 + shift, 12, n)
    stay = np.round(rng.gamma(2.0, 2.0, n))
    ward = rng.choice(["a", "b", "c", "d"], n, p=[0.5, 0.3, 0.15, 0.05])
    score = 1 / (1 + np.exp(-((age - 60) / 10 + 0.3 * (stay - 4) + rng.normal(0, 0.6, n))))
    return {
        "age": age.round(3),
        "stay": stay,
        "ward": ward,
        "site": rng.choice(["north", "south"], n, p=[0.7, 0.3]),
        "score": score.round(6),
        "label": (rng.random(n) < score).astype(int),
    }


def write_reference(path: Path, seed: int = 1, n: int = 1500) -> pd.DataFrame:
    """Training rows as CSV; one cell in fifty of `age` is empty."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rows_of(rng, n)).rename(columns={"site": "segment__site"})
    frame.loc[rng.random(n) < 0.02, "age"] = np.nan
    # Else it were learned from the first panes of arrival, and which rows these hold depends on how partitions took turns.
    frame["latency_ms"] = rng.gamma(3.0, 5.0, n).round(3)
    frame.to_csv(path, index=False, quoting=csv.QUOTE_MINIMAL)
    return frame


def make_log(
    seed: int = 2,
    n: int = 1500,
    *,
    stamped: bool = True,
    bad: bool = True,
    every_s: float = 120.0,
    fault: tuple[float, float] = (2 / 3, 1.0),
    new_wards: bool = True,
) -> Log:
    """Two versions, delays of minutes to hours, labels early, late, corrected, repeated, for nobody; duplicates and bad lines.

    Between the two shares of the log that `fault` gives the patients are older: that has to be seen.
    """
    rng = np.random.default_rng(seed)
    columns = rows_of(rng, n)
    late = rows_of(rng, n, 15.0)
    predictions: list[tuple[float, str]] = []
    labels: list[tuple[float, str]] = []

    def add(to: list[tuple[float, str]], arrived: float, event: Mapping[str, Any]) -> None:
        to.append((arrived, json.dumps({**event, **({"arrived_at": round(arrived, 3)} if stamped else {})})))

    for at in range(n):
        source = late if fault[0] * n < at <= fault[1] * n else columns
        when = round(START + at * every_s + float(rng.random()) * 30, 3)
        age = None if rng.random() < 0.05 else float(source["age"][at])
        event = {
            "request_id": f"q{at}",
            "model_id": "risk",
            "model_version": "1" if at < n // 2 else "2",
            "timestamp": when,
            "score": float(source["score"][at]),
            "features": {"age": age, "stay": float(source["stay"][at]), "ward": str(source["ward"][at])},
            "segments": {"site": str(source["site"][at])},
            "latency_ms": round(float(rng.gamma(3.0, 5.0)), 3),
        }
        if rng.random() < 0.02 and new_wards:
            event["features"]["ward"] = "z"
        if rng.random() < 0.3:
            event["prediction"] = bool(event["score"] >= 0.4)
        if at % 5 == 0:
            event["timestamp"] = pd.Timestamp(when, unit="s", tz="UTC").isoformat()
        add(predictions, when + 0.2 + float(rng.random()), event)
        if rng.random() < 0.01:
            add(predictions, when + 900, {**event, "score": 0.123})
        kind = rng.random()
        if kind < 0.08:
            continue
        delay = (
            8 * 3600.0 + 3600
            if kind < 0.12
            else -60.0
            if kind < 0.15
            else -400.0
            if kind < 0.16
            else rng.exponential(2000)
        )
        stamp = round(when + delay, 3)
        label = {"request_id": f"q{at}", "label": int(source["label"][at]), "timestamp": stamp}
        add(labels, stamp + 0.3, label)
        if kind > 0.97:
            add(labels, stamp + 500, {**label, "label": 1 - label["label"], "timestamp": stamp + 400})
        elif kind > 0.95:
            add(labels, stamp + 50, label)
    for at in range(5):
        add(labels, START + at * 5000, {"request_id": f"nobody{at}", "label": 1, "timestamp": START + at * 5000})
    counted: dict[str, int] = {}
    if bad:
        for at, (reason, line) in enumerate(BAD_LINES.items()):
            for k in range(at % 3 + 1):
                (labels if reason in ("malformed_json", "not_an_object") else predictions).append(
                    (START + 7000 * at + k, line)
                )
                counted[reason] = counted.get(reason, 0) + 1
    order = [[line for _, line in sorted(lines, key=lambda item: item[0])] for lines in (predictions, labels)]
    return Log(order[0], order[1], counted)


# -- what is true ----------------------------------------------------------------------------------------------------------


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else pd.Timestamp(value).timestamp()


def _events(lines: Sequence[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("request_id") not in ("x", "", None):
            yield {**event, "timestamp": _seconds(event["timestamp"])}


@dataclass
class Truth:
    """A row a request, with its final label; and the counts."""

    frame: pd.DataFrame
    counts: dict[str, int]


def truth_of(predictions: Sequence[str], labels: Sequence[str], window_s: float, tolerance_s: float) -> Truth:
    """The join, by pandas. Labels are in order of arrival: the last one in time counts."""
    every = pd.DataFrame(list(_events(predictions)))
    frame = every.drop_duplicates("request_id", keep="first").set_index("request_id", drop=False)
    told = pd.DataFrame(list(_events(labels)))
    told["delay"] = told["timestamp"] - told["request_id"].map(frame["timestamp"])
    in_time = told[(told["delay"] >= -tolerance_s) & (told["delay"] <= window_s)]
    final = in_time.drop_duplicates("request_id", keep="last").set_index("request_id")
    frame = frame.assign(
        label=final["label"].reindex(frame.index).astype(float), day=(frame["timestamp"] // DAY_S).astype(int)
    )
    late = set(told[told["delay"] > window_s]["request_id"]) - set(final.index)
    changed = in_time.groupby("request_id")["label"].apply(lambda column: int((column.diff().fillna(0) != 0).any()))
    repeated = in_time.groupby("request_id")["label"].apply(lambda column: int((column.diff() == 0).sum()))
    counts = {
        "predictions": len(frame),
        "labels": len(told),
        "joined": len(final),
        "late": len(late),
        "unlabelled": len(frame) - len(final) - len(late),
        "orphan": int(told[told["delay"].isna()]["request_id"].nunique()),
        "duplicate_predictions": len(every) - len(frame),
        "revised": int(changed.sum()),
        "duplicate_labels": int(repeated.sum()),
        "late_labels": int((told["delay"] > window_s).sum()),
        "too_early": int(told[told["delay"] < -tolerance_s]["request_id"].nunique()),
    }
    return Truth(frame, counts)


def outcome_figures(frame: pd.DataFrame, threshold: float = 0.5) -> dict[str, float]:
    """Figures of joined rows, by scikit-learn."""
    joined = frame[frame["label"].notna()]
    figures = {"label_coverage": len(joined) / len(frame)} if len(frame) else {}
    if joined.empty:
        return figures
    y, score = joined["label"].to_numpy(), joined["score"].to_numpy(dtype=float)
    given = joined["prediction"] if "prediction" in joined else pd.Series(np.nan, joined.index)
    chosen = np.where(given.isna(), score >= threshold, given.fillna(0).astype(float)).astype(float)
    figures |= {
        "accuracy": metrics.accuracy_score(y, chosen),
        "log_loss": metrics.log_loss(y, score, labels=[0, 1]),
        "brier": float(np.mean((score - y) ** 2)),
        "label_rate": float(y.mean()),
        "ece": _ece(score, y),
    }
    if chosen.sum():
        figures["precision"] = metrics.precision_score(y, chosen)
    if y.sum():
        figures["recall"] = metrics.recall_score(y, chosen)
        figures["f1"] = metrics.f1_score(y, chosen)
        figures["false_negative_rate"] = 1 - figures["recall"]
    if 0 < y.sum() < len(y):
        figures["auc"] = metrics.roc_auc_score(y, score)
        figures["average_precision"] = metrics.average_precision_score(y, score)
    return figures


def _ece(score: np.ndarray, y: np.ndarray) -> float:
    tenth = np.minimum((score * 10).astype(int), 9)
    return float(sum(abs(score[tenth == k].sum() - y[tenth == k].sum()) for k in range(10)) / len(y))


def data_figures(frame: pd.DataFrame, name: str, base: pd.Series) -> dict[str, float]:
    """Figures of one numeric feature, by numpy and scipy, against the reference's values."""
    values = pd.Series([row.get(name) for row in frame["features"]], dtype=float)
    known = values.dropna().to_numpy()
    figures = {"null_rate": float(values.isna().mean())}
    if known.size:
        figures |= {
            "mean": float(known.mean()),
            "standard_deviation": float(known.std()),
            "mean_shift": abs(float(known.mean()) - float(base.mean())) / float(base.dropna().std(ddof=0)),
            "ks": float(stats.ks_2samp(known, base.dropna().to_numpy()).statistic),
            "psi": psi_of(values, base),
        }
    return figures


def psi_of(values: pd.Series, base: pd.Series) -> float:
    """Over the reference's deciles, open at both ends, and the nulls; 0.5 added to every count."""
    edges = np.quantile(base.dropna(), np.arange(1, 10) / 10)

    def shares(column: pd.Series, other: pd.Series) -> np.ndarray:
        def counts(x: pd.Series) -> np.ndarray:
            placed = np.searchsorted(edges, x.dropna().to_numpy(), side="right")
            return np.append(np.bincount(placed, minlength=10), x.isna().sum()).astype(float)

        used = (counts(column) > 0) | (counts(other) > 0)
        added = counts(column)[used] + 0.5
        return added / added.sum()

    a, b = shares(values, base), shares(base, values)
    return float(np.sum((a - b) * np.log(a / b)))


def is_close(value: float | None, expected: float) -> bool:
    return value is not None and math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-9)
