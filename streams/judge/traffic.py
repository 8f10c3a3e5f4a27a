"""Segments whose share of the traffic is not what it uses to be at this time of day: gone, halved, doubled.

Pure. A share has its cycles: a clinic closes at night, a branch at weekends. So it is compared with the same hours of the seven days
before, of those that are workdays or weekends like it, an hour to either side, and speaks only where it is past *every* one of them. The
reference has no hours, and training rows are often a chosen sample: it is not asked. Versions are left out: people move their traffic on
purpose.

Rows do not come independently of each other: a batch job sends one segment after another, a region wakes up late. How far
the shares of windows of this length have differed from those a day before, over what rows drawn one by one would, divides the
rows that count as evidence.

Nothing is said before there is a whole day of the same kind (workday, weekend) to compare with, and `LEAST_PAIRS` pairs of windows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.shares import binomial_log_tail, lower_limit, upper_limit
from leadline.config import Limits
from streams.judge.incidents import TRAFFIC_SHARE, Firing, Incident, Where
from streams.judge.spans import BLOCKS, Spans
from streams.rules.finding import Finding, found
from streams.rules.share_rule import LIMIT_ALPHA

HOUR_S = 3600.0
DAY = 24
LAGS = 7
LONGEST = 2 * DAY  # hours of a span: weeks are compared by their days
KEPT = LAGS * DAY + LONGEST + 4
SHIFTS = (-1, 0, 1)
EASE = 0.6  # a share is back when it is within this share of the limit
LEAST_BEFORE = 30  # rows of all traffic in an hour's window: fewer tell nothing about shares
LEAST_PAIRS = 8  # of windows a day apart: fewer tell nothing about how shares vary
IRREGULAR = (
    2.0  # dispersion from which hours mean nothing: a share must be past all windows, not only those of its hour
)
MOST_KNOWN = 256
LEAST_OF_IT = 5  # rows of the segment in a window: one that hardly ever came is new, not changed
WEEKDAY_OF_HOUR_0 = 3  # 1970-01-01 was a Thursday
ALL = Where(None, "live", None)


class TrafficState(msgspec.Struct):
    """Rows by hour from `first` on: those of all traffic under "", and of each segment. `began` is the first hour that was ever seen."""

    began: int = 0
    first: int = 0
    rows: dict[str, list[int]] = {}


class Usual(NamedTuple):
    """A segment's shares in the windows before, and their pooled counts by shift [shifts]."""

    lowest: float
    highest: float
    """Of the windows of its hours, or, where hours mean nothing, of all windows of the span's length."""
    hits: npt.NDArray[np.float64]
    rows: npt.NDArray[np.float64]
    settled: bool
    """Whether it came on every day of the kind: what is new rises every hour."""
    dispersion: float
    """Variance of its share between days over that of independent rows, at least 1."""


class Windows(NamedTuple):
    """The same hours of the days before."""

    rows: npt.NDArray[np.float64]
    """[lags, shifts]"""
    hits: npt.NDArray[np.float64]
    """[segments, lags, shifts]: rows of each segment."""
    usable: npt.NDArray[np.bool_]
    """[lags, shifts]: whether they hold rows enough, and the day is of the span's kind."""


class Varied(NamedTuple):
    """How each segment's share varied between windows of one length, [segments] each."""

    dispersion: npt.NDArray[np.float64]
    least: npt.NDArray[np.float64]
    greatest: npt.NDArray[np.float64]


def _usual(windows: Windows, varied: Varied, at: int) -> Usual:
    rows, hits, usable = windows
    shares = hits[at][usable] / rows[usable]
    lowest, highest, dispersion = float(shares.min()), float(shares.max()), float(varied.dispersion[at])
    if dispersion > IRREGULAR:
        lowest, highest = min(lowest, float(varied.least[at])), max(highest, float(varied.greatest[at]))
    settled = bool((hits[at].max(axis=1)[usable.any(axis=1)] >= LEAST_OF_IT).all())
    return Usual(lowest, highest, (hits[at] * usable).sum(axis=0), (rows * usable).sum(axis=0), settled, dispersion)


def _weekends(hours: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    return np.asarray((hours // DAY + WEEKDAY_OF_HOUR_0) % 7 >= 5)


class Traffic:
    """Counts rows by hour and holds spans against them. `cells` is the model's own mapping; times are panes unless they say hours."""

    def __init__(self, cells: Mapping[Where, Spans], pane_s: float, limits: Limits) -> None:
        self.cells, self.pane_s, self.limits = cells, pane_s, limits
        self.first = 0
        """The hour of the first column."""
        self.began: int | None = None
        self.names: dict[str, int] = {"": 0}
        self.table = np.zeros((1, KEPT), dtype=np.int64)
        self._before: dict[tuple[int, int, float], dict[str, Usual]] = {}
        """What came before spans of these hours: (first hour, end, end of what may be asked), worked out once for all looks at them."""
        self._latest = 0
        """The latest first hour of them."""

    def save(self) -> TrafficState:
        used = np.flatnonzero(self.table[0])
        if self.began is None or not len(used):
            return TrafficState()
        low, high = int(used[0]), int(used[-1]) + 1
        return TrafficState(
            self.began, self.first + low, {name: self.table[at, low:high].tolist() for name, at in self.names.items()}
        )

    def restore(self, state: TrafficState) -> None:
        if not state.rows:
            return
        self._before.clear()
        self.began, self.first = state.began, state.first
        self.names = {name: at for at, name in enumerate(state.rows)}
        self.table = np.zeros((len(state.rows), KEPT), dtype=np.int64)
        for at, rows in enumerate(state.rows.values()):
            self.table[at, : len(rows)] = rows

    def count(self, segment: str | None, pane: int, rows: float) -> None:
        """Takes rows of all live versions in."""
        hour = int(pane * self.pane_s // HOUR_S)
        if self.began is None:
            self.began, self.first = hour, hour
        at = self.names.setdefault(segment or "", len(self.names))
        if at == len(self.table):
            self.table = np.vstack([self.table, np.zeros((1, KEPT), dtype=np.int64)])
            self._before.clear()
        past = hour - self.first - KEPT + 1
        if past > 0:
            self.table = np.roll(self.table, -min(past, KEPT), axis=1)
            self.table[:, max(KEPT - past, 0) :] = 0
            self.first += past
            self._before.clear()
        if hour < self._latest:
            self._before.clear()  # a late row: what lies before these spans is not what it was
        if hour >= self.first:
            self.table[at, hour - self.first] += round(rows)

    def firings(
        self, closing: Iterable[tuple[int, int, Where]], when: float, alpha: float, least: float
    ) -> Iterator[Firing]:
        """What stands out in the spans that end now: (level, block, cell) of every block that closed at `when`, epoch seconds."""
        whole = self.cells.get(ALL)
        if whole is None or len(self.names) == 1:
            return
        for level, block, where in closing:
            if where.segment is None and where == ALL:
                for count, _ in whole.looks(level, block, least):
                    start = (block - count + 1 << level) * self.pane_s
                    for name, finding in self.findings(level, count, block, alpha):
                        yield Firing(Where(None, "live", name), finding, start, when, (level, count, block))

    def clean_since(self, incident: Incident, rows: float, end: int, alpha: float) -> int | None:
        """The first pane of a recent span of so many rows in which the incident's segment has the share that it had before; None while it
        has not. A share that has no day before it to compare with any more is the usual one."""
        whole = self.cells.get(ALL)
        for level in range(whole.levels if whole is not None else 0):
            assert whole is not None
            block = (end >> level) - 1
            for count in range(1 if level == 0 else BLOCKS // 2, BLOCKS + 1):
                first = max(block - count + 1, -(-whole.not_before >> level))
                if whole.rows_between(level, first, block) < rows:
                    continue
                still = self.findings(
                    level, count, block, alpha, only=incident.where.segment, before=incident.onset_low, ease=EASE
                )
                return None if any(still) else first << level
        return None

    def findings(
        self,
        level: int,
        count: int,
        block: int,
        alpha: float,
        *,
        only: str | None = None,
        before: float = math.inf,
        ease: float = 1.0,
    ) -> Iterator[tuple[str, Finding]]:
        """Segments (name=value) whose share of the span is past both doors. With `only` that one; windows end
        `before` (epoch seconds); `ease` is a factor of the limit."""
        whole = self.cells.get(ALL)
        if whole is None or self.began is None or len(self.names) == 1:
            return
        first = max(block - count + 1, -(-whole.not_before >> level))
        start, end = first << level, (block + 1) << level
        if (end - start) * self.pane_s > LONGEST * HOUR_S:
            return
        total = whole.rows_between(level, first, block)
        if total < -math.log(alpha):
            return  # not even a segment that holds all the traffic could be missed in so few rows
        for name, usual in self._came_before(start, end, before).items():
            if only is not None and name != only:
                continue
            spans = self.cells.get(Where(None, "live", name))
            live = spans.rows_between(level, first, block) if spans is not None else 0.0
            finding = self._judge(live, total, usual, alpha, self.limits.warn * ease)
            if finding is not None:
                yield name, finding

    def _came_before(self, start: int, end: int, before: float) -> dict[str, Usual]:
        """By the hours that the span touches: nothing of it depends on the span's own rows. Empty where nothing can be compared with."""
        low, high = int(start * self.pane_s // HOUR_S), math.ceil(end * self.pane_s / HOUR_S)
        key = (low, high, before)
        known = self._before.get(key)
        if known is None:
            if len(self._before) >= MOST_KNOWN:
                self._before.clear()
            if not self._before:
                self._latest = low
            self._latest = max(self._latest, low)
            windows = self._windows(low, high, before)
            varied = self._varied(low, high, before) if windows is not None else None
            known = self._before[key] = {}
            if windows is not None and varied is not None:
                known.update((name, _usual(windows, varied, at)) for name, at in self.names.items() if at)
        return known

    def _windows(self, low: int, high: int, before: float) -> Windows | None:
        """None where no window before can be compared with."""
        assert self.began is not None
        lags = DAY * np.arange(1, LAGS + 1)
        begin, end = low - lags, high - lags
        # The first hour was not seen whole; windows must end before the span, and before the fault that is looked at again.
        known = (begin - 1 > self.began) & (begin - 1 >= self.first) & (end + 1 <= low) & ((end + 1) * HOUR_S <= before)
        if not known.any():
            return None
        hours = np.array([*range(low, high, DAY), high - 1])
        alike = (_weekends(hours[:, None] - lags) == _weekends(hours)[:, None]).all(axis=0)
        sums, shifts = self._sums(), np.array(SHIFTS)[:, None]
        counted = np.zeros((len(self.table), len(SHIFTS), LAGS))
        counted[:, :, known] = sums[:, end[known] + shifts - self.first] - sums[:, begin[known] + shifts - self.first]
        hits = counted.transpose(0, 2, 1)
        usable = (hits[0] >= LEAST_BEFORE) & (known & alike)[:, None]
        return Windows(hits[0], hits, usable) if usable.any() else None

    def _sums(self) -> npt.NDArray[np.float64]:
        """Rows of each segment before each hour of the table, [segments, hours + 1]."""
        return np.concatenate([np.zeros((len(self.table), 1)), np.cumsum(self.table, axis=1)], axis=1)

    def _varied(self, low: int, high: int, before: float) -> Varied | None:
        """Of windows as long as the span; None where there are too few of them.

        Dispersion is the mean squared difference of a window's share from the one of the same hours some days before, in units of what
        independent rows would give, for the number of days at which it is greatest: what drifts differs most from what is long past.
        """
        last = min(low, int(before // HOUR_S) if math.isfinite(before) else low)
        sums = self._sums()
        pairs = [self._pairs(sums, high - low, last, days) for days in range(-(-(high - low) // DAY), LAGS + 1)]
        told = [pair for pair in pairs if pair.shape[-1] >= LEAST_PAIRS]
        if not told:
            return None
        dispersion = np.ones(len(self.table))
        for late, early in told:
            pooled = (late + early) / (late[0] + early[0])
            noise = pooled * (1.0 - pooled) * (1.0 / late[0] + 1.0 / early[0])
            squares = (late / late[0] - early / early[0]) ** 2
            ratio = np.divide(squares, noise, out=np.zeros_like(squares), where=noise > 0)
            dispersion = np.maximum(dispersion, ratio.sum(axis=1) / np.maximum((noise > 0).sum(axis=1), 1))
        shares = np.concatenate([rows / rows[0] for pair in told for rows in pair], axis=1)
        return Varied(dispersion, shares.min(axis=1), shares.max(axis=1))

    def _pairs(self, sums: npt.NDArray[np.float64], length: int, last: int, days: int) -> npt.NDArray[np.float64]:
        """[2, segments, pairs]: rows of windows of `length` hours up to the hour `last`, and of those so many days before. `sums` are the
        table's, cumulated."""
        assert self.began is not None
        lag = days * DAY
        ends = np.arange(last - self.first, max(self.began + 1 - self.first, 0) + lag + length - 1, -length)
        hours = self.first + np.stack([ends - length, ends - 1])
        ends = ends[(_weekends(hours - lag) == _weekends(hours)).all(axis=0)]
        pairs = np.stack([sums[:, ends - back] - sums[:, ends - back - length] for back in (0, lag)])
        return np.asarray(pairs[:, :, (pairs[:, 0] >= LEAST_BEFORE).all(axis=0)], dtype=np.float64)

    def _judge(self, live: float, total: float, usual: Usual, alpha: float, warn: float) -> Finding | None:
        """Past every window by the limits' factor, and past what their pooled share allows at any of the shifts."""
        share, lowest, highest = live / total, usual.lowest, usual.highest
        if not share * warn < lowest and not (share >= warn * highest and usual.settled):
            return None
        some = usual.rows > 0
        hits, rows = usual.hits[some] / usual.dispersion, usual.rows[some] / usual.dispersion
        k, n = live / usual.dispersion, total / usual.dispersion
        if share * warn < lowest:
            limit = float(lower_limit(hits, rows, LIMIT_ALPHA).min())
            log_p = float(binomial_log_tail(k, n, limit, "lower")) if limit > 0 else 0.0
            compared, times = lowest, lowest * total / (live + 0.5)
        else:
            limit = float(upper_limit(hits, rows, LIMIT_ALPHA).max())
            log_p = float(binomial_log_tail(k, n, limit, "upper"))
            compared, times = highest, share / highest
        if log_p > math.log(alpha):
            return None
        return found(
            TRAFFIC_SHARE, None, "operation", share, compared, total, self.limits, limit, log_p, max(times, warn)
        )
