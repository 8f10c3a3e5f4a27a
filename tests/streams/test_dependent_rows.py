"""Rows that depend on each other raise no incident for it, and what is wrong among them is still told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from leadline.config import Rules
from streams.backtest.backtest import Backtest
from streams.judge.variation import Variation
from tests.streams.test_outcome_signals import START, backtest, incidents

EVERY_S, DAY_S = 60.0, 86_400.0
DAYS = 6
N = int(DAYS * DAY_S / EVERY_S)
MEMORY = 120.0  # rows after which 1 / e of the weather is left: two hours
WIDTH = 0.8  # of the weather, standard deviations of one row
FAULT = int(4.25 * DAY_S / EVERY_S)
"""The first faulty row."""


def weather(rng: np.random.Generator, n: int) -> np.ndarray:
    """A first-order autoregressive path of standard deviation 1."""
    keeps = np.exp(-1.0 / MEMORY)
    shocks = rng.normal(0.0, np.sqrt(1.0 - keeps**2), n)
    path = np.empty(n)
    path[0] = rng.normal()
    for at in range(1, n):
        path[at] = keeps * path[at - 1] + shocks[at]
    return path


def table(seed: int, n: int, dependent: bool) -> pd.DataFrame:
    """Readings that wander, or have been shuffled: each row for itself is drawn alike."""
    rng = np.random.default_rng(seed)
    reading = rng.normal(0.0, 1.0, n) + WIDTH * weather(rng, n)
    score = 1.0 / (1.0 + np.exp(-reading + rng.normal(0.0, 0.5, n)))
    frame = pd.DataFrame({"reading": reading, "score": score, "label": (rng.random(n) < score).astype(int)})
    return frame if dependent else frame.sample(frac=1.0, random_state=seed).reset_index(drop=True)


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"score": row["score"], "label": int(row["label"]), "features": {"reading": row["reading"]}}
        for row in frame.to_dict("records")
    ]


def run(live: pd.DataFrame, reference: pd.DataFrame, folder: Path) -> Backtest:
    return backtest(rows_of(live), reference, folder, every_s=EVERY_S)


@pytest.fixture(scope="module")
def shuffled() -> pd.DataFrame:
    return table(1, 20_000, dependent=False)


@pytest.fixture(scope="module")
def ordered() -> pd.DataFrame:
    return table(1, 20_000, dependent=True)


def late(made: Backtest) -> list[tuple[str, str | None, float]]:
    """Incidents that opened after two and a half days: by then enough spans are known."""
    return [
        (incident.signal, incident.subject, (incident.opened_at - START) / DAY_S)
        for incident in incidents(made)
        if incident.opened_at > START + 2.5 * DAY_S
    ]


@pytest.mark.parametrize("seed", [2, 3])
def test_weather_raises_next_to_nothing_once_some_spans_are_known(
    seed: int, shuffled: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = table(seed, N, dependent=True)
    aware = run(live, shuffled, tmp_path)
    monkeypatch.setattr(Variation, "_effect", lambda *_: 1.0)
    blind = run(live, shuffled, tmp_path)
    assert len(incidents(blind)) >= 8, "else the worlds of this file prove nothing"
    assert len(late(blind)) >= 3
    assert 2 * len(incidents(aware)) <= len(incidents(blind))
    assert len(late(aware)) <= 1, late(aware)


def test_training_rows_in_their_order_say_it_before_any_span_is_known(ordered: pd.DataFrame, tmp_path: Path) -> None:
    made = run(table(2, N, dependent=True), ordered, tmp_path)
    assert len(incidents(made)) <= 1


def test_independent_rows_keep_all_their_worth(shuffled: pd.DataFrame, tmp_path: Path) -> None:
    live = table(4, N, dependent=False)
    live.loc[N // 2 :, "reading"] += 0.7
    made = run(live, shuffled, tmp_path)
    (first, *_) = incidents(made)
    assert first.subject == "reading"
    assert all(row.finding.design_effect == 1.0 for incident in incidents(made) for row in incident.evidence)


@pytest.mark.parametrize("seed", [2, 3])
def test_a_shift_among_spans_that_vary_is_told_with_little_delay(
    seed: int, ordered: pd.DataFrame, tmp_path: Path
) -> None:
    live = table(seed, N, dependent=True)
    live.loc[FAULT:, "reading"] += 2.5  # three deviations of the weather
    rules = Rules(disabled=("out_of_distribution_rate",))
    made = backtest(rows_of(live), ordered, tmp_path, every_s=EVERY_S, rules=rules)
    (found, *_) = incidents(made)
    assert found.subject == "reading"
    assert 0 < (found.opened_at - START) / EVERY_S - FAULT <= MEMORY
    assert max(row.finding.design_effect for row in found.evidence) > 2.0


def test_nulls_among_spans_that_vary_are_told_as_soon_as_among_others(shuffled: pd.DataFrame, tmp_path: Path) -> None:
    live = table(2, N, dependent=True)
    lost = np.random.default_rng(5).random(N) < 0.3
    live.loc[lost & (np.arange(N) >= FAULT), "reading"] = None
    rows = rows_of(live.astype(object).where(live.notna(), None))
    made = backtest(rows, shuffled, tmp_path, every_s=EVERY_S)
    found = next(one for one in incidents(made) if one.opened_at >= START + FAULT * EVERY_S)
    assert (found.signal, found.subject) == ("null_rate", "reading")
    assert (found.opened_at - START) / EVERY_S - FAULT <= 40
    assert found.evidence[0].finding.design_effect == 1.0
