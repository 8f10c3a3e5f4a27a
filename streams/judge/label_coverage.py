"""Have the labels stopped coming? Coverage of recent cohorts against that of the model's own earlier ones at the same age.

Labels need time, so a young cohort always has few: `joined / predictions` of each quarter hour is held against the share that earlier
quarter hours had at that age. What is usual is learned twice: first the share by age, then how far a span of cohorts has ever fallen
short of it. Labels that come by the calendar (a nightly job) fall short every day: only what is worse than the last two weeks is news.
Pure; all in event time.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable
from typing import NamedTuple

import msgspec
import numpy as np

from detectors.coverage import Delays, coverage_shift, delays, expected_coverage, share_by_age
from detectors.shares import Estimate, share
from leadline.config import Rules
from streams.rules.finding import Finding, found
from streams.rules.share_rule import LIMIT_ALPHA

COHORT_S = 900
SPANS = (2, 8, 32, 128, 512, 2048)
"""Quarter hours that a look reaches back."""
LEAST_ROWS = 300
"""Earlier predictions that must have reached an age before its share is known."""
LEAST_EXPECTED = 20.0
"""Labels that a span must expect: with fewer, chance alone has none come."""
REMEMBERED = 14
"""Learning times over which the worst shortfall is remembered."""
WHOLE = 1.0 - 1e-9  # of the labels, short of rounding


def ages(window_s: float) -> list[int]:
    """Ages in quarter hours at which the share of labels is learned: 1, 2, 3, 4, 6, 8, 12, ... until no label can come any more."""
    last = max(math.ceil(window_s / COHORT_S), 1) + 1  # the youngest prediction of a quarter hour too
    grid, step = [1, 2, 3], 4
    while step < last:
        grid += [step, step + step // 2]
        step *= 2
    return [age for age in grid if age < last] + [last]


class CoverageState(msgspec.Struct):
    """What is stored of a model's coverage."""

    cohorts: dict[int, tuple[int, int]] = {}
    """Start of the quarter hour, to predictions and joined ones, as known at `closed`."""
    waiting: list[tuple[int, int, int, int]] = []
    """(quarter hour in which it was seen, cohort, predictions, joined): what is not yet past."""
    by_age: dict[int, tuple[int, int, int]] = {}
    """Age to predictions and joined ones of the cohorts that have reached it, and when the first one did."""
    worst: dict[int, dict[int, float]] = {}
    """Span to learning time, by number, to the smallest ratio of labels that came to those expected."""
    since: dict[int, int] = {}
    """When a span first expected so many labels that a ratio means something."""
    closed: int = 0


class Shortfall(NamedTuple):
    """A finding and the span of cohorts that it is about, epoch seconds."""

    finding: Finding
    start: float
    end: float


class LabelCoverage:
    """Coverage of one model. `take` adds what digests say, `advance` judges each quarter hour that is over."""

    def __init__(self, window_s: float, rules: Rules, state: CoverageState | None = None) -> None:
        self.window_s = window_s
        self.rules = rules
        self.ages = ages(window_s)
        self.state = state or CoverageState()

    def take(self, changes: Iterable[tuple[int, int, int, int, int]]) -> None:
        """Digest entries: (cohort, predictions, joined, late, quarter hour in which that was seen)."""
        self.state.waiting += [
            (seen, start, rows, joined) for start, rows, joined, _, seen in changes if rows or joined
        ]

    def has_news(self, clock: float) -> bool:
        """Whether a quarter hour has ended since the last one that was judged."""
        return int(clock // COHORT_S) * COHORT_S > self.state.closed

    def advance(self, clock: float, alpha: float) -> list[Shortfall]:
        """Judges all quarter hours that ended by `clock`; the last one speaks for them."""
        state = self.state
        last = int(clock // COHORT_S) * COHORT_S
        if not state.closed:
            first = min((seen for seen, *_ in state.waiting), default=None)
            if first is None:
                return []
            state.closed = first
        if last <= state.closed:
            return []
        state.waiting.sort()
        found_now: list[Shortfall] = []
        end = state.closed
        while end < last:
            end += COHORT_S
            if not state.cohorts:
                # Nothing to judge until something is seen: the silence of years is one step.
                seen = state.waiting[0][0] if state.waiting else last
                end = min(max(end, seen + COHORT_S), last)
            self._settle(end)
            self._learn(end)
            found_now = self._judge(end, alpha)
        state.closed = last
        return found_now

    def _settle(self, end: int) -> None:
        """Counts what was seen before `end`, and lets cohorts go whose window has closed."""
        state = self.state
        ready = bisect.bisect_left(state.waiting, (end,))
        for _, start, rows, joined in state.waiting[:ready]:
            before = state.cohorts.get(start, (0, 0))
            state.cohorts[start] = (before[0] + rows, before[1] + joined)
        del state.waiting[:ready]
        oldest = end - (self.ages[-1] + 1) * COHORT_S
        for start in [start for start in state.cohorts if start < oldest]:
            del state.cohorts[start]

    def _learn(self, end: int) -> None:
        for age in self.ages:
            cohort = self.state.cohorts.get(end - age * COHORT_S)
            if cohort is not None and cohort[0] > 0:
                rows, joined, first = self.state.by_age.get(age, (0, 0, end))
                self.state.by_age[age] = (rows + cohort[0], joined + max(cohort[1], 0), first)

    def usual(self, end: int) -> Delays | None:
        """Share of labels by age as learned until now; None until an age has been watched for long enough."""
        learning = self.rules.label_coverage_learning
        known: list[tuple[int, float, int]] = []
        for age in self.ages:
            rows, joined, first = self.state.by_age.get(age, (0, 0, end))
            if rows < LEAST_ROWS or end - first < learning:
                break
            known.append((age, joined / rows, rows))
        if not known:
            return None
        rows = min(rows for _, _, rows in known)
        shares = np.maximum.accumulate([min(share, WHOLE) for _, share, _ in known])
        return delays([0.0, *(age * float(COHORT_S) for age, _, _ in known)], np.diff(shares, prepend=0.0) * rows, rows)

    def _judge(self, end: int, alpha: float) -> list[Shortfall]:
        usual = self.usual(end)
        if usual is None:
            return []
        state, rule = self.state, self.rules.label_coverage
        longest = int(usual.edges[-1]) // COHORT_S
        shortfalls: list[Shortfall] = []
        starts = sorted(start for start in state.cohorts if start < end)
        for span in (*(span for span in SPANS if span < self.ages[-1]), self.ages[-1]):
            if span > longest:
                break  # the shares of so old cohorts are still being learned
            begin = end - span * COHORT_S
            chosen = starts[bisect.bisect_left(starts, begin) :]
            rows = np.array([state.cohorts[start][0] for start in chosen], dtype=np.float64)
            joined = float(sum(state.cohorts[start][1] for start in chosen))
            age = np.array([end - start for start in chosen], dtype=np.float64)
            due = float(rows @ share_by_age(usual, age)) if chosen else 0.0
            if due < LEAST_EXPECTED:
                continue
            ratio = joined / due
            before = self._usual_worst(span, end, ratio)
            if before is None or ratio >= (1.0 - rule.warn) * before or rows.sum() < self.rules.minimum_rows:
                continue
            shift = coverage_shift(usual, joined, age, rows, LIMIT_ALPHA)
            if float(shift.log_p) <= math.log(alpha):
                finding = found(
                    "label_coverage",
                    None,
                    "outcome",
                    float(shift.coverage.value),
                    float(shift.expected),
                    float(rows.sum()),
                    rule,
                    float("nan"),
                    float(shift.log_p),
                    1.0 - ratio,
                )
                shortfalls.append(Shortfall(finding, float(begin), float(end)))
        return shortfalls[:1]  # the shortest span says it soonest, and is over soonest

    def _usual_worst(self, span: int, end: int, ratio: float) -> float | None:
        """The smallest ratio of the learning times that are over, at most 1; None while the first one runs. Remembers `ratio`."""
        epoch = int((end - self.state.since.setdefault(span, end)) // self.rules.label_coverage_learning)
        seen = self.state.worst.setdefault(span, {})
        seen[epoch] = min(seen.get(epoch, math.inf), ratio)
        for number in [number for number in seen if number < epoch - REMEMBERED]:
            del seen[number]
        past = [worst for number, worst in seen.items() if number < epoch]
        return min(1.0, *past) if past else None

    def due(self) -> Estimate | None:
        """Joined over due predictions: those whose label could still come are left out. None while none is due."""
        rows, joined, _ = self.state.by_age.get(self.ages[-1], (0, 0, 0))
        return share(joined, rows) if rows else None

    def expected(self) -> tuple[Estimate, float] | None:
        """Coverage of the cohorts whose window is open, and what earlier cohorts had at the same ages; None while that is learned."""
        usual = self.usual(self.state.closed)
        if usual is None:
            return None
        reach = int(usual.edges[-1])
        young = [start for start in self.state.cohorts if self.state.closed - reach <= start < self.state.closed]
        if not young:
            return None
        rows = np.array([self.state.cohorts[start][0] for start in young], dtype=np.float64)
        joined = sum(self.state.cohorts[start][1] for start in young)
        age = np.array([self.state.closed - start for start in young], dtype=np.float64)
        return share(joined, rows.sum()), float(expected_coverage(usual, age, rows))
