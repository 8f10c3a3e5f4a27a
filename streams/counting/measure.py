"""Rows of one model to columns: codes, standardised values, losses. Shared by the live path and by building a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from detectors.binning import category
from leadline.events import ClassValue, FeatureValue
from streams.core.table import Table
from streams.counting.feature_codes import feature_codes
from streams.counting.features import FAR_Z
from streams.counting.references import Reference

Floats = npt.NDArray[np.float64]
LOG_FLOOR = float(np.finfo(np.float64).eps)  # probabilities are clipped here before the logarithm, as scikit-learn does
OUT_OF_DISTRIBUTION_Z = FAR_Z
LARGEST_Z = 1e6  # a value further out counts as this far: one 1e300 must not swallow every later sum
TRUE_WORDS = frozenset({"1", "true", "yes", "t", "y", "positive"})
FALSE_WORDS = frozenset({"0", "false", "no", "f", "n", "negative"})


@dataclass(slots=True)
class Columns:
    """Columns of n predictions. `predicted` is 0 or 1, a class index or a value; NaN where it cannot be read.

    `furthest` is the greatest |z| of each row.
    """

    score: Floats
    predicted: Floats
    codes: npt.NDArray[np.uint8]
    score_codes: npt.NDArray[np.uint8] | None
    z: Floats
    furthest: Floats
    absent: npt.NDArray[np.bool_]
    extra: npt.NDArray[np.bool_]
    class_scores: npt.NDArray[np.float32] | None
    unexplained: Floats | None = None
    """What the reference's main directions do not explain of each row, where it has some."""


def measure(
    reference: Reference,
    scores: Sequence[float | Mapping[str, float]] | Floats,
    predictions: Sequence[ClassValue | None],
    features: Sequence[Mapping[str, FeatureValue]],
    threshold: float,
) -> Columns:
    """Codes [n, features], z [n, features] (0 for what is no number) and the rest, one row a prediction."""
    n = len(scores)
    class_scores = None
    if reference.task == "multiclass":
        score, predicted, class_scores = _classes(reference, scores, predictions)
    else:
        score = (
            scores
            if isinstance(scores, np.ndarray)
            else np.array([value if type(value) is float else _as_float(value) for value in scores], dtype=np.float64)
        )
        predicted = _predicted(reference, score, predictions, threshold)
    codes, z, absent = feature_codes(reference, features)
    furthest = np.abs(z.T).max(axis=0, initial=0.0)
    if not furthest.max(initial=0.0) <= LARGEST_Z:
        np.nan_to_num(z, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        np.clip(z, -LARGEST_Z, LARGEST_Z, out=z)
        furthest = np.abs(z.T).max(axis=0)
    known = len(reference.features)
    extra = np.zeros(n, dtype=np.bool_)
    if known and isinstance(features, Table):
        extra[:] = n > 0 and len(features.names) > known - int(absent[0].sum())
    elif known:
        extra = np.fromiter(map(len, features), np.int64, n) > known - absent.sum(axis=1)
    score_codes = reference.score.bins.assign(score) if reference.score is not None else None  # type: ignore[arg-type]
    unexplained = reference.joint.score(z[:, reference.numeric]) if reference.joint is not None else None
    return Columns(score, predicted, codes, score_codes, z, furthest, absent, extra, class_scores, unexplained)


def _as_float(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _predicted(
    reference: Reference, score: Floats, predictions: Sequence[ClassValue | None], threshold: float
) -> Floats:
    if reference.task == "regression":
        return np.array(
            [score[at] if value is None else _as_float(value) for at, value in enumerate(predictions)], dtype=np.float64
        )
    kinds = set(map(type, predictions))
    if kinds <= {float, bool}:
        given = np.array(predictions, dtype=np.float64)
        return np.where((given == 0.0) | (given == 1.0), given, np.nan)
    by_score = (score >= threshold).astype(np.float64)
    if kinds == {type(None)}:
        return by_score
    return np.array(
        [by_score[at] if value is None else binary_class(value) for at, value in enumerate(predictions)],
        dtype=np.float64,
    )


def binary_class(value: ClassValue, positive: ClassValue | None = None) -> float:
    """0.0 or 1.0, or NaN for what is neither. With `positive`, that class is 1 and every other 0."""
    if positive is not None:
        return float(category(value) == category(positive))
    if isinstance(value, str):
        word = value.strip().lower()
        return 1.0 if word in TRUE_WORDS else 0.0 if word in FALSE_WORDS else float("nan")
    number = float(value)
    return number if number in (0.0, 1.0) else float("nan")


def class_index(reference: Reference, value: ClassValue) -> float:
    """Index in the reference's classes; one past the last for any other; NaN for what is no class."""
    name = category(value)
    if name is None:
        return float("nan")
    try:
        return float(reference.classes.index(name))
    except ValueError:
        return float(len(reference.classes))


def _classes(
    reference: Reference,
    scores: Sequence[float | Mapping[str, float]] | Floats,
    predictions: Sequence[ClassValue | None],
) -> tuple[Floats, Floats, npt.NDArray[np.float32]]:
    """Top probability, predicted class, and [n, classes] float32 probabilities (0 for a class the map leaves out)."""
    classes = reference.classes
    table = np.array(
        [
            [row.get(name, 0.0) for name in classes] if isinstance(row, Mapping) else [np.nan] * len(classes)
            for row in scores
        ],
        dtype=np.float32,
    ).reshape(len(scores), len(classes))
    if not classes:
        nothing = np.full(len(scores), np.nan)
        return nothing, nothing, table
    top = np.where(np.isnan(table).all(axis=1), np.nan, table.max(axis=1, initial=0.0))
    best = np.argmax(np.nan_to_num(table), axis=1).astype(np.float64)
    predicted = np.array(
        [best[at] if value is None else class_index(reference, value) for at, value in enumerate(predictions)]
    )
    return top.astype(np.float64), predicted, table


def entropy(columns: Columns) -> Floats:
    """Entropy of each prediction, nats; NaN where the score is no probability."""
    if columns.class_scores is not None:
        shares = columns.class_scores.astype(np.float64)
        return np.asarray(special.entr(shares).sum(axis=1))
    p = columns.score
    inside = (p >= 0.0) & (p <= 1.0)
    p = np.where(inside, p, 0.0)
    return np.where(inside, special.entr(p) + special.entr(1.0 - p), np.nan)


def log_loss(probability_of_truth: Floats) -> Floats:
    """-ln p, nats, with p clipped at the machine epsilon."""
    return -np.log(np.clip(probability_of_truth, LOG_FLOOR, 1.0 - LOG_FLOOR))
