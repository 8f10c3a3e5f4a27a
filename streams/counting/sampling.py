"""Which single values the sequential detectors see: a capped share, chosen by a hash of the row. A replay chooses the same."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LEVELS = 65535
NO_LEVEL = -1
"""Stands for a value that is missing, or no number."""

Indices = npt.NDArray[np.int64]


def mixed_hashes(keys: npt.NDArray[np.float64]) -> Indices:
    """A hash in [0, 2**32) of each row of keys [n, k], for rows without an id: the finalizer of SplitMix64 over the bits of every key."""
    mixed = np.zeros(len(keys), dtype=np.uint64)
    for column in np.ascontiguousarray(keys.T).view(np.uint64):
        mixed ^= column
        mixed += np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(32)).astype(np.int64)


class Sampler:
    """Keeps about `per_pane` rows of every pane: the share comes from the rows that the pane before had."""

    def __init__(self, per_pane: float, pane: int = -1, seen: int = 0, share: float = 1.0) -> None:
        self.per_pane = per_pane
        self.pane, self.seen, self.share = pane, seen, share

    def choose(self, hashes: Indices, panes: Indices) -> Indices:
        """Positions of the chosen rows, for rows in order of arrival."""
        if not len(hashes):
            return np.empty(0, np.int64)
        last = int(panes[-1])
        if last != self.pane:
            self.share = min(1.0, self.per_pane / max(self.seen, 1)) if self.seen else 1.0
            self.pane, self.seen = last, 0
        here = int(np.count_nonzero(panes == last))
        self.seen += here
        # A pane that grows past its cap while it runs is cut at once, not only in the next one.
        share = min(self.share, self.per_pane / max(self.seen, 1))
        if len(hashes) > 4 * self.per_pane:
            share = min(share, 4 * self.per_pane / len(hashes))
        return np.arange(len(hashes)) if share >= 1.0 else np.flatnonzero(hashes < share * 2**32)

    def state(self) -> tuple[float, int, int, float]:
        return self.per_pane, self.pane, self.seen, self.share


def to_levels(
    values: npt.NDArray[np.float64], low: float | npt.NDArray[np.float64], high: float | npt.NDArray[np.float64]
) -> Indices:
    """Values mapped from [low, high] to 0..65535, clipped; `NO_LEVEL` for NaN."""
    width = np.subtract(high, low)
    scaled = values - low
    scaled /= np.where(width > 0, width, 1.0)
    np.clip(scaled, 0.0, 1.0, out=scaled)
    scaled *= LEVELS
    np.rint(scaled, out=scaled)
    np.copyto(scaled, float(NO_LEVEL), where=np.isnan(scaled))
    return scaled.astype(np.int64)
