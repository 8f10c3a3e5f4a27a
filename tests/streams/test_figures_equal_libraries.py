"""Every outcome figure is that of scikit-learn, numpy and pandas on the raw rows, at many moments of a log and on both axes."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from leadline.config import Config, Join, Model, Panes
from streams.backtest.backtest import Backtest
from streams.backtest.report import figure_rows
from streams.core.stage import Record
from tests.streams.figure_oracle import Account, Named, Promise, binary, classes, shared, values, windows

START = 1_735_689_600.0 + 40_000.0  # not at midnight: days are cut within the log
WINDOW, TOLERANCE = 20_000.0, 300.0
CLASSES = ["amber", "green", "grey", "red"]
Event = tuple[str, dict[str, Any]]
BOUNDED = {"auc", "average_precision"}
RECORDED = os.environ.get("LEADLINE_RECORDED_LOG")


def binary_row(rng: np.random.Generator, at: int) -> tuple[dict[str, Any], Any]:
    score = float(
        rng.choice([rng.beta(0.6, 1.2), 0.0, 1.0, round(float(rng.random()), 1), 1e-12], p=[0.6, 0.1, 0.05, 0.2, 0.05])
    )
    given = {"prediction": bool(rng.random() < 0.5)} if rng.random() < 0.2 else {}
    return {"score": score, **given}, int(rng.random() < 0.1 + 0.7 * score)


def class_row(rng: np.random.Generator, at: int) -> tuple[dict[str, Any], Any]:
    parts = (
        rng.multinomial(1024, rng.dirichlet([1.0, 2.0, 0.4, 1.0])) / 1024
    )  # a waiting row keeps 32-bit floats: these are exact
    label = "unheard" if rng.random() < 0.02 else CLASSES[int(rng.choice(4, p=parts))]
    return {"score": dict(zip(CLASSES, parts.tolist(), strict=True))}, label


def value_row(rng: np.random.Generator, at: int) -> tuple[dict[str, Any], Any]:
    truth = 1e6 + 200.0 * float(rng.standard_t(4))
    return {"score": truth + 15.0 + 60.0 * float(rng.normal())}, truth


ROWS: dict[str, Callable[[np.random.Generator, int], tuple[dict[str, Any], Any]]] = {
    "binary": binary_row,
    "multiclass": class_row,
    "regression": value_row,
}


def other(task: str, rng: np.random.Generator, label: Any) -> Any:
    """A label that is corrected later."""
    return {
        "binary": lambda: 1 - label,
        "multiclass": lambda: CLASSES[rng.integers(4)],
        "regression": lambda: label - 77.7,
    }[task]()


def events_of(task: str, seed: int, n: int) -> list[Event]:
    """Delays from before the prediction to past the window, corrections, repeats, out of order, nulls; in order of arrival."""
    rng = np.random.default_rng(seed)
    arrived: list[tuple[float, Event]] = []
    for at in range(n):
        row, label = ROWS[task](rng, at)
        when = START + at * 90.0 + float(rng.random()) * 60
        body = {"request_id": f"q{at}", "model_id": "m", "model_version": "1", "timestamp": when, **row}
        body["features"] = {"age": None if rng.random() < 0.1 else float(rng.normal()), "site": "a"}
        body["segments"] = {"site": "north" if rng.random() < 0.7 else "south"}
        arrived.append((when + float(rng.exponential(40.0)), ("predictions", body)))
        kind = float(rng.random())
        if kind < 0.1:
            continue
        delay = (
            WINDOW + 500
            if kind < 0.14
            else -100.0
            if kind < 0.18
            else -900.0
            if kind < 0.2
            else float(rng.exponential(3000.0))
        )
        told = {"request_id": f"q{at}", "label": label, "timestamp": when + delay}
        if rng.random() < 0.5:
            told["values"] = {"revenue": round(float(rng.lognormal()), 2), "other": 1.0}
        if kind > 0.85:
            arrived.append((when + delay + 1, ("labels", {**told, "label": other(task, rng, label)})))
            later = {**told, "timestamp": when + delay + 2.0}
            if kind > 0.95:
                later["values"] = {"revenue": 3.5}
            elif kind > 0.9:
                later.pop("values", None)
            arrived.append((when + delay + float(rng.exponential(60_000.0)), ("labels", later)))
        else:
            arrived.append((when + delay, ("labels", told)))
            if kind > 0.8:
                again = {**told, "timestamp": when + delay + 3.0, "values": {"revenue": 9.25}}
                arrived.append((when + delay + float(rng.exponential(60_000.0)), ("labels", again)))
    return [event for _, event in sorted(arrived, key=lambda item: item[0])]


def reference_of(task: str, folder: Path, n: int = 800) -> pd.DataFrame:
    rng = np.random.default_rng(99)
    rows = [ROWS[task](rng, at) for at in range(n)]
    rows = [(body, label) for body, label in rows if label != "unheard"]
    frame = pd.DataFrame({"age": rng.normal(size=len(rows)), "label": [label for _, label in rows]})
    frame["value__revenue"] = rng.lognormal(size=len(rows))
    if task == "multiclass":
        for name in CLASSES:
            frame[f"score__{name}"] = [body["score"][name] for body, _ in rows]
    else:
        frame["score"] = [body["score"] for body, _ in rows]
    frame.to_csv(folder / "reference.csv", index=False)
    return frame


def backtest_of(path: Path | None, **model: Any) -> Backtest:
    join = Join(delay_window=WINDOW, early_tolerance=TOLERANCE, max_jump=1e8)
    return Backtest(Config(join=join, panes=Panes(pane=1800.0), models={"m": Model(reference=path, **model)}))


def feed(backtest: Backtest, events: Sequence[Event], first: int) -> None:
    """Events with offsets from `first` on; those of one place in the log are told apart by their source."""

    def records() -> Iterator[tuple[str, Record]]:
        for at, (source, body) in enumerate(events):
            yield source, Record(first + at, body["request_id"].encode(), json.dumps(body).encode(), 2e9)

    backtest.feed(records())


def shown(
    backtest: Backtest,
) -> dict[tuple[str, str | None, float | None], dict[tuple[str, str | None], dict[str, Any]]]:
    """Figures of all versions by (axis, segment, start of the window)."""
    found: dict[Any, dict[Any, dict[str, Any]]] = {}
    (judge,) = backtest.judge.models.values()
    for row in figure_rows(judge):
        if row["model_version"] is None:
            rows = found.setdefault((row["axis"], row["segment"], row["window_start"]), {})
            assert (row["signal"], row["subject"]) not in rows, "one figure stands twice"
            rows[row["signal"], row["subject"]] = row
    return found


def compare(rows: dict[tuple[str, str | None], dict[str, Any]], expected: Named, where: object) -> int:
    for key, value in expected.items():
        row = rows.get(key)
        assert row is not None, (where, key, value)
        if key[0] in BOUNDED:
            assert abs(row["value"] - value) <= row["bound"] + 1e-12, (where, key, row, value)
        else:
            assert math.isclose(row["value"], value, rel_tol=1e-9, abs_tol=1e-9), (where, key, row["value"], value)
    missing = {key for key in rows if key[0] in {name for name, _ in expected}} - set(expected)
    assert all(
        rows[key]["value"] in (None, 0.0) or key[1] == "(unknown class)" or key[1] == "auc" for key in missing
    ), (where, missing)
    return len(expected)


def expected_of(task: str, rows: pd.DataFrame) -> Named:
    found = binary(rows) if task == "binary" else classes(rows, CLASSES) if task == "multiclass" else values(rows)
    return {**found, **shared(rows, ["revenue"])}


@pytest.mark.parametrize("task", sorted(ROWS))
def test_outcome_figures_are_those_of_the_raw_rows_at_many_moments_and_on_both_axes(task: str, tmp_path: Path) -> None:
    base = reference_of(task, tmp_path)
    backtest = backtest_of(tmp_path / "reference.csv", business=("revenue",))
    (reference,) = [backtest.book.get("m")]
    assert reference.task == task
    promise = None
    if task == "binary":
        assert reference.score is not None
        promise = Promise(reference.score.bins.edges, base)  # type: ignore[union-attr]
    account = Account(WINDOW, TOLERANCE)
    events = events_of(task, 7, 1100)
    cuts = [0, 3, 40, 400, 1200, len(events)]
    compared = 0
    for first, last in itertools.pairwise(cuts):
        feed(backtest, events[first:last], first)
        for source, body in events[first:last]:
            account.take(source, body)
        found = shown(backtest)
        frame = account.frame()
        segments = frame["segments"].map(lambda given: f"site={given['site']}")
        for segment in (None, "site=north", "site=south"):
            part = frame if segment is None else frame[segments == segment]
            for axis in ("cohort", "arrival"):
                for start, rows in windows(part, axis) if len(part) else ():
                    expected = expected_of(task, rows)
                    if axis == "cohort":
                        expected["rows", None] = len(rows)
                        if rows["label"].notna().any():
                            expected["label_coverage", None] = float(rows["label"].notna().mean())
                        if promise is not None and segment is None:
                            expected |= promise.figures(rows)
                    shown_rows = found.get((axis, segment, start), {})
                    compared += compare(shown_rows, expected, (task, last, axis, segment, start))
    assert compared > 300


def run(
    task: str, scores: Sequence[Any], labels: Sequence[Any], folder: Path | None = None
) -> tuple[dict[Any, Any], pd.DataFrame]:
    """A log of plain pairs, and what it shows over the whole."""
    path = None
    if folder is not None:
        reference_of(task, folder)
        path = folder / "reference.csv"
    backtest = backtest_of(path, task=task, learn_rows=100)
    account = Account(WINDOW, TOLERANCE)
    events: list[Event] = []
    for at, (score, label) in enumerate(zip(scores, labels, strict=True)):
        when = START + at
        body = {"request_id": f"q{at}", "model_id": "m", "model_version": "1", "timestamp": when, "score": score}
        events += [("predictions", body), ("labels", {"request_id": f"q{at}", "label": label, "timestamp": when + 0.5})]
    feed(backtest, events, 0)
    for source, body in events:
        account.take(source, body)
    return shown(backtest)["cohort", None, None], account.frame()


@pytest.mark.parametrize("with_reference", [True, False])
@pytest.mark.parametrize(
    ("name", "scores", "labels"),
    [
        ("one row", [0.3], [1]),
        ("all scores equal", [0.25] * 200, [0, 1, 1, 0] * 50),
        ("only zeros and ones", [0.0, 1.0] * 100, [0, 1, 1, 1] * 50),
        ("one class", [0.1, 0.9, 0.4] * 50, [1] * 150),
        ("the other class", [0.1, 0.9, 0.4] * 50, [0] * 150),
        ("always wrong", [0.0, 1.0] * 60, [1, 0] * 60),
        ("next to each other", [0.5, 0.5 + 1e-16, 0.5 - 1e-16, 1e-300] * 40, [0, 1, 0, 1] * 40),
    ],
)
def test_adversarial_scores_give_the_figures_of_scikit_learn(
    name: str, scores: list[float], labels: list[int], with_reference: bool, tmp_path: Path
) -> None:
    rows, frame = run("binary", scores, labels, tmp_path if with_reference else None)
    assert compare(rows, binary(frame), name) >= 5


@pytest.mark.parametrize(
    ("name", "scores", "labels"),
    [
        ("one row", [2.0], [3.0]),
        ("no error", [1.0, 2.0, 3.0] * 20, [1.0, 2.0, 3.0] * 20),
        ("constant label", [1.0, 2.0] * 50, [7.0] * 100),
        ("huge", [1e60, -3e60, 2e60] * 20, [0.0, 1e60, -1e60] * 20),
        ("tiny", [1e-200, 3e-200] * 20, [2e-200, 5e-200] * 20),
    ],
)
def test_adversarial_values_give_the_figures_of_scikit_learn(
    name: str, scores: list[float], labels: list[float]
) -> None:
    rows, frame = run("regression", scores, labels)
    expected = {key: value for key, value in values(frame).items() if name != "tiny" or key[0] != "r2"}
    assert compare(rows, expected, name) >= 3


def test_an_error_too_large_for_sums_is_left_out_and_poisons_nothing() -> None:
    rows, _ = run("regression", [1.0, 1e200, 2.0], [0.0, -1e200, 0.0])
    assert rows["mae", None]["value"] == pytest.approx(1.5)
    assert rows["mae", None]["n"] == 2


def recorded(folder: Path) -> Iterator[Event]:
    """The lines of a recorded log, in order of arrival."""
    events: list[tuple[float, Event]] = []
    for source in ("predictions", "labels"):
        with gzip.open(folder / f"{source}.jsonl.gz", "rt", encoding="utf-8") as lines:
            for line in lines:
                body = json.loads(line)
                events.append((body["arrived_at"], (source, body)))
    return (event for _, event in sorted(events, key=lambda item: item[0]))


@pytest.mark.parametrize("log", ["generated", *([RECORDED] if RECORDED else [])])
def test_outcome_figures_of_a_whole_log_are_those_of_the_raw_rows(log: str, tmp_path: Path) -> None:
    """Also of the recorded log that the environment variable LEADLINE_RECORDED_LOG names."""
    window = WINDOW
    if log == "generated":
        events = events_of("binary", 11, 400)
        reference_of("binary", tmp_path)
        reference = tmp_path / "reference.csv"
    else:
        window = 48 * 3600.0
        events = list(recorded(Path(log)))
        reference = Path(log) / "reference.csv.gz"
    model = Model(reference=reference)
    join = Join(delay_window=window, early_tolerance=TOLERANCE, max_jump=1e8)
    backtest = Backtest(Config(join=join, panes=Panes(pane=3600.0), models={events[0][1]["model_id"]: model}))
    account = Account(window, TOLERANCE)
    for first, last in itertools.pairwise([0, len(events) // 40, len(events) // 5, len(events)]):
        feed(backtest, events[first:last], first)
        for source, body in events[first:last]:
            account.take(source, body)
        found, frame = shown(backtest), account.frame()
        for axis in ("cohort", "arrival"):
            for start, rows in windows(frame, axis):
                compare(found.get((axis, None, start), {}), binary(rows), (last, axis, start))
