"""Streams with one known change, for :mod:`benchmarks.detection`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from river.datasets import synth
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

Floats = npt.NDArray[np.float64]
TRAIN, CHECK = 2_000, 2_000


@dataclass(frozen=True, slots=True)
class Stream:
    """Values whose law changes at index ``change``.

    baseline and spread are what a reference would know before the change, ``after`` the mean once the change is
    complete (only the ideal detector is told). low and high bound the values for the detectors that need a range.
    """

    values: Floats
    change: int
    baseline: float
    error: float
    spread: float
    after: float
    low: float
    high: float


def mean_shift(sigmas: float, seed: int, clean: int, changed: int) -> Stream:
    """Gaussian values whose mean rises by ``sigmas`` standard deviations at once."""
    rng = np.random.default_rng([seed, int(100 * sigmas)])
    values = rng.normal(size=clean + changed)
    values[clean:] += sigmas
    return Stream(values, clean, 0.0, 0.0, 1.0, sigmas, -5.0, 5.0)


def losses(name: str, seed: int, clean: int, changed: int) -> Stream:
    """0/1 losses of a model trained once, before the change, on one of river's synthetic concepts."""
    before, after, model = _concepts(name, seed)
    x, y = _rows(before, TRAIN + CHECK + clean)
    model.fit(x[:TRAIN], y[:TRAIN])
    wrong = (model.predict(x) != y).astype(np.float64)
    x_new, y_new = _rows(after, changed)
    drifted = (model.predict(x_new) != y_new).astype(np.float64)
    if name.endswith("gradual"):
        # the new concept replaces the old one over a thousand rows
        _, old, _ = _concepts(name, seed + 10_000, same=True)
        x_old, y_old = _rows(old, changed)
        still = (model.predict(x_old) != y_old).astype(np.float64)
        chance = 1.0 / (1.0 + np.exp(-(np.arange(changed) - 500.0) / 100.0))
        drifted = np.where(np.random.default_rng(seed).random(changed) < chance, drifted, still)
    check = wrong[TRAIN : TRAIN + CHECK]
    baseline = float(check.mean())
    spread = float(np.sqrt(max(baseline * (1 - baseline), 1e-4)))
    values = np.concatenate([wrong[TRAIN + CHECK :], drifted])
    return Stream(
        values, clean, baseline, spread / np.sqrt(CHECK), spread, float(drifted[changed // 2 :].mean()), 0.0, 1.0
    )


LOSSES = ("SEA abrupt", "SEA gradual", "Agrawal abrupt", "Hyperplane incremental")


def _concepts(name: str, seed: int, same: bool = False) -> tuple[Any, Any, Any]:
    if name.startswith("SEA"):
        before = synth.SEA(variant=2, noise=0.05, seed=seed)
        return before, synth.SEA(variant=2 if same else 1, noise=0.05, seed=seed + 1), LogisticRegression()
    if name.startswith("Agrawal"):
        before = synth.Agrawal(classification_function=0, seed=seed, perturbation=0.05)
        after = synth.Agrawal(classification_function=1, seed=seed + 1, perturbation=0.05)
        return before, after, DecisionTreeClassifier(max_depth=6, random_state=0)
    before = synth.Hyperplane(seed=seed, n_features=10, mag_change=0.0)
    # the same seed starts from the same plane, which then turns a little with every row
    return (
        before,
        synth.Hyperplane(seed=seed, n_features=10, n_drift_features=5, mag_change=0.002),
        LogisticRegression(),
    )


def _rows(source: Any, n: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    pairs = list(islice(iter(source), n))
    x = np.array([list(row.values()) for row, _ in pairs], dtype=np.float64)
    return x, np.array([int(label) for _, label in pairs], dtype=np.int64)
