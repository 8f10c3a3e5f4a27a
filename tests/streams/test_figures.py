"""Figures of regression and of many classes are those of scikit-learn, also after corrected labels."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from leadline.config import Config, Join, Model
from streams.backtest.backtest import Backtest
from streams.backtest.report import build_report, encode_report
from tests.streams.logs import DAY_S, START, Log

NOW = 1.79e9
CLASSES = ["low", "mid", "high"]


def report_of(folder: Path, log: Log, reference: pd.DataFrame | None, **model: Any) -> dict[str, Any]:
    path = None
    if reference is not None:
        path = folder / "reference.csv"
        reference.to_csv(path, index=False)
    backtest = Backtest(Config(join=Join(delay_window=3600.0), models={"*": Model(reference=path, **model)}))
    backtest.run(*log.write(folder, ".jsonl"), NOW)
    report: dict[str, Any] = json.loads(encode_report(build_report(backtest)))
    return report


def figure(report: dict[str, Any], signal: str, subject: str | None = None, start: float | None = None) -> Any:
    rows = [
        row
        for row in report["figures"]
        if (row["signal"], row["subject"], row["window_start"]) == (signal, subject, start)
        and (row["model_version"], row["segment"], row["axis"]) == (None, None, "cohort")
    ]
    (row,) = rows
    return row["value"]


def log_of(scores: list[Any], labels: list[Any], wrong_first: list[Any], every_s: float = 400.0) -> Log:
    """A label comes a minute after its prediction; every third one was another one first."""
    predictions, told = [], []
    for at, (score, label, wrong) in enumerate(zip(scores, labels, wrong_first, strict=True)):
        when = START + at * every_s
        event = {"request_id": f"q{at}", "model_id": "x", "model_version": "1", "timestamp": when, "score": score}
        predictions.append(json.dumps(event))
        said = [wrong, label] if at % 3 == 0 else [label]
        told += [
            json.dumps({"request_id": f"q{at}", "label": one, "timestamp": when + 60 + k}) for k, one in enumerate(said)
        ]
    return Log(predictions, told, {})


def windows(n: int, every_s: float = 400.0) -> Iterator[tuple[float | None, np.ndarray]]:
    days = ((START + np.arange(n) * every_s) // DAY_S).astype(int)
    yield None, np.ones(n, dtype=bool)
    for day in np.unique(days):
        yield float(day * DAY_S), days == day


@pytest.mark.parametrize("with_reference", [True, False])
def test_errors_of_a_regression_are_those_of_scikit_learn(tmp_path: Path, with_reference: bool) -> None:
    rng = np.random.default_rng(3)
    n = 600
    truth = rng.normal(1000.0, 200.0, n)
    score = truth + rng.normal(15.0, 50.0, n)
    base = pd.DataFrame({"score": score[:200], "label": truth[:200]})
    log = log_of(score.tolist(), truth.tolist(), (truth * 3).tolist())
    report = report_of(tmp_path, log, base if with_reference else None, task="regression")
    assert report["counts"]["revised"] == n // 3
    for start, rows in windows(n):
        y, p = truth[rows], score[rows]
        expected = {
            "mae": metrics.mean_absolute_error(y, p),
            "rmse": metrics.root_mean_squared_error(y, p),
            "bias": float(np.mean(p - y)),
            "r2": metrics.r2_score(y, p),
        }
        for signal, value in expected.items():
            assert figure(report, signal, None, start) == pytest.approx(value, rel=1e-9, abs=1e-9), (signal, start)


def shares(rng: np.random.Generator, n: int) -> np.ndarray:
    raw = rng.dirichlet([1.0, 1.5, 0.7], n).astype(np.float32).astype(float)
    return raw / raw.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("with_reference", [True, False])
def test_figures_of_many_classes_are_those_of_scikit_learn(tmp_path: Path, with_reference: bool) -> None:
    rng = np.random.default_rng(4)
    n = 600
    p = shares(rng, n)
    truth = np.array([rng.choice(3, p=row) for row in p])
    names = [CLASSES[at] for at in truth]
    base = pd.DataFrame({f"score__{name}": p[:200, at] for at, name in enumerate(CLASSES)} | {"label": names[:200]})
    scores = [dict(zip(CLASSES, row, strict=True)) for row in p.tolist()]
    log = log_of(scores, names, [CLASSES[(at + 1) % 3] for at in truth])
    report = report_of(tmp_path, log, base if with_reference else None)
    assert report["models"][0]["task"] == "multiclass"
    assert report["counts"]["revised"] == n // 3
    for start, rows in windows(n):
        y, chosen = truth[rows], p[rows].argmax(axis=1)
        assert figure(report, "accuracy", None, start) == pytest.approx(metrics.accuracy_score(y, chosen), rel=1e-9)
        assert figure(report, "macro_f1", None, start) == pytest.approx(
            metrics.f1_score(y, chosen, average="macro", labels=[0, 1, 2], zero_division=0), rel=1e-9
        )
        # Probabilities of a waiting row are kept as 32-bit floats.
        assert figure(report, "log_loss", None, start) == pytest.approx(
            metrics.log_loss(y, p[rows], labels=[0, 1, 2]), rel=1e-6
        )
        one_hot = np.eye(3)[y]
        assert figure(report, "brier", None, start) == pytest.approx(
            ((p[rows] - one_hot) ** 2).sum(axis=1).mean(), rel=1e-6
        )
        for at, name in enumerate(CLASSES):
            expected = metrics.recall_score(y, chosen, labels=[at], average="macro", zero_division=np.nan)
            if not math.isnan(expected):
                assert figure(report, "recall", name, start) == pytest.approx(expected, rel=1e-9)


def test_a_class_that_the_reference_does_not_know_is_counted_as_wrong(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    p = shares(rng, 90)
    names = [CLASSES[at] for at in p.argmax(axis=1)]
    base = pd.DataFrame({f"score__{name}": p[:, at] for at, name in enumerate(CLASSES)} | {"label": names})
    scores = [dict(zip(CLASSES, row, strict=True)) for row in p.tolist()]
    told = [name if at % 10 else "unheard" for at, name in enumerate(names)]
    report = report_of(tmp_path, log_of(scores, told, told), base)
    assert figure(report, "accuracy") == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("positive", "words"),
    [(None, ("yes", "no")), (None, (True, False)), (None, (1, 0)), (None, ("1", "0")), ("ill", ("ill", "well"))],
)
def test_labels_of_any_spelling_are_the_same_labels(tmp_path: Path, positive: Any, words: tuple[Any, Any]) -> None:
    rng = np.random.default_rng(6)
    score = rng.random(200)
    truth = rng.random(200) < score
    named = [words[0] if one else words[1] for one in truth]
    base = pd.DataFrame({"score": score, "label": truth.astype(int) if positive is None else named})
    report = report_of(tmp_path, log_of(score.tolist(), named, named), base, positive_label=positive)
    row = next(row for row in report["figures"] if row["signal"] == "auc" and row["window_start"] is None)
    assert abs(row["value"] - metrics.roc_auc_score(truth, score)) <= row["bound"] + 1e-12
    assert row["n"] == 200


def test_scores_outside_of_zero_and_one_and_extreme_values_break_no_figure(tmp_path: Path) -> None:
    scores = [0.0, 1.0, 1e-300, 1 - 1e-16, 5.0, -3.0, 1e300, -1e300] * 30
    labels = [0, 1] * 120
    base = pd.DataFrame({"score": np.linspace(0, 1, 100), "label": [0, 1] * 50})
    report = report_of(tmp_path, log_of(scores, labels, labels), base)
    assert figure(report, "rows") == 240
    for row in report["figures"]:
        assert row["value"] is None or math.isfinite(row["value"])
