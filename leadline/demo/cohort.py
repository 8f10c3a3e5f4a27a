"""Synthetic patients at discharge, and how likely each truly is to come back within thirty days.

Distributions and directions of effect are plausible, not fitted to anybody's data. A hidden *frailty* ties the
measurements together, as it does in life: frail patients stay longer, have been here more often and have worse blood.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Columns: TypeAlias = dict[str, Array]  # name to one value for each patient; missing numbers are NaN
Floats: TypeAlias = npt.NDArray[np.float64]

NUMERIC = (
    "age",  # years
    "length_of_stay",  # days
    "prior_admissions",  # in the last twelve months
    "creatinine",  # mg/dl
    "haemoglobin",  # g/dl
    "sodium",  # mmol/l
    "hba1c",  # percent; not always taken
)
CATEGORICAL: dict[str, tuple[str, ...]] = {
    "admission": ("elective", "emergency"),
    "discharge_to": ("care_home", "home", "rehabilitation"),
    "insurance": ("none", "private", "statutory"),
}
FEATURES = (*NUMERIC, *CATEGORICAL)
SEGMENTS: dict[str, tuple[str, ...]] = {
    "site": ("east", "north", "south"),
    "ward": ("cardiology", "medicine", "surgery"),
}
HBA1C_MISSING = 0.06
YOUNGEST, OLDEST = 18.0, 98.0


def draw(rng: np.random.Generator, n: int) -> Columns:
    """`n` patients: features, segments, and `hba1c_true`, which decides their fate whether it was taken or not."""
    frailty = rng.standard_normal(n)
    age = np.clip(np.round(66 + 13 * rng.standard_normal(n) + 2 * frailty), YOUNGEST, OLDEST)
    older = (age - 66) / 10
    hba1c = np.round(6.0 * np.exp(0.16 * rng.standard_normal(n) + 0.02 * frailty), 1)
    goes = rng.random(n) + 0.06 * older + 0.08 * frailty
    insured = rng.random(n)
    columns: Columns = {
        "age": age,
        "length_of_stay": np.clip(np.round(np.exp(1.3 + 0.2 * frailty + 0.55 * rng.standard_normal(n)), 1), 0.5, 60),
        "prior_admissions": rng.poisson(np.exp(-0.5 + 0.5 * frailty + 0.1 * older)).astype(np.float64),
        "creatinine": np.round(np.exp(0.12 * frailty + 0.04 * older + 0.28 * rng.standard_normal(n)), 2),
        "haemoglobin": np.round(13.0 - 0.6 * frailty + 1.5 * rng.standard_normal(n), 1),
        "sodium": np.round(139.0 - 0.6 * frailty + 3.0 * rng.standard_normal(n)),
        "hba1c": np.where(rng.random(n) < HBA1C_MISSING, np.nan, hba1c),
        "admission": np.where(rng.random(n) < _logistic(0.1 + 0.5 * frailty), "emergency", "elective"),
        "discharge_to": np.where(goes > 1.0, "care_home", np.where(goes > 0.82, "rehabilitation", "home")),
        "insurance": np.where(insured < 0.8, "statutory", np.where(insured < 0.95, "private", "none")),
        "hba1c_true": hba1c,
    }
    for name, values in SEGMENTS.items():
        columns[name] = np.array(values)[rng.choice(len(values), size=n, p=(0.25, 0.45, 0.30))]
    return columns


def readmission_risk(patients: Columns) -> Floats:
    """P(readmitted within thirty days | everything about the patient), in (0, 1)."""
    logit = (
        -2.1
        + 0.055 * (patients["age"] - 66)
        + 0.9 * np.log1p(patients["prior_admissions"])
        + 0.9 * np.log(patients["creatinine"])
        - 0.22 * (patients["haemoglobin"] - 13)
        - 0.08 * (patients["sodium"] - 139)
        + 0.35 * (patients["hba1c_true"] - 6)
        + 0.5 * np.log(patients["length_of_stay"] / 3.7)
        + 0.7 * (patients["admission"] == "emergency")
        + 0.6 * (patients["discharge_to"] == "care_home")
    )
    return _logistic(logit)


def take(columns: Columns, rows: Array) -> Columns:
    """The chosen rows (a mask, a slice's indices) of every column."""
    return {name: values[rows] for name, values in columns.items()}


def concatenate(parts: list[Columns]) -> Columns:
    """One set of columns after the other; at least one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _logistic(logit: Array) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-logit)), dtype=np.float64)
