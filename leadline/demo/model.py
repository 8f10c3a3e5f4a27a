"""The model that the hospital serves, and the held-out rows that Leadline compares it with."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leadline.demo.cohort import CATEGORICAL, FEATURES, NUMERIC, SEGMENTS, Columns, Floats, draw, readmission_risk

THRESHOLD = 0.5  # at or above it the discharge is postponed
TRAINING_ROWS, REFERENCE_ROWS = 12_000, 10_000
_TRAINING, _REFERENCE = 1, 2  # streams of random numbers; the service uses another


class DemoMissing(ImportError):
    """The packages of the demo are not installed."""

    reason = "demo_missing"


@dataclass(frozen=True)
class Model:
    """Gradient-boosted trees on raw features; a missing number is taken for the training rows' median."""

    trees: Any
    medians: Floats

    def score(self, features: Columns) -> Floats:
        """P(readmitted), in (0, 1), one for each row; it looks at `FEATURES` alone."""
        if len(features["age"]) == 0:
            return np.empty(0)
        return np.asarray(self.trees.predict_proba(_matrix(features, self.medians))[:, 1], dtype=np.float64)


def train(seed: int = 7, rows: int = TRAINING_ROWS) -> Model:
    """Fits the model; the same seed gives the same model. Takes about a second. Raises `DemoMissing`."""
    try:
        # Not the histogram kind: its threads wait for each other longer than they compute on the few rows of a tick.
        from sklearn.ensemble import GradientBoostingClassifier
    except ImportError as error:
        raise DemoMissing("the demo needs scikit-learn: pip install 'leadline[demo]'") from error
    rng = np.random.default_rng([seed, _TRAINING])
    patients = draw(rng, rows)
    readmitted = rng.random(rows) < readmission_risk(patients)
    medians = np.array([np.nanmedian(patients[name]) for name in NUMERIC])
    trees = GradientBoostingClassifier(n_estimators=80, max_depth=3, subsample=0.5, random_state=seed)
    trees.fit(_matrix(patients, medians), readmitted)
    return Model(trees, medians)


def reference(model: Model, seed: int = 7, rows: int = REFERENCE_ROWS) -> Columns:
    """Held-out rows as the model answers them: features, `score`, `prediction`, `label`, `segment__NAME`."""
    rng = np.random.default_rng([seed, _REFERENCE])
    patients = draw(rng, rows)
    frame = {name: patients[name] for name in FEATURES}
    frame["score"] = np.round(model.score(patients), 6)
    frame["prediction"] = (frame["score"] >= THRESHOLD).astype(np.int64)
    frame["label"] = (rng.random(rows) < readmission_risk(patients)).astype(np.int64)
    return frame | {f"segment__{name}": patients[name] for name in SEGMENTS}


def write_reference(path: Path, frame: Columns) -> None:
    """CSV as `leadline reference build` and `leadline backtest --reference` read it; an empty cell is null."""
    columns = [_cells(values) for values in frame.values()]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(frame)
        writer.writerows(zip(*columns, strict=True))


def _cells(values: Any) -> list[Any]:
    # NaN is the only value that differs from itself.
    return [None if value != value else value for value in values.tolist()]


def _matrix(features: Columns, medians: Floats) -> Floats:
    numbers = np.column_stack([features[name] for name in NUMERIC])
    numbers = np.where(np.isnan(numbers), medians, numbers)
    codes = [np.searchsorted(known, features[name]) for name, known in CATEGORICAL.items()]
    return np.column_stack([numbers, *codes]).astype(np.float64)
