"""Spans that are judged together are judged as if each were alone, whatever lies in the vectors beside them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from leadline.config import Rules
from streams.baselines.reference_files import build_reference
from streams.counting.references import Reference
from streams.rules.evaluate import Evaluator
from streams.rules.looks import Bases, Looks

SITES = ("north", "south", "west")
SEGMENTS = (None, *(f"site={site}" for site in SITES))
TASKS = ("binary", "multiclass", "regression")


@cache
def known(task: str, aged: bool = True, n: int = 3000) -> Reference:
    """Every kind of column: numbers, few and many categories, nulls, delays, business values, optional fields."""
    rng = np.random.default_rng(3)
    score = rng.beta(2, 3, n)
    x, y = score / 2, (1 - score) / 3
    columns: dict[str, list[object]] = {
        "age": np.round(rng.normal(60, 12, n), 3).tolist(),
        "cost": np.where(rng.random(n) < 0.2, None, np.round(rng.lognormal(3, 1, n), 2)).tolist(),
        "ward": rng.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1]).tolist(),
        "code": [f"c{at}" for at in rng.integers(0, 80, n)],
        "segment__site": rng.choice(SITES, n).tolist(),
        "latency_ms": rng.lognormal(3, 0.3, n).tolist(),
        "confidence": rng.beta(4, 2, n).tolist(),
        "embedding_norm": rng.normal(10, 1, n).tolist(),
        "resource__cpu_s": rng.gamma(2, 1, n).tolist(),
        "pipeline_fingerprint": ["p1"] * n,
        "runtime__numpy": ["2.1"] * n,
        "value__sales": rng.gamma(1, 3, n).tolist(),
    }
    if aged:
        columns["label_delay_s"] = rng.lognormal(7, 1.5, n).tolist()
    if task == "binary":
        columns |= {"score": score.tolist(), "label": (rng.random(n) < score).astype(int).tolist()}
    elif task == "multiclass":
        columns |= {"score__x": x.tolist(), "score__y": y.tolist(), "score__z": (1 - x - y).tolist()}
        columns["label"] = [rng.choice(["x", "y", "z"], p=[a, b, 1 - a - b]) for a, b in zip(x, y, strict=True)]
    else:
        columns |= {"score": (100 * score).tolist(), "label": (100 * score + rng.normal(0, 9, n)).tolist()}
    return build_reference(columns, business=["sales"], resources=["cpu_s"])


def spans(reference: Reference, seed: int, looks: int) -> tuple[np.ndarray, list[str | None]]:
    """Vectors that no traffic ever made: each section of a reference's cell thinned, moved or empty by itself, some slots below 0."""
    rng = np.random.default_rng(seed)
    vectors, segments = [], []
    for _ in range(looks):
        segment = SEGMENTS[rng.integers(len(SEGMENTS))]
        cell = reference.cell(segment)
        assert cell is not None
        share = rng.choice([0.002, 0.02, 0.1, 0.5])
        vector = np.zeros(len(cell))
        for name, part in reference.layout.slots.items():
            usual, integer = cell[part], part.start < reference.layout.integers
            drawn = rng.poisson(np.maximum(usual, 0) * share).astype(float) if integer else usual * share
            if name not in ("rows", "outcomes") and rng.random() < 0.2:
                drawn = np.roll(drawn, 1) if len(drawn) > 1 else drawn * rng.choice([0.0, 1.7])
            vector[part] = drawn
        if rng.random() < 0.3:
            vector[rng.integers(0, reference.layout.integers, 5)] -= 1.0
        vectors.append(vector)
        segments.append(segment)
    return np.array(vectors), segments


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("aged", [True, False])
@pytest.mark.parametrize("alpha", [1e-8, 0.5])
def test_each_look_of_many_is_judged_as_if_it_were_alone(task: str, aged: bool, alpha: float) -> None:
    reference = known(task, aged)
    judge = Evaluator(reference, Rules(), 30.0 if aged else None)
    vectors, segments = spans(reference, 5, 24)
    bases = [base for segment in segments if (base := judge.baseline(segment)) is not None]
    together = judge.findings_of(vectors, bases, alpha)
    assert together == [judge.findings(vector, base, alpha) for vector, base in zip(vectors, bases, strict=True)]
    signals = {finding.signal for told in together for finding in told}
    assert len(signals) > 8, "a test of looks that find nothing would test nothing"


@pytest.mark.parametrize("task", TASKS)
def test_a_rule_says_which_signals_it_can_find(task: str) -> None:
    reference = known(task)
    judge = Evaluator(reference, Rules(), 30.0)
    vectors, segments = spans(reference, 6, 24)
    bases = [base for segment in segments if (base := judge.baseline(segment)) is not None]
    distinct = Bases(list({id(base): base for base in bases}.values()))
    at = np.array([distinct.place[id(base)] for base in bases])
    looks = Looks(judge.layout, judge.subjects, vectors, distinct, at, 0.5)
    looks = looks.where(judge.of_outcomes.heard(looks))
    for rule in (*judge.of_rows, *judge.of_outcomes.rules, *judge.of_outcomes.always):
        assert {finding.signal for _, finding in rule.findings(looks)} <= rule.signals
