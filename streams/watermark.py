"""Event time of one source partition: how far it has come. Never goes back, and one bad stamp does not move it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SUPPORT = 3  # events in a row beyond the jump before it is believed


@dataclass(slots=True)
class Watermark:
    """`time` is the greatest stamp so far, epoch seconds. An event more than `max_jump_s` ahead of it is taken, but moves it only
    when it is the third in a row: a gap in the traffic is real, a single stamp from next year is not."""

    max_jump_s: float
    time: float = float("-inf")
    ahead: int = 0
    lowest_ahead: float = float("inf")

    def advance(self, times: Sequence[float] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Takes stamps in order of arrival; returns the watermark after each of them, never falling."""
        stamps = np.asarray(times, dtype=np.float64)
        if stamps.size == 0:
            return stamps
        if self.time == float("-inf"):
            self.time = float(np.median(stamps[:SUPPORT]))
        if not self.ahead and stamps.max() <= self.time + self.max_jump_s:
            visible = np.maximum.accumulate(np.maximum(stamps, self.time))
            self.time = float(visible[-1])
            return visible
        visible = np.empty_like(stamps)
        for at, stamp in enumerate(stamps.tolist()):
            if stamp <= self.time + self.max_jump_s:
                self.ahead, self.lowest_ahead = 0, float("inf")
                self.time = max(self.time, stamp)
            else:
                self.ahead += 1
                self.lowest_ahead = min(self.lowest_ahead, stamp)
                if self.ahead >= SUPPORT:
                    # The least of the run: all of them agree that time has come at least so far.
                    self.time, self.ahead, self.lowest_ahead = self.lowest_ahead, 0, float("inf")
            visible[at] = self.time
        return visible
