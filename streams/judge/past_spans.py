"""Past spans of one cell: what such a cell usually shows, and how far spans of each length lay from it.

Pure. Of the spans of each length that do not overlap a few dozen are remembered, each by how far it lay from what the cell usually shows
(`detectors/dependence.py`); first every one, later ever fewer, until they reach back a week.
"""

from __future__ import annotations

from bisect import bisect_right

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.dependence import QUARTILE, Excess, Variation, mean_excess, variation
from streams.counting.tracked import Table, Tracked, excess_of

KEPT = 32
"""Spans remembered of one length."""
HALF_LIFE_S = 3.5 * 86_400.0
"""What is usual is forgotten by half in so long."""
OUTLIER = 8.0
"""A span that lies so many times as far as usual is no part of what is usual."""
FARTHEST = 60_000.0
"""Distances are kept in two bytes: a third of a percent is near enough."""
COLUMNS = ("ends", "excess", "rare", "rankings")

Floats = npt.NDArray[np.float64]


class Ring(msgspec.Struct):
    """Past spans of one length: the pane at which each ended, and [statistics] of each. `spacing` is the least distance of two, panes."""

    spacing: int
    ends: list[int] = []
    excess: list[bytes] = []
    rare: list[bytes] = []
    rankings: list[bytes] = []

    def is_due(self, end: int) -> bool:
        return not self.ends or end - self.ends[-1] >= self.spacing

    @property
    def is_full(self) -> bool:
        return len(self.ends) >= KEPT

    def add(self, end: int, excess: Floats, rare: npt.NDArray[np.bool_], rankings: Floats, longest: int) -> None:
        """A half goes where it is full: every other one while the spacing may still double, then the oldest."""
        if self.is_full:
            doubles = 2 * self.spacing <= longest
            kept = range(1, KEPT, 2) if doubles else range(KEPT - KEPT // 2, KEPT)
            self.spacing *= 2 if doubles else 1
            for name in COLUMNS:
                column = getattr(self, name)
                setattr(self, name, [column[at] for at in kept])
        self.ends.append(end)
        self.excess.append(np.minimum(excess, FARTHEST).astype("<f2").tobytes())
        self.rare.append(np.packbits(rare).tobytes())
        self.rankings.append(rankings.astype("<f4").tobytes())

    def copy(self) -> Ring:
        return Ring(self.spacing, *(list(getattr(self, name)) for name in COLUMNS))


class Usual(msgspec.Struct):
    """Sums over past spans, forgotten by half every few days."""

    histograms: bytes
    shares: bytes
    means: bytes


class PastRow(msgspec.Struct):
    """The stored form of one cell: what is usual, and the ring of each level that has one."""

    layout: str
    usual: Usual | None
    rings: dict[int, Ring]


class PastSpans:
    """Of one cell. `tracked` says which statistics are followed; levels are those of its spans, ends are panes."""

    def __init__(self, tracked: Tracked) -> None:
        self.tracked = tracked
        self.usual: Table | None = None
        self.rings: dict[int, Ring] = {}
        self._found: dict[int, dict[int, Variation]] = {}

    def copy(self) -> PastSpans:
        """The same past for another cell."""
        other = PastSpans(self.tracked)
        other.usual = self.usual
        other.rings = {level: ring.copy() for level, ring in self.rings.items()}
        return other

    def excess(self, table: Table, held: bool) -> Excess | None:
        """How far a span lies from what is usual; `held`: its rows are part of the usual already. None while nothing is usual."""
        return excess_of(table, self.usual, held) if self.usual is not None else None

    def remember(self, level: int, end: int, table: Table, excess: Excess, spacing: int, longest: int) -> bool:
        """Takes a span into its ring, if one is due; `spacing` is that of a new ring, `longest` the most that any may have, panes."""
        ring = self.rings.setdefault(level, Ring(spacing))
        if not ring.is_due(end):
            return False
        n = float(table.shares[:, 1].max(initial=0.0))
        rankings = np.concatenate([table.rankings, np.full((len(table.rankings), 1), n)], axis=1)
        if ring.is_full:
            self._found.pop(level, None)  # else what the first spans say stays what it was
        ring.add(end, excess.value, excess.rare, rankings, longest)
        return True

    def gather(self, level: int, table: Table, excess: Excess | None, length_s: float) -> None:
        """Makes a span part of what is usual: but for the statistics of which it lies far outside."""
        usual = self.usual
        if usual is None or excess is None:
            self.usual = table
            return
        found = self.found(level)
        rho = np.nan_to_num(found.rho[: len(excess.value)]) if found is not None else 0.0
        taken = ~(excess.value > OUTLIER * (excess.noise + QUARTILE * rho))
        fade = 0.5 ** (length_s / HALF_LIFE_S)
        first, then = self.tracked.histograms, self.tracked.histograms + self.tracked.shares
        self.usual = Table(
            usual.histograms * fade + table.histograms * taken[:first, None],
            usual.shares * fade + table.shares * taken[first:then, None],
            usual.means * fade + table.means * taken[then:, None],
            usual.rankings,
        )

    def ends_by(self, pane: float) -> bool:
        """Whether every span that is remembered ended by then."""
        return all(ring.ends[-1] <= pane for ring in self.rings.values())

    def found(self, level: int, before: float = np.inf) -> Variation | None:
        """What the spans of a level that ended by pane `before` have in common; None where there is none."""
        ring = self.rings.get(level)
        spans = bisect_right(ring.ends, before) if ring is not None else 0
        if ring is None or not spans:
            return None
        known = self._found.setdefault(level, {})
        if spans not in known:
            value = np.frombuffer(b"".join(ring.excess[:spans]), "<f2").reshape(spans, -1).T
            packed = np.frombuffer(b"".join(ring.rare[:spans]), np.uint8).reshape(spans, -1)
            rare = np.unpackbits(packed, axis=1)[:, : len(value)].T.astype(np.bool_)
            found = variation(value, rare)
            if ring.rankings[0]:
                found = Variation(
                    *(np.concatenate(parts) for parts in zip(found, _of_rankings(ring, spans), strict=True))
                )
            known[spans] = found
        return known[spans]

    # -- rows ------------------------------------------------------------------------------------------------------------------

    def pack(self, layout: str) -> bytes:
        """As a row of the store; `layout` names the statistics."""
        usual = Usual(*(part.astype("<f8").tobytes() for part in self.usual[:3])) if self.usual is not None else None
        return msgspec.msgpack.encode(PastRow(layout, usual, self.rings))

    def restore(self, row: PastRow) -> None:
        """Takes a row back."""
        self.rings = row.rings
        if row.usual is None:
            return
        parts = (np.frombuffer(part, "<f8") for part in (row.usual.histograms, row.usual.shares, row.usual.means))
        histograms, shares, means = parts
        tracked = self.tracked
        self.usual = Table(
            histograms.reshape(tracked.histograms, tracked.width),
            shares.reshape(tracked.shares, 2),
            means.reshape(tracked.means, 3),
            np.zeros((0, 2)),
        )


def _median(values: Floats) -> Floats:
    """Of each row's numbers; NaN where there is none. (numpy's `nanmedian` goes row by row.)"""
    known = (~np.isnan(values)).sum(axis=1, keepdims=True)
    last = np.sort(values, axis=1)  # NaNs last
    low, high = np.maximum(known - 1, 0) // 2, np.minimum(known // 2, values.shape[1] - 1)
    return np.asarray((np.take_along_axis(last, low, 1) + np.take_along_axis(last, high, 1))[:, 0] / 2)


def _of_rankings(ring: Ring, spans: int) -> Variation:
    """Against their own middle: rankings do not add, so nothing else is usual of them."""
    table = np.frombuffer(b"".join(ring.rankings[:spans]), "<f4").astype(np.float64).reshape(spans, -1, 3)
    value, error, n = table.transpose(2, 1, 0)
    found = mean_excess(n, value, np.inf, _median(value)[:, None], n * error**2)
    return variation(found.value, found.rare)
