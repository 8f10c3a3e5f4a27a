"""A sequential alarm with a false-alarm budget: the Shiryaev-Roberts mixture e-detector (Shin, Ramdas & Rinaldo 2022).

For x in [0, 1] whose mean is at most m0 the factor L = 1 + bet (x - m0) has mean at most 1. M = (M_prev + 1) L grows
by at most 1 a value on average, so an alarm at M >= 1 / alpha comes, without any change, after 1 / alpha values on
average *or later*: for any distribution, whatever the variance, with no window to choose. A mixture over several bets
(and over both directions) keeps the promise. M is kept as a logarithm and never overflows.

It lies where values depend on each other (a daily rhythm is a change of the mean) and where the baseline is wrong:
give the baseline's own error as ``tolerance``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from detectors.base import BadParameter, CorruptState, Field, FloatArray, IntArray, State, fingerprint, register
from detectors.sequential import Detection, SequentialDetector

_BLOCK: Final = 256
_SAFE_RANGE: Final = 600.0
_SMALLEST_MEAN: Final = 1e-3
"""Bets are at most 1 / mean: a baseline of 0 would allow infinite ones."""


@register(example=lambda: EDetectorConfig(baseline=0.4, alpha=1e-3))
@dataclass(frozen=True, kw_only=True)
class EDetectorConfig:
    """What to declare. Values in [low, high] (their unit) map to [0, 1]; outside they are clipped and counted.

    baseline: the mean without a change, in the values' unit, known to +/- ``tolerance``. alpha: the budget, one false
    alarm in 1 / alpha values at most. bets: how many, from 1 % to 90 % of the largest that cannot go bankrupt.
    """

    kind: ClassVar[str] = "edetector"
    baseline: float
    tolerance: float = 0.0
    low: float = 0.0
    high: float = 1.0
    alpha: float = 1e-6
    bets: int = 8

    def __post_init__(self) -> None:
        if not (np.isfinite([self.low, self.high, self.high - self.low]).all() and self.low < self.high):
            raise BadParameter(f"range [{self.low}, {self.high}] is empty or not finite")
        if not self.low <= self.baseline <= self.high or not 0.0 <= self.tolerance < math.inf:
            raise BadParameter("baseline lies in [low, high], tolerance is 0 or more")
        if not 0.0 < self.alpha < 1.0 or not 1 <= self.bets <= 64:
            raise BadParameter("alpha lies in (0, 1), bets are 1 to 64")

    def build(self, state: State | None = None) -> EDetector:
        """A fresh detector, or the one that ``state`` remembers. Raises ForeignState or CorruptState."""
        return EDetector(self, state)

    @property
    def fingerprint(self) -> bytes:
        """16 bytes; equal exactly when the parameters are."""
        names = ("baseline", "tolerance", "low", "high", "alpha")
        return fingerprint(self.kind, {name: float(getattr(self, name)) for name in names} | {"bets": self.bets})

    def wagers(self) -> tuple[FloatArray, FloatArray]:
        """(bets, means), each float64[2 * bets], on the unit scale: the first half bets on a rise, the second on a
        fall."""
        span = self.high - self.low
        up = (self.baseline + self.tolerance - self.low) / span
        down = (self.baseline - self.tolerance - self.low) / span
        up, down = min(max(up, _SMALLEST_MEAN), 1.0), max(min(down, 1.0 - _SMALLEST_MEAN), 0.0)
        steps = np.geomspace(0.01, 0.9, self.bets) if self.bets > 1 else np.array([0.25])
        bets = np.concatenate([steps / up, -steps / (1.0 - down)])
        return bets, np.repeat([up, down], self.bets)


class EDetector(SequentialDetector):
    """The running half: log M and, for the onset, the best single start (CUSUM) of each bet."""

    kind = EDetectorConfig.kind

    def __init__(self, config: EDetectorConfig, state: State | None = None) -> None:
        self._config = config
        super().__init__(config.fingerprint)
        self._bets, self._means = config.wagers()
        self._threshold = -math.log(config.alpha)
        self.clipped = 0
        self._restart()
        if state is not None:
            self._restore(state)

    def _restart(self) -> None:
        size = self._bets.size
        self._n = 0
        self._total = 0.0
        self._log_m: FloatArray = np.full(size, -np.inf)
        self._log_best: FloatArray = np.full(size, -np.inf)
        # values, and their total, before the start that makes each bet's best product
        self._start: IntArray = np.zeros(size, dtype=np.int64)
        self._start_total: FloatArray = np.zeros(size)

    @property
    def threshold(self) -> float:
        """-ln(alpha): an alarm lies there."""
        return self._threshold

    @property
    def log_e(self) -> float:
        """ln M of the mixture: an alarm lies at -ln(alpha). -inf before the first value."""
        return float(np.logaddexp.reduce(self._log_m) - math.log(self._bets.size))

    @property
    def log_e_value(self) -> float:
        """ln(M / n), n the values since the restart: without a change M / n has mean at most 1 (for :func:`e_bh`)."""
        return self.log_e - math.log(self._n) if self._n else 0.0

    @property
    def width(self) -> int:
        """Values since the last restart."""
        return self._n

    @property
    def estimate(self) -> float:
        """Mean since the last restart, in the values' unit."""
        return self._unmapped(self._total, self._n)

    def _scan(self, values: FloatArray) -> list[Detection]:
        config = self._config
        unit = (values - config.low) / (config.high - config.low)
        self.clipped += int(((unit < 0.0) | (unit > 1.0)).sum())
        unit = np.clip(unit, 0.0, 1.0)
        found: list[Detection] = []
        at = 0
        while at < unit.size:
            taken, alarm = self._block(unit[at : at + _BLOCK])
            at += taken
            if alarm:
                found.append(self.leading(at - 1))
                self._restart()
        return found

    def _block(self, x: FloatArray) -> tuple[int, bool]:
        """Take values up to the first alarm: (how many, whether it is one)."""
        gains = np.log1p(self._bets[:, None] * (x - self._means[:, None]))
        sums = np.cumsum(gains, axis=1)
        before = np.concatenate([np.zeros((sums.shape[0], 1)), sums[:, :-1]], axis=1)
        # M_t = prod_1^t (M_0 + sum over starts s of 1 / prod_1^(s-1)): the recursion unrolled, in logarithms
        starts = np.concatenate([self._log_m[:, None], -before], axis=1)
        log_m = sums + _log_running_sum(starts)[:, 1:]
        mixed = np.logaddexp.reduce(log_m, axis=0) - math.log(self._bets.size)
        crossed = np.flatnonzero(mixed >= self._threshold)
        taken = int(crossed[0]) + 1 if crossed.size else x.size
        self._follow_onsets(x[:taken], sums[:, taken - 1], before[:, :taken])
        self._log_m = log_m[:, taken - 1].copy()
        return taken, bool(crossed.size)

    def _follow_onsets(self, x: FloatArray, last: FloatArray, before: FloatArray) -> None:
        totals = self._total + np.concatenate([[0.0], np.cumsum(x)])
        # of equally good starts the latest: values that sit on the baseline belong to the time before
        best = x.size - 1 - before[:, ::-1].argmin(axis=1)
        fresh = -before[np.arange(best.size), best]
        newer = fresh >= self._log_best
        self._log_best = last + np.where(newer, fresh, self._log_best)
        self._start = np.where(newer, self._n + best, self._start)
        self._start_total = np.where(newer, totals[best], self._start_total)
        self._n += x.size
        self._total = float(totals[-1])

    def leading(self, index: int = -1) -> Detection:
        """The change that the evidence so far points to, alarm or not; `index` is put into it."""
        leader = int(self._log_m.argmax())
        start, total = int(self._start[leader]), float(self._start_total[leader])
        onset = self._n - start
        return Detection(
            index=index,
            onset=onset,
            before=self._unmapped(total, start),
            after=self._unmapped(self._total - total, onset),
            width=self._n,
        )

    def _unmapped(self, total: float, n: int) -> float:
        return self._config.low + (self._config.high - self._config.low) * total / n if n else math.nan

    def _fields(self) -> Mapping[str, Field]:
        return {
            "clipped": self.clipped,
            "n": self._n,
            "total": self._total,
            "log_m": self._log_m.copy(),
            "log_best": self._log_best.copy(),
            "start": self._start.copy(),
            "start_total": self._start_total.copy(),
        }

    def _load(self, state: State) -> None:
        shape = self._bets.shape
        self.clipped, self._n = state.integer("clipped"), state.integer("n")
        self._total = state.number("total")
        self._log_m = state.array("log_m", np.float64, shape)
        self._log_best = state.array("log_best", np.float64, shape)
        self._start = state.array("start", np.int64, shape)
        self._start_total = state.array("start_total", np.float64, shape)
        floats = np.concatenate([self._log_m, self._log_best, self._start_total])
        inside = ((self._start >= 0) & (self._start <= self._n)).all()
        if np.isnan(floats).any() or (floats == np.inf).any() or not (inside and 0 <= self._n <= self.seen):
            raise CorruptState(f"{self.kind}: memory is not that of an e-detector")


def _log_running_sum(logs: FloatArray) -> FloatArray:
    """ln of the running sum of exp(logs) along the last axis; only the first column may be -inf."""
    top = logs.max(axis=1, keepdims=True)
    if (top[:, 0] - logs[:, 1:].min(axis=1)).max() > _SAFE_RANGE:
        return np.asarray(np.logaddexp.accumulate(logs, axis=1), dtype=np.float64)
    # four times faster; a first column so low that it underflows is nothing beside its neighbour
    with np.errstate(divide="ignore"):
        return np.asarray(top + np.log(np.cumsum(np.exp(logs - top), axis=1)), dtype=np.float64)
