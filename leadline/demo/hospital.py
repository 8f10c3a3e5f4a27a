"""The service: it answers requests and hears, later, how they ended. Nothing in here waits, and nothing remembers.

Request number i comes in its own slot of 1/rate seconds after `began`, and all that chance decides about it follows
from (seed, i). So `rows` is a function: the same interval gives the same rows, however it is cut, live or in a test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from leadline.demo.cohort import FEATURES, NUMERIC, SEGMENTS, Columns, Floats, concatenate, draw, readmission_risk, take
from leadline.demo.failures import Failure
from leadline.demo.model import THRESHOLD, Model
from leadline.events import Label, Prediction

MODEL_ID = "readmission"
VERSIONS = {
    "3.0.0": 0.5,
    "3.1.0": 0.5,
}  # both live, with their shares of the traffic; same weights, another serving image
BLOCK = 256  # requests that are drawn together
_SERVICE = 3  # the service's stream of random numbers, apart from those of training and reference


class Rows(NamedTuple):
    """Predictions answered in an interval and labels that became known in it, each in order of time."""

    predictions: list[Prediction]
    labels: list[Label]


@dataclass(frozen=True)
class Service:
    """`rate` requests a second from `began` (epoch seconds) on; labels `delay_s` = (least, mean, most) seconds later.

    `labelled` is the share of requests whose end anybody ever learns. `prefix` makes the ids of one run its own.
    """

    model: Model
    began: float
    rate: float = 300.0
    seed: int = 7
    delay_s: tuple[float, float, float] = (1.0, 3.0, 8.0)
    labelled: float = 0.97
    prefix: str = "visit"
    versions: dict[str, float] = field(default_factory=lambda: dict(VERSIONS))

    def __post_init__(self) -> None:
        least, mean, most = self.delay_s
        if not 0 <= least < mean <= most:
            raise ValueError(f"delay_s must be least < mean <= most, not {self.delay_s}")
        if not self.rate > 0:
            raise ValueError("rate must be above 0")
        if not math.isclose(sum(self.versions.values()), 1.0):
            raise ValueError("the versions' shares must add up to 1")

    def rows(self, t0: float, t1: float, failures: Sequence[Failure] = ()) -> Rows:
        """What happens in [t0, t1). The end of a request answered before t0 may be among the labels.

        `failures` are all of the run, also those of the past: they decided the ends that become known now.
        """
        return Rows(self._predictions(t0, t1, failures), self._labels(t0, t1, failures))

    def patients(self, t0: float, t1: float) -> Columns:
        """Who comes in [t0, t1) while nothing fails, with `time`, `model_version` and all else that chance decides."""
        # A slot more at both ends, because times are rounded; what lies outside is cut below.
        first = max(0, math.floor((t0 - self.began) * self.rate) - 1)
        last = math.ceil((t1 - self.began) * self.rate) + 1
        if last <= first:
            return take(self._block(0), np.zeros(0, dtype=np.int64))
        blocks = concatenate([self._block(number) for number in range(first // BLOCK, (last - 1) // BLOCK + 1)])
        return take(blocks, (blocks["time"] >= t0) & (blocks["time"] < t1))

    def _block(self, number: int) -> Columns:
        shares = tuple(self.versions.items())
        return _block(number, self.seed, self.began, self.rate, self.delay_s, self.labelled, shares)

    def _predictions(self, t0: float, t1: float, failures: Sequence[Failure]) -> list[Prediction]:
        patients = self._come(t0, t1, failures)
        shown = {name: patients[name] for name in FEATURES}
        for failure in failures:
            shown = failure.features(shown, failure.within(patients, patients["time"]))
        scores = np.round(self.model.score(shown), 6)
        features = _records({name: np.round(v, 6) if name in NUMERIC else v for name, v in shown.items()})
        segments = _records({name: patients[name] for name in SEGMENTS})
        return [
            Prediction(
                request_id=self._id(index),
                model_id=MODEL_ID,
                model_version=version,
                timestamp=time,
                score=score,
                prediction=int(score >= THRESHOLD),
                features=row,
                segments=segment,
                stage="live",
                latency_ms=latency,
            )
            for index, version, time, score, row, segment, latency in zip(
                patients["index"].tolist(),
                patients["model_version"].tolist(),
                patients["time"].tolist(),
                scores.tolist(),
                features,
                segments,
                patients["latency_ms"].tolist(),
                strict=True,
            )
        ]

    def _labels(self, t0: float, t1: float, failures: Sequence[Failure]) -> list[Label]:
        patients = self._come(t0 - self.delay_s[2], t1, failures)
        risk = readmission_risk(patients)
        for failure in failures:
            risk = failure.risk(patients, risk, failure.within(patients, patients["time"]))
        due = (patients["due"] >= t0) & (patients["due"] < t1)  # NaN, never learned, is neither
        order = np.argsort(patients["due"][due], kind="stable")
        ends = (patients["fate"] < risk)[due][order].tolist()
        whose, when = patients["index"][due][order].tolist(), patients["due"][due][order].tolist()
        return [
            Label(request_id=self._id(index), label=int(end), timestamp=time)
            for index, end, time in zip(whose, ends, when, strict=True)
        ]

    def _come(self, t0: float, t1: float, failures: Sequence[Failure]) -> Columns:
        patients = self.patients(t0, t1)
        for failure in failures:
            patients = failure.patients(patients, failure.within(patients, patients["time"]))
        return patients

    def _id(self, index: int) -> str:
        return f"{self.prefix}-{index:08d}"


@lru_cache(maxsize=512)
def _block(
    number: int,
    seed: int,
    began: float,
    rate: float,
    delay_s: tuple[float, float, float],
    labelled: float,
    versions: tuple[tuple[str, float], ...],
) -> Columns:
    rng = np.random.default_rng([seed, _SERVICE, number])
    patients = draw(rng, BLOCK)
    index = np.arange(number * BLOCK, (number + 1) * BLOCK)
    # Rounded down to microseconds: a time that is printed and read again is the same, and stays in its slot.
    time = began + np.floor((index + rng.random(BLOCK)) / rate * 1e6) / 1e6
    least, mean, most = delay_s
    delay = np.minimum(least + (mean - least) * rng.exponential(size=BLOCK), most)
    learned = rng.random(BLOCK) < labelled
    names = np.array([name for name, _ in versions])
    return patients | {
        "index": index,
        "time": time,
        "model_version": names[rng.choice(len(versions), size=BLOCK, p=[share for _, share in versions])],
        "due": np.where(learned, np.round(time + delay, 6), np.nan),
        "latency_ms": np.round(12.0 * np.exp(0.4 * rng.standard_normal(BLOCK)), 2),
        "fate": rng.random(BLOCK),
        "luck": rng.random(BLOCK),
    }


def _records(columns: Columns) -> list[dict[str, Any]]:
    """One dict for each row; a missing number is None."""
    values = [[None if value != value else value for value in column.tolist()] for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


__all__ = ["BLOCK", "MODEL_ID", "VERSIONS", "Floats", "Rows", "Service"]
