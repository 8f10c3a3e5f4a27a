"""Event time of one source partition: how far it has come. Never goes back, and one bad stamp does not move it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SUPPORT = 3  # events in a row beyond the jump before it is believed; events that agree before the start is


@dataclass(slots=True)
class Watermark:
    """`time` is the greatest stamp so far, epoch seconds. An event more than `max_jump_s` ahead of it is taken, but moves it only
    when it is the third in a row: a gap in the traffic is real, a single stamp from next year is not.

    The first stamp of all may be the bad one. So until three stamps agree (`settled`) the time is for this partition
    alone, and begins anew at a stamp more than `max_jump_s` behind it: nothing may be closed or told by it before.
    """

    max_jump_s: float
    time: float = float("-inf")
    ahead: int = 0
    lowest_ahead: float = float("inf")
    agreed: int = 0
    highest_ahead: float = float(
        "-inf"
    )  # of the stamps ahead since the last that was none; not kept, live it is of no use

    def reached(self, within_s: float) -> float:
        """How far a log that ends here has come. The last stamps stand apart, for labels come late and alone: they are believed where
        no event after them says otherwise, unless they are more than `within_s` ahead."""
        return self.highest_ahead if self.time < self.highest_ahead <= self.time + within_s else self.time

    @property
    def settled(self) -> bool:
        """Whether more than one stamp says so. From then on the time never goes back."""
        return self.agreed >= SUPPORT

    def advance(self, times: Sequence[float] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Takes stamps in order of arrival; returns the watermark after each of them, never falling once settled."""
        stamps = np.asarray(times, dtype=np.float64)
        visible = np.empty_like(stamps)
        begun = 0
        while begun < stamps.size and not self.settled:
            visible[begun] = self._begin(float(stamps[begun]))
            begun += 1
        rest = stamps[begun:]
        if rest.size == 0:
            return visible
        if not self.ahead and rest.max() <= self.time + self.max_jump_s:
            visible[begun:] = np.maximum.accumulate(np.maximum(rest, self.time))
            self.time, self.highest_ahead = float(visible[-1]), float("-inf")
            return visible
        for at, stamp in enumerate(rest.tolist(), begun):
            visible[at] = self._move(stamp)
        return visible

    def _begin(self, stamp: float) -> float:
        """Before three stamps have agreed."""
        if self.time == float("-inf") or stamp < self.time - self.max_jump_s:
            self.time, self.agreed, self.ahead, self.lowest_ahead = stamp, 1, 0, float("inf")
            self.highest_ahead = float("-inf")
            return stamp
        self.agreed += stamp <= self.time + self.max_jump_s
        return self._move(stamp)

    def _move(self, stamp: float) -> float:
        if stamp <= self.time + self.max_jump_s:
            self.ahead, self.lowest_ahead, self.highest_ahead = 0, float("inf"), float("-inf")
            self.time = max(self.time, stamp)
        else:
            self.ahead += 1
            self.highest_ahead = max(self.highest_ahead, stamp)
            self.lowest_ahead = min(self.lowest_ahead, stamp)
            if self.ahead >= SUPPORT:
                # The least of the run: all of them agree that time has come at least so far.
                self.time, self.ahead, self.lowest_ahead = self.lowest_ahead, 0, float("inf")
                self.agreed = SUPPORT
        return self.time
