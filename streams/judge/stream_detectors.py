"""The sequential detectors of one stream: how the false-alarm budget sets them, and how they are stored."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.adwin import Adwin, AdwinConfig
from detectors.base import State
from detectors.edetector import EDetector, EDetectorConfig
from detectors.page_hinkley import PageHinkley, PageHinkleyConfig
from leadline.config import Rules
from streams.counting.value_streams import ValueStream

ADWIN_CHECKS = 32  # values between two looks
VERSIONS = 4  # versions and stages that share a model's budget; a fixed number, because detectors cannot change theirs
BUDGET_SHARE = 0.25  # of the model's false alarms, for the e-detectors' own alarms; as much again is for e-BH, the rest for the spans
MARKS = 200  # chunks whose times are remembered


class DetectorsRow(msgspec.Struct, array_like=True):
    """The stored form of one stream's detectors: snapshots in the order ADWIN, e-detector, Page-Hinkley."""

    snapshots: list[bytes] = []
    taken: int = 0
    marks: list[tuple[int, float]] = []


class Detectors:
    """Those of one stream of one version. `marks` are (values taken before a chunk, time of its first value): an onset may lie before the
    chunk that tells it."""

    def __init__(self, adwin: Adwin, edetector: EDetector, page_hinkley: PageHinkley | None, row: DetectorsRow) -> None:
        self.adwin, self.edetector, self.page_hinkley = adwin, edetector, page_hinkley
        self.taken, self.marks = row.taken, row.marks

    def begin(self, times: npt.NDArray[np.float64]) -> None:
        """A chunk of values at these times is being taken."""
        self.marks = [*self.marks[-MARKS + 1 :], (self.taken, float(times[0]))]
        self.taken += len(times)

    def time(self, place: int, times: npt.NDArray[np.float64]) -> float:
        """Time of the value at `place` of the present chunk, which for an older value is negative: then that of its chunk's first."""
        if place >= 0:
            return float(times[place])
        position = self.taken - len(times) + place
        return next((time for start, time in reversed(self.marks) if start <= position), self.marks[0][1])

    def row(self) -> DetectorsRow:
        kept = [self.adwin, self.edetector, *([self.page_hinkley] if self.page_hinkley is not None else [])]
        return DetectorsRow([detector.snapshot().to_bytes() for detector in kept], self.taken, self.marks)


def adwin_significance(rules: Rules, month: float) -> float:
    """The budget over the looks at `month` values."""
    return max(rules.false_alarms_per_month / (month / ADWIN_CHECKS), 1e-9)


def build_detectors(stream: ValueStream, rules: Rules, streams: int, month: float, row: DetectorsRow) -> Detectors:
    """Detectors of one of a model's `streams`, fresh or as `row` holds them; `month` is the most values that a month lets through.

    Raises ForeignState where the row's were set otherwise, CorruptState where it cannot be read.
    """
    states: list[State | None] = [State.from_bytes(item) for item in row.snapshots] or [None, None, None]
    alpha = BUDGET_SHARE * rules.false_alarms_per_month / (streams * VERSIONS * month)
    adwin = AdwinConfig(significance=adwin_significance(rules, month), clock=ADWIN_CHECKS)
    baseline = min(max(stream.mean, 0.0), 1.0)
    edetector = EDetectorConfig(baseline=baseline, tolerance=stream.tolerance, alpha=min(alpha, 0.05))
    page_hinkley = None
    if rules.page_hinkley is not None:
        slack = stream.tolerance / stream.sd / 2
        config = PageHinkleyConfig(centre=stream.mean, spread=stream.sd, slack=slack, threshold=rules.page_hinkley)
        page_hinkley = config.build(states[2] if len(states) > 2 else None)
    return Detectors(adwin.build(states[0]), edetector.build(states[1]), page_hinkley, row)
