"""Failures to inject, declared with start and end. Each changes one thing, in the rows of its time and scope only.

Three things can go wrong, and each has its place: *who comes* (patients; their fates follow), *what the model is shown*
(features; the fates do not change), *what follows from it* (risk; nobody sees it before the labels come).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leadline.demo.cohort import NUMERIC, OLDEST, Columns, Floats

Rows = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Failure(ABC):
    """In force for predictions in [start, stop), epoch seconds. The methods return new columns, and change none."""

    start: float
    stop: float

    @property
    @abstractmethod
    def title(self) -> str:
        """What a person would call it."""

    def within(self, patients: Columns, times: Floats) -> Rows:
        """The rows that it touches."""
        return (times >= self.start) & (times < self.stop)

    def patients(self, patients: Columns, rows: Rows) -> Columns:
        return patients

    def features(self, features: Columns, rows: Rows) -> Columns:
        return features

    def risk(self, patients: Columns, risk: Floats, rows: Rows) -> Floats:
        return risk


@dataclass(frozen=True, kw_only=True)
class CovariateShift(Failure):
    """Older patients come: to one site, or to all where `site` is None. Age decides as it always did."""

    years: float = 12.0
    site: str | None = None

    @property
    def title(self) -> str:
        return f"covariate shift: patients {self.years:g} years older" + (f" at site {self.site}" if self.site else "")

    def within(self, patients: Columns, times: Floats) -> Rows:
        rows = super().within(patients, times)
        return rows if self.site is None else rows & (patients["site"] == self.site)

    def patients(self, patients: Columns, rows: Rows) -> Columns:
        older = np.minimum(patients["age"] + self.years, OLDEST)
        return patients | {"age": np.where(rows, older, patients["age"])}


@dataclass(frozen=True, kw_only=True)
class RefittedScaler(Failure):
    """One version's pipeline standardises the numbers before a model that was trained on raw ones.

    The scaler was fitted anew, on `means` and `deviations` of the live patients: what the model is shown is near N(0,
    1).
    """

    version: str
    means: dict[str, float]
    deviations: dict[str, float]

    @property
    def title(self) -> str:
        return f"re-fitted scaler in version {self.version}"

    def within(self, patients: Columns, times: Floats) -> Rows:
        rows: Rows = super().within(patients, times) & (patients["model_version"] == self.version)
        return rows

    def features(self, features: Columns, rows: Rows) -> Columns:
        scaled = {
            name: np.where(rows, (features[name] - self.means[name]) / self.deviations[name], features[name])
            for name in NUMERIC
        }
        return features | scaled

    @classmethod
    def fitted_on(cls, patients: Columns, *, version: str, start: float, stop: float) -> RefittedScaler:
        means = {name: float(np.nanmean(patients[name])) for name in NUMERIC}
        deviations = {name: float(np.nanstd(patients[name])) for name in NUMERIC}
        return cls(start=start, stop=stop, version=version, means=means, deviations=deviations)


@dataclass(frozen=True, kw_only=True)
class NullSpike(Failure):
    """One number is lost on its way to the model, in a share of the rows (those with a `luck` in [0, 1) below it)."""

    feature: str = "creatinine"
    share: float = 0.4

    def __post_init__(self) -> None:
        if self.feature not in NUMERIC:
            raise ValueError(f"{self.feature!r} is not one of {', '.join(NUMERIC)}")

    @property
    def title(self) -> str:
        return f"null spike: {self.share:.0%} of {self.feature} missing"

    def within(self, patients: Columns, times: Floats) -> Rows:
        rows: Rows = super().within(patients, times) & (patients["luck"] < self.share)
        return rows

    def features(self, features: Columns, rows: Rows) -> Columns:
        return features | {self.feature: np.where(rows, np.nan, features[self.feature])}


@dataclass(frozen=True, kw_only=True)
class ConceptDrift(Failure):
    """Patients fare differently: in one subgroup the risk turns into its opposite. Features and scores look as ever."""

    feature: str = "admission"
    value: str = "emergency"

    @property
    def title(self) -> str:
        return f"concept drift: outcomes reversed where {self.feature} = {self.value}"

    def within(self, patients: Columns, times: Floats) -> Rows:
        rows: Rows = super().within(patients, times) & (patients[self.feature] == self.value)
        return rows

    def risk(self, patients: Columns, risk: Floats, rows: Rows) -> Floats:
        return np.where(rows, 1.0 - risk, risk)
