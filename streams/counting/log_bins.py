"""Bins of positive values of any size (latency, delay): equal steps of the logarithm, so a quantile is known to a fixed ratio."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streams.counting.layout import DELAY_BINS, LATENCY_BINS, RESOURCE_BINS

Floats = npt.NDArray[np.float64]


class LogBins(NamedTuple):
    """Bin k holds the values in (least growth^(k-1), least growth^k], so a quantile is known to sqrt(growth)."""

    least: float
    growth: float
    bins: int

    def assign(self, values: Floats) -> npt.NDArray[np.int64]:
        """The bin of each value; what is below the first bin or above the last is counted there."""
        with np.errstate(divide="ignore"):
            raw = np.ceil(np.log(values / self.least) / np.log(self.growth))
        return np.asarray(np.clip(np.nan_to_num(raw, neginf=0.0), 0, self.bins - 1), dtype=np.int64)

    def middles(self) -> Floats:
        """The middle (in ratio) of each bin: within sqrt(growth) - 1 of every value of the bin."""
        return np.asarray(self.least * self.growth ** (np.arange(self.bins) - 0.5), dtype=np.float64)

    def quantile(self, counts: Floats, q: float) -> float:
        """The q-quantile of the counted values, NaN without any."""
        ranks = np.cumsum(counts)
        return (
            float(self.middles()[int(np.searchsorted(ranks, q * ranks[-1], side="left"))])
            if ranks[-1] > 0
            else float("nan")
        )


def slower_than(counts: Floats, q: float) -> int:
    """The first bin that lies wholly above the q-quantile of the counted values."""
    ranks = np.cumsum(counts)
    return int(np.searchsorted(ranks, q * ranks[-1], side="left")) + 1


LATENCY_MS = LogBins(0.01, 1.04, LATENCY_BINS)
DELAY_S = LogBins(0.01, 1.06, DELAY_BINS)
RESOURCE = LogBins(1e-6, 1.04, RESOURCE_BINS)
"""Of any unit: microseconds as seconds to a terabyte as bytes."""
