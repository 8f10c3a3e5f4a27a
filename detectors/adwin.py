"""ADWIN (Bifet & Gavalda 2007) by river, made safe to keep: snapshots without pickle, no poison, no panic.

ADWIN holds the longest window whose halves do not differ, and so tells *since when* things are as they are. Its bound
is for values in [0, 1]: they are mapped there from [low, high] (take the reference's quantile range) and clipped, and
clipping is counted. Its false-alarm bound is per check: over an endless stream false alarms are certain. Page by an
e-detector; take the onset from here.

Feed single values. Means of micro-batches blind it: a shift seen after 450 values takes 6,300 as means of 32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

# Of river.drift, which brings pandas and scikit-learn along: seconds at the start of every process.
from river._river_rust.drift import AdaptiveWindowing

from detectors.base import BadParameter, CorruptState, Field, FloatArray, State, fingerprint, register
from detectors.sequential import Detection, SequentialDetector

_MAX_STATE_BYTES = 16_384


@register()
@dataclass(frozen=True, kw_only=True)
class AdwinConfig:
    """What to declare. ``low`` and ``high`` are in the values' unit and map to 0 and 1.

    significance: delta in the paper, the chance of a false cut at one check. clock: values between checks. The rest as
    in river: buckets of each size, least length of a sub-window, values before the first check.
    """

    kind: ClassVar[str] = "adwin"
    low: float = 0.0
    high: float = 1.0
    significance: float = 0.002
    clock: int = 32
    max_buckets: int = 5
    min_window_length: int = 5
    grace_period: int = 10

    def __post_init__(self) -> None:
        if not (np.isfinite([self.low, self.high, self.high - self.low]).all() and self.low < self.high):
            raise BadParameter(f"range [{self.low}, {self.high}] is empty or not finite")
        if not 0.0 < self.significance < 1.0:
            raise BadParameter(f"significance {self.significance} is not in (0, 1)")
        if min(self.clock, self.min_window_length, self.grace_period) < 1 or not 2 <= self.max_buckets <= 20:
            raise BadParameter("clock, min_window_length and grace_period are 1 or more, max_buckets 2 to 20")

    def build(self, state: State | None = None) -> Adwin:
        """A fresh detector, or the one that ``state`` remembers. Raises ForeignState or CorruptState."""
        return Adwin(self, state)

    def window(self) -> Any:
        """river's own window with these parameters, empty: the part of its ADWIN that remembers and has a state."""
        make: Any = AdaptiveWindowing  # river has no types
        return make(
            delta=self.significance,
            clock=self.clock,
            max_buckets=self.max_buckets,
            min_window_length=self.min_window_length,
            grace_period=self.grace_period,
        )


class Adwin(SequentialDetector):
    """The running half. ``clipped`` counts values outside [low, high]."""

    kind = AdwinConfig.kind

    def __init__(self, config: AdwinConfig, state: State | None = None) -> None:
        self._config = config
        self._window = config.window()
        self._empty: bytes = self._window.__getstate__()
        # The empty window's bytes hold every parameter and betray another layout of river's: both make a foreign state.
        super().__init__(fingerprint(self.kind, {"low": config.low, "high": config.high, "empty": self._empty}))
        self.clipped = 0
        self._drift = False
        self._width = 0
        self._total = 0.0
        if state is not None:
            self._restore(state)

    @property
    def width(self) -> int:
        """Length of the adaptive window, values."""
        return 0 if self._drift else int(self._window.get_width())

    @property
    def estimate(self) -> float:
        """Mean of the adaptive window, in the values' unit (clipped values count as the end they lie beyond)."""
        return self._unmapped(float(self._window.get_total()), self.width)

    def _scan(self, values: FloatArray) -> list[Detection]:
        config = self._config
        unit = (values - config.low) / (config.high - config.low)
        self.clipped += int(((unit < 0.0) | (unit > 1.0)).sum())
        found: list[Detection] = []
        push = self._window.update
        for index, value in enumerate(np.clip(unit, 0.0, 1.0).tolist()):
            if self._drift:
                # river's way: after a cut the next value meets an empty window
                self._window = config.window()
                push = self._window.update
                self._drift, self._width, self._total = False, 0, 0.0
            self._width += 1
            self._total += value
            if push(value):
                self._drift = True
                found.append(self._detection(index))
        return found

    def _detection(self, index: int) -> Detection:
        # The cut has left the newer part in the window: its length is the onset.
        onset, total = int(self._window.get_width()), float(self._window.get_total())
        before = self._unmapped(self._total - total, self._width - onset)
        return Detection(index=index, onset=onset, before=before, after=self._unmapped(total, onset), width=self._width)

    def _unmapped(self, total: float, n: int) -> float:
        if n <= 0:
            return float("nan")
        return self._config.low + (self._config.high - self._config.low) * total / n

    def _fields(self) -> Mapping[str, Field]:
        return {
            "clipped": self.clipped,
            "drift": self._drift,
            "width": self._width,
            "total": self._total,
            "window": self._window.__getstate__(),
        }

    def _load(self, state: State) -> None:
        self.clipped, self._width = state.integer("clipped"), state.integer("width")
        self._drift, self._total = state.flag("drift"), state.number("total")
        raw = state.raw("window")
        if not len(self._empty) <= len(raw) <= _MAX_STATE_BYTES:
            raise CorruptState(f"{self.kind}: a window of {len(raw)} bytes cannot be")
        window = self._config.window()
        try:
            window.__setstate__(raw)
            width, total = int(window.get_width()), float(window.get_total())
        except BaseException as error:
            # Rust's PanicException derives from BaseException and has no importable name; Ctrl-C must still pass.
            if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
                raise
            raise CorruptState(f"{self.kind}: river cannot read its window") from error
        consistent = width <= self._width if self._drift else width == self._width
        if not (consistent and 0 <= self._width <= self.seen and 0 <= self.clipped <= self.seen and np.isfinite(total)):
            raise CorruptState(f"{self.kind}: window and counters do not agree")
        self._window = window
