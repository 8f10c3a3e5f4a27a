"""Page-Hinkley (Page 1954; Gama et al. 2014): a cumulative sum of deviations from the mean, both directions.

With the running mean as its own baseline it sees jumps and forgives slow ramps; with the reference's mean as
``centre`` it sees both. It has no false-alarm guarantee: ``threshold`` (in spreads) is to be tuned, and the e-detector
is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from detectors.base import BadParameter, CorruptState, Field, FloatArray, State, fingerprint, register
from detectors.sequential import Detection, SequentialDetector


@register()
@dataclass(frozen=True, kw_only=True)
class PageHinkleyConfig:
    """What to declare. Values are taken as z = (x - offset) / spread.

    spread: the reference's standard deviation. centre: the reference's mean; None takes the running mean. slack (delta
    in the literature), threshold (lambda): in spreads. minimum: values before the first alarm. forgetting: factor on
    the sums, 1 keeps everything.
    """

    kind: ClassVar[str] = "page_hinkley"
    centre: float | None = None
    spread: float = 1.0
    slack: float = 0.005
    threshold: float = 50.0
    minimum: int = 30
    forgetting: float = 1.0

    def __post_init__(self) -> None:
        numbers = [self.spread, self.slack, self.threshold, 0.0 if self.centre is None else self.centre]
        if not all(map(math.isfinite, numbers)) or self.spread <= 0 or self.slack < 0 or self.threshold <= 0:
            raise BadParameter("spread and threshold are above 0, slack 0 or more, all finite")
        if self.minimum < 1 or not 0.0 < self.forgetting <= 1.0:
            raise BadParameter("minimum is 1 or more, forgetting in (0, 1]")

    def build(self, state: State | None = None) -> PageHinkley:
        """A fresh detector, or the one that ``state`` remembers. Raises ForeignState or CorruptState."""
        return PageHinkley(self, state)

    @property
    def fingerprint(self) -> bytes:
        """16 bytes; equal exactly when the parameters are."""
        return fingerprint(
            self.kind,
            {
                "running": self.centre is None,
                "centre": float(self.centre or 0.0),
                "spread": float(self.spread),
                "slack": float(self.slack),
                "threshold": float(self.threshold),
                "minimum": self.minimum,
                "forgetting": float(self.forgetting),
            },
        )


class PageHinkley(SequentialDetector):
    """The running half."""

    kind = PageHinkleyConfig.kind

    def __init__(self, config: PageHinkleyConfig, state: State | None = None) -> None:
        self._config = config
        super().__init__(config.fingerprint)
        self._restart()
        if state is not None:
            self._restore(state)

    def _restart(self) -> None:
        self._n = 0
        self._total = 0.0  # of the values themselves
        self._mean = 0.0  # running, in spreads
        self._rise = self._fall = 0.0
        # the lowest rise and the highest fall, and the count and total of values when they were reached
        self._lowest, self._highest = math.inf, -math.inf
        self._low_at = self._high_at = (0, 0.0)

    @property
    def width(self) -> int:
        """Values since the last restart."""
        return self._n

    @property
    def estimate(self) -> float:
        """Mean since the last restart, in the values' unit."""
        return self._total / self._n if self._n else math.nan

    @property
    def statistic(self) -> float:
        """The larger of the two excursions, in spreads; an alarm lies above ``threshold``."""
        return max(self._rise - self._lowest, self._highest - self._fall) if self._n else 0.0

    def _scan(self, values: FloatArray) -> list[Detection]:
        config, found = self._config, []
        for index, value in enumerate(values.tolist()):
            self._push(value)
            up, down = self._rise - self._lowest, self._highest - self._fall
            if self._n >= config.minimum and max(up, down) > config.threshold:
                found.append(self._detection(index, self._low_at if up > down else self._high_at))
                self._restart()
        return found

    def _push(self, value: float) -> None:
        config = self._config
        z = (value - (config.centre or 0.0)) / config.spread
        self._n += 1
        self._total += value
        self._mean += (z - self._mean) / self._n
        # around a known centre z is the deviation itself
        deviation = z - self._mean if config.centre is None else z
        self._rise = config.forgetting * self._rise + deviation - config.slack
        self._fall = config.forgetting * self._fall + deviation + config.slack
        if self._rise < self._lowest:
            self._lowest, self._low_at = self._rise, (self._n, self._total)
        if self._fall > self._highest:
            self._highest, self._high_at = self._fall, (self._n, self._total)

    def _detection(self, index: int, turn: tuple[int, float]) -> Detection:
        n, total = turn
        onset = max(self._n - n, 1)
        return Detection(
            index=index,
            onset=onset,
            before=total / n if n else math.nan,
            after=(self._total - total) / onset,
            width=self._n,
        )

    def _fields(self) -> Mapping[str, Field]:
        return {
            "n": self._n,
            "total": self._total,
            "mean": self._mean,
            "rise": self._rise,
            "fall": self._fall,
            # infinite only before the first value; a snapshot holds finite numbers
            "lowest": self._lowest if self._n else 0.0,
            "highest": self._highest if self._n else 0.0,
            "low_n": self._low_at[0],
            "low_total": self._low_at[1],
            "high_n": self._high_at[0],
            "high_total": self._high_at[1],
        }

    def _load(self, state: State) -> None:
        self._n = state.integer("n")
        low_n, high_n = state.integer("low_n"), state.integer("high_n")
        if not (0 <= low_n <= self._n <= self.seen and 0 <= high_n <= self._n):
            raise CorruptState(f"{self.kind}: counters do not agree")
        self._total, self._mean = state.number("total"), state.number("mean")
        self._rise, self._fall = state.number("rise"), state.number("fall")
        lowest, highest = state.number("lowest"), state.number("highest")
        self._low_at, self._high_at = (low_n, state.number("low_total")), (high_n, state.number("high_total"))
        if self._n:
            self._lowest, self._highest = lowest, highest
