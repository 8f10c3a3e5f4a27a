"""Which single values the sequential detectors see: a capped share, chosen by a hash of the request id. A replay chooses the same."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

LEVELS = 65535


class Sampler:
    """Keeps about `per_pane` rows of every pane: the share comes from the rows that the pane before had."""

    def __init__(self, per_pane: float, pane: int = -1, seen: int = 0, share: float = 1.0) -> None:
        self.per_pane = per_pane
        self.pane, self.seen, self.share = pane, seen, share

    def choose(
        self, ids: Sequence[bytes], panes: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Positions of the chosen rows and their hashes, for rows in order of arrival; `ids` in UTF-8."""
        if not len(ids):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        last = int(panes[-1])
        if last != self.pane:
            self.share = min(1.0, self.per_pane / max(self.seen, 1)) if self.seen else 1.0
            self.pane, self.seen = last, 0
        here = int(np.count_nonzero(panes == last))
        self.seen += here
        # A pane that grows past its cap while it runs is cut at once, not only in the next one.
        share = min(self.share, self.per_pane / max(self.seen, 1))
        if len(ids) > 4 * self.per_pane:
            share = min(share, 4 * self.per_pane / len(ids))
        hashes = np.fromiter(map(zlib.crc32, ids), np.int64, len(ids))
        if share >= 1.0:
            return np.arange(len(ids)), hashes
        chosen = np.flatnonzero(hashes < share * 2**32)
        return chosen, hashes[chosen]

    def state(self) -> tuple[int, int, float]:
        return self.pane, self.seen, self.share


def to_levels(values: npt.NDArray[np.float64], low: float, high: float) -> list[int]:
    """Values mapped from [low, high] to 0..65535, clipped."""
    width = high - low
    scaled = (values - low) / (width if width > 0 else 1.0)
    levels: list[int] = np.rint(np.clip(scaled, 0.0, 1.0) * LEVELS).astype(np.int64).tolist()
    return levels
