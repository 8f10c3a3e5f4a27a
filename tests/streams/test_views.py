"""Views keep up with few models at once, and with many by turns: what people wait for comes first, and counting is not held up."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from leadline.config import Config
from streams.baselines.reference_book import ReferenceBook
from streams.baselines.reference_files import build_reference
from streams.core.stage import Record
from streams.counting.references import Reference
from streams.judge import views
from streams.judge.judge import Judge
from streams.observe.observe import Observer

T0 = 1_780_000_000.0
MODELS = 12
CELLS = 3  # all traffic and two sites


@pytest.fixture(scope="module")
def known() -> Reference:
    rng = np.random.default_rng(1)
    score = rng.random(800)
    return build_reference(
        {
            "age": rng.normal(50, 10, 800).tolist(),
            "score": score.tolist(),
            "label": (rng.random(800) < score).astype(float).tolist(),
            "segment__site": rng.choice(["north", "south"], 800).tolist(),
        }
    )


class Scene:
    """An observer and a judge of many models; each `second` brings every model some rows."""

    def __init__(self, known: Reference) -> None:
        self.config = Config.model_validate({"panes": {"pane": 1.0}})
        names = [f"m{at:02d}" for at in range(MODELS)]
        book = ReferenceBook(self.config, dict.fromkeys(names, known))
        self.names, self.rng = names, np.random.default_rng(2)
        self.observer, self.judge = Observer(0, self.config, book), Judge(0, self.config, book)
        self.number = 0

    def second(self, now: float, nulls: str | None = None) -> dict[str, Any]:
        """What is shown of a second's rows; `nulls` names a model whose feature is null."""
        records = []
        for name in self.names:
            for _ in range(20):
                self.number += 1
                age = None if name == nulls else float(self.rng.normal(50, 10))
                body = {
                    "request_id": f"r{self.number}",
                    "model_id": name,
                    "model_version": "1",
                    "timestamp": now,
                    "score": float(self.rng.random()),
                    "features": {"age": age},
                    "segments": {"site": ["north", "south"][self.number % 2]},
                }
                records.append(Record(self.number, b"", json.dumps(body).encode(), now))
        arrived = {"predictions": records}
        self.observer.needed(arrived)
        sent = self.observer.fold(arrived, {}, now).sends
        digests = [Record(at, send.key, send.value, now) for at, send in enumerate(sent) if "digests" in send.topic]
        return self.judge.fold({"digests": digests}, {}, now).views


def signals(shown: dict[str, Any]) -> list[str]:
    """Models whose signals were shown."""
    return sorted(name.split(":")[2] for name in shown if name.endswith(":signals"))


def test_many_models_are_shown_by_turns_within_the_budget(known: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "CELLS_A_S", 2.0 * CELLS)  # two models a second
    scene = Scene(known)
    shown = [signals(scene.second(T0 + at)) for at in range(30)]
    counts = [sum(name in names for names in shown) for name in scene.names]
    assert max(counts) - min(counts) <= 1, "some model is shown more often than others"
    assert min(counts) >= 3
    # In the first second no pane has ended: there is nothing to render.
    assert all(len(names) <= 5 for names in shown[1:]), "more was rendered than two seconds' credit and one model"
    assert sum(map(len, shown[1:])) <= 2 * 30 + 5


def test_few_models_are_shown_again_as_soon_as_a_pane_has_ended(known: Reference) -> None:
    scene = Scene(known)
    shown = [signals(scene.second(T0 + at)) for at in range(8)]
    assert [names == scene.names for names in shown].count(True) == 4  # every two seconds
    assert [names == [] for names in shown].count(True) == 4


def test_signals_are_made_anew_only_when_a_pane_has_ended(known: Reference) -> None:
    scene = Scene(known)
    scene.second(T0)
    scene.second(T0 + 2)
    again = scene.judge.fold({}, {}, T0 + 4).views
    assert not again
    change = json.dumps({"model_id": "m03", "kind": "deploy", "timestamp": T0}).encode()
    again = scene.judge.fold({"changes": [Record(0, b"m03", change, T0)]}, {}, T0 + 6).views
    assert "leadline:model:m03" in again
    assert signals(again) == []


def test_a_new_incident_is_shown_at_once_though_the_budget_is_spent(
    known: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "CELLS_A_S", 0.5 * CELLS)
    scene = Scene(known)
    last = scene.names[-1]
    for at in range(10):
        scene.second(T0 + at)
    for at in range(10, 30):
        shown = scene.second(T0 + at, nulls=last)
        if (incidents := scene.judge.models[last].incidents) and at > 12:
            break
    assert incidents
    told = shown if last in signals(shown) else scene.second(T0 + at + 2, nulls=last)
    assert last in signals(told)
    assert incidents[0].id in told[f"leadline:model:{last}:incidents"]
