"""Outcome figures of raw rows by scikit-learn, numpy and pandas: what the counts must say, for tests."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics
from sklearn.isotonic import IsotonicRegression

DAY_S = 86_400
Named = dict[tuple[str, str | None], float]


@dataclass
class Account:
    """The join, told request by request from events in order of arrival."""

    window_s: float
    tolerance_s: float
    clock: float = -math.inf
    predictions: dict[str, dict[str, Any]] = field(default_factory=dict)
    waiting: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def take(self, source: str, event: Mapping[str, Any]) -> None:
        self.clock = max(self.clock, float(event["timestamp"]))
        name = event["request_id"]
        if source == "labels":
            if name in self.predictions:
                self._label(self.predictions[name], event)
            else:
                self.waiting.setdefault(name, []).append(dict(event))
        elif name not in self.predictions:
            row = self.predictions[name] = {**event, "label": None, "values": {}, "complete": None, "delay": None}
            for label in self.waiting.pop(name, []):
                self._label(row, label)

    def _label(self, row: dict[str, Any], label: Mapping[str, Any]) -> None:
        delay = label["timestamp"] - row["timestamp"]
        if not -self.tolerance_s <= delay <= self.window_s:
            return
        if row["complete"] is None:
            row["complete"], row["delay"] = self.clock, delay
        row["label"] = label["label"]
        row["values"] = {**row["values"], **(label.get("values") or {})}

    def frame(self) -> pd.DataFrame:
        """A row a request; `day` of the prediction, `complete_day` of the pair."""
        frame = pd.DataFrame(list(self.predictions.values()))
        frame["day"] = (frame["timestamp"].astype(float) // DAY_S).astype(int)
        frame["complete_day"] = frame["complete"].astype(float) // DAY_S
        return frame


def windows(frame: pd.DataFrame, axis: str) -> list[tuple[float | None, pd.DataFrame]]:
    """(start of the window, its rows): the whole and each day, by either axis."""
    by = "day" if axis == "cohort" else "complete_day"
    whole = frame if axis == "cohort" else frame[frame["complete"].notna()]
    days = [(float(day * DAY_S), rows) for day, rows in whole.groupby(by)]
    return [(None, whole), *days]


def binary(rows: pd.DataFrame, threshold: float = 0.5) -> Named:
    """Of joined rows; what no row bears on is left out."""
    joined = rows[rows["label"].notna()]
    if joined.empty:
        return {}
    y, score = joined["label"].to_numpy(dtype=float), joined["score"].to_numpy(dtype=float)
    chosen = chosen_of(joined, threshold)
    found: Named = {
        ("accuracy", None): metrics.accuracy_score(y, chosen),
        ("log_loss", None): metrics.log_loss(y, score, labels=[0, 1]),
        ("brier", None): float(np.mean((score - y) ** 2)),
        ("label_rate", "label"): float(y.mean()),
        ("ece", None): ece(score, y),
    }
    if chosen.sum():
        found["precision", None] = metrics.precision_score(y, chosen, zero_division=0)
    if y.sum():
        found["recall", None] = metrics.recall_score(y, chosen)
        found["false_negative_rate", None] = 1 - found["recall", None]
    if y.sum() + chosen.sum():
        found["f1", None] = metrics.f1_score(y, chosen, zero_division=0)
    if (y == 0).any():
        found["false_positive_rate", None] = float(chosen[y == 0].mean())
    if 0 < y.sum() < len(y):
        found["auc", None] = metrics.roc_auc_score(y, score)
        found["average_precision", None] = metrics.average_precision_score(y, score)
    return found


def chosen_of(rows: pd.DataFrame, threshold: float = 0.5) -> np.ndarray:
    given = rows["prediction"] if "prediction" in rows else pd.Series(np.nan, rows.index)
    by_score = (rows["score"].astype(float) >= threshold).astype(float)
    return np.where(given.isna(), by_score, given.astype(float).fillna(0.0)).astype(float)


def ece(promise: np.ndarray, hit: np.ndarray) -> float:
    tenth = np.minimum((promise * 10).astype(int), 9)
    return float(sum(abs(promise[tenth == k].sum() - hit[tenth == k].sum()) for k in range(10)) / len(hit))


@dataclass
class Promise:
    """P(label = 1 | score), by scikit-learn's isotonic regression over the reference's bins of the score."""

    edges: Sequence[float]
    base: pd.DataFrame

    def __post_init__(self) -> None:
        bins = self.bins(self.base["score"].to_numpy())
        count = len(self.edges) + 1
        rows = np.bincount(bins, minlength=count).astype(float)
        hits = np.bincount(bins, weights=self.base["label"].to_numpy(dtype=float), minlength=count)
        seen = np.flatnonzero(rows)
        fit = IsotonicRegression().fit_transform(seen, hits[seen] / rows[seen], sample_weight=rows[seen])
        self.share = np.interp(np.arange(count), seen, fit)

    def bins(self, score: np.ndarray) -> np.ndarray:
        return np.searchsorted(np.asarray(self.edges), score, side="right")

    def figures(self, rows: pd.DataFrame) -> Named:
        """Estimates of all rows, and realised minus estimated of the joined ones."""
        score, chosen = rows["score"].to_numpy(dtype=float), chosen_of(rows)
        p = self.share[self.bins(score)]
        tp, fn = float(p[chosen == 1].sum()), float(p[chosen == 0].sum())
        fp, tn = float((chosen == 1).sum()) - tp, float((chosen == 0).sum()) - fn
        found: Named = {("estimated_accuracy", None): (tp + tn) / len(p)}
        if tp + fp:
            found["estimated_precision", None] = tp / (tp + fp)
        if tp + fn:
            found["estimated_recall", None] = tp / (tp + fn)
            found["estimated_false_negative_rate", None] = fn / (tp + fn)
        if tp + fp + fn:
            found["estimated_f1", None] = 2 * tp / (2 * tp + fp + fn)
        if 0 < p.sum() < len(p):
            found["estimated_auc", None] = self._auc(score)
        joined = rows[rows["label"].notna()]
        if len(joined):
            y, q = joined["label"].to_numpy(dtype=float), self.share[self.bins(joined["score"].to_numpy(dtype=float))]
            given = chosen_of(joined)
            found["realised_minus_estimated", "label"] = float(y.mean() - q.mean())
            right = float((given == y).mean())
            found["realised_minus_estimated", "accuracy"] = right - float(np.where(given == 1, q, 1 - q).mean())
        return found

    def _auc(self, score: np.ndarray) -> float:
        bins = self.bins(score)
        p = self.share[bins]
        y = np.repeat([1, 0], len(p))
        return float(metrics.roc_auc_score(y, np.tile(bins, 2), sample_weight=np.concatenate([p, 1 - p])))


def classes(rows: pd.DataFrame, names: Sequence[str]) -> Named:
    """Of joined rows of a model of many classes; labels may be of a class that is not among the names."""
    joined = rows[rows["label"].notna()]
    if joined.empty:
        return {}
    table = np.array([[row.get(name, 0.0) for name in names] for row in joined["score"]])
    y = joined["label"].to_numpy()
    best = np.array([names[at] for at in table.argmax(axis=1)])
    one_hot = (y[:, None] == np.array(names)).astype(float)
    truth = np.clip((table * one_hot).sum(axis=1), np.finfo(float).eps, 1 - np.finfo(float).eps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: Named = {
            ("accuracy", None): metrics.accuracy_score(y, best),
            ("macro_f1", None): metrics.f1_score(y, best, average="macro", zero_division=0),
            ("log_loss", None): float(-np.log(truth).mean()),
            ("brier", None): float(((table - one_hot) ** 2).sum(axis=1).mean()),
            ("ece", None): ece(table.max(axis=1), (y == best).astype(float)),
        }
    each = []
    for at, name in enumerate(names):
        true, said = y == name, best == name
        found["label_rate", name] = float(true.mean())
        if said.any():
            found["precision", name] = metrics.precision_score(true, said, zero_division=0)
        if true.any():
            found["recall", name] = metrics.recall_score(true, said)
        if true.any() or said.any():
            found["f1", name] = metrics.f1_score(true, said, zero_division=0)
        if 0 < true.sum() < len(true):
            found["auc", name] = metrics.roc_auc_score(true, table[:, at])
            each.append(found["auc", name])
    if each:
        found["auc", None] = float(np.mean(each))
    return found


def values(rows: pd.DataFrame) -> Named:
    """Of joined rows of a regression."""
    joined = rows[rows["label"].notna()]
    if joined.empty:
        return {}
    y, p = joined["label"].to_numpy(dtype=float), joined["score"].to_numpy(dtype=float)
    found: Named = {
        ("mae", None): metrics.mean_absolute_error(y, p),
        ("rmse", None): metrics.root_mean_squared_error(y, p),
        ("bias", None): float(np.mean(p - y)),
    }
    if len(y) > 1 and np.ptp(y) > 0:
        found["r2", None] = metrics.r2_score(y, p)
    return found


def shared(rows: pd.DataFrame, business: Sequence[str]) -> Named:
    """Business means of the joined rows."""
    found: Named = {}
    for name in business:
        stated = [given[name] for given in rows[rows["label"].notna()]["values"] if name in given]
        if stated:
            found["business_mean", name] = float(np.mean(stated))
    return found
