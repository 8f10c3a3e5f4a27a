"""What all sequential detectors share: the detection they report, their counters, and how a batch becomes a verdict.

A sequential detector takes single values in order. It is fed by one owner and cannot be merged. After a detection it
starts afresh and goes on; the counts of values and detections are its own and never restart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detectors.base import CorruptState, Field, FloatArray, Level, State, Verdict, finite_values


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """One change found while a batch was fed.

    Attributes:
        index: position in the batch of the value that completed the evidence (0-based).
        onset: estimated start, in values before and including that one (1 = that very value).
        before: mean from the last restart to the onset, in the values' own unit; NaN where the onset is the restart.
        after: mean from the onset on.
        width: values from the last restart to the detection.
    """

    index: int
    onset: int
    before: float
    after: float
    width: int


class SequentialDetector(ABC):
    """Base of the detectors that take values one by one."""

    kind: str
    version: int = 1

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self.seen = 0
        """Values taken since the beginning."""
        self.detections = 0
        """Changes found since the beginning."""

    @abstractmethod
    def _scan(self, values: FloatArray) -> list[Detection]:
        """Take finite values; every change found, in order."""

    @abstractmethod
    def _fields(self) -> Mapping[str, Field]:
        """The memory beyond the counters."""

    @abstractmethod
    def _load(self, state: State) -> None:
        """Read what ``_fields`` wrote. Raises CorruptState."""

    @property
    @abstractmethod
    def estimate(self) -> float:
        """Mean since the last restart, in the values' own unit; NaN where nothing was taken."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Values behind ``estimate``."""

    def update_many(self, values: Any, /) -> tuple[Detection, ...]:
        """Take a batch in order; every detection. Raises BadValues, and is then unchanged."""
        return tuple(self._take(finite_values(values)))

    def update(self, values: Any, /) -> Verdict | None:
        """Take a batch in order: critical if it holds a detection (the last one is reported), else ok; None if
        empty."""
        numbers = finite_values(values)
        if numbers.size == 0:
            return None
        found = self._take(numbers)
        if not found:
            return Verdict(level=Level.OK, value=self.estimate, n=self.width)
        last = found[-1]
        return Verdict(
            level=Level.CRITICAL,
            value=last.after,
            n=last.width,
            reference=last.before,
            onset=last.onset + numbers.size - 1 - last.index,
        )

    def _take(self, numbers: FloatArray) -> list[Detection]:
        found = self._scan(numbers)
        self.seen += numbers.size
        self.detections += len(found)
        return found

    def snapshot(self) -> State:
        """A copy of the whole memory."""
        counters: dict[str, Field] = {"seen": self.seen, "detections": self.detections}
        return State(self.kind, self.version, self._mark, counters | dict(self._fields()))

    def _restore(self, state: State) -> None:
        state.require(self.kind, self.version, self._mark)
        self.seen, self.detections = state.integer("seen"), state.integer("detections")
        if self.seen < 0 or not 0 <= self.detections <= self.seen:
            raise CorruptState(f"{self.kind}: {self.detections} detections in {self.seen} values cannot be")
        self._load(state)
