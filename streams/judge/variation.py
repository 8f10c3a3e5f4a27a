"""How far a model's spans vary by themselves: the same statistics of past spans of each cell and length.

Pure. Rows come in days and nights, in weather, in batches of one customer. Of the spans of each length that do not overlap a few dozen are
remembered, each by how far it lay from what the cell usually shows (`detectors/dependence.py`); first every one, later ever fewer, until
they reach back a week. What they have in common counts against a finding: n rows that vary together are worth fewer.

A length that is not known yet takes the variation of the next shorter one that is (longer spans vary less), or of the next longer; a cell
that is not known takes that of all versions, then of all traffic. What nobody has seen yet counts as independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.dependence import (
    GATE,
    QUARTILE,
    Excess,
    design_effect,
    mean_excess,
    variation,
)
from detectors.dependence import Variation as Found
from streams.counting.layout import Vector
from streams.counting.references import Reference
from streams.counting.tracked import Table, Tracked, excess_of
from streams.judge.incidents import Where
from streams.judge.spans import BLOCKS
from streams.rules.finding import LN10, Finding
from streams.rules.rests_on import rests_on

KEPT = 32
"""Spans remembered of one length."""
HISTORY_S = 7 * 86_400.0
"""How far they reach back, at least."""
USUAL_S = 5_400.0
"""What is usual is gathered from spans of at least this length,"""
HALF_LIFE_S = 3.5 * 86_400.0
"""and forgotten by half in so long."""
OUTLIER = 8.0
"""A span that lies so many times as far as usual is no part of what is usual."""

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

    def add(self, end: int, excess: Floats, rare: npt.NDArray[np.bool_], rankings: Floats, longest: int) -> None:
        """A half goes where it is full: every other one while the spacing may still double, then the oldest."""
        if len(self.ends) >= KEPT:
            doubles = 2 * self.spacing <= longest
            kept = range(1, KEPT, 2) if doubles else range(KEPT - KEPT // 2, KEPT)
            self.spacing *= 2 if doubles else 1
            for name in ("ends", "excess", "rare", "rankings"):
                column = getattr(self, name)
                setattr(self, name, [column[at] for at in kept])
        self.ends.append(end)
        self.excess.append(excess.astype("<f4").tobytes())
        self.rare.append(np.packbits(rare).tobytes())
        self.rankings.append(rankings.astype("<f4").tobytes())


class Usual(msgspec.Struct):
    """Sums over past spans, forgotten by half every few days."""

    histograms: bytes
    shares: bytes
    means: bytes


class CellRow(msgspec.Struct):
    """The stored form of one cell: what is usual, and the ring of each level that has one."""

    layout: str
    usual: Usual | None
    rings: dict[int, Ring]


class _Cell:
    def __init__(self) -> None:
        self.usual: Table | None = None
        self.rings: dict[int, Ring] = {}
        self.found: dict[int, Found] = {}

    def copy(self) -> _Cell:
        other = _Cell()
        other.usual = self.usual
        other.rings = {level: msgspec.structs.replace(ring) for level, ring in self.rings.items()}
        for ring in other.rings.values():
            for name in ("ends", "excess", "rare", "rankings"):
                setattr(ring, name, list(getattr(ring, name)))
        return other


class Judged(NamedTuple):
    """A finding as it stands among spans that vary by themselves."""

    finding: Finding
    passes: bool


class Variation:
    """Of one model. `take` remembers a span that has ended, `judged` holds a finding against what is remembered. Levels are the spans'."""

    def __init__(self, tracked: Tracked, reference: Reference, pane_s: float, levels: int) -> None:
        self.pane_s, self.levels = pane_s, levels
        self.gathered = next((level for level in range(levels) if BLOCKS * pane_s * 2**level >= USUAL_S), levels - 1)
        """The level whose spans make up what is usual."""
        self.use(tracked, reference)

    def use(self, tracked: Tracked, reference: Reference) -> None:
        """Another reference: all begins anew."""
        self.tracked, self.reference = tracked, reference
        self.layout = reference.layout.fingerprint + reference.bins_fingerprint
        self._in_training = np.array([key in reference.varies for key in tracked.keys], dtype=np.bool_)
        self._places: dict[tuple[str, str | None], int | None] = {}
        self.cells: dict[Where, _Cell] = {}
        self.dirty: set[Where] = set()
        self._known: dict[Where, dict[int, list[float]]] = {}
        self._varies: dict[Where, bool] = {}

    def split(self, version: str) -> None:
        """What was all traffic was this version's."""
        for where in [where for where in self.cells if where.version is None]:
            self.cells[where._replace(version=version)] = self.cells[where].copy()
            self.dirty.add(where._replace(version=version))
        self._forget(Where(None, "", None))

    # -- remembering -----------------------------------------------------------------------------------------------------------

    def wants(self, where: Where, level: int, block: int, enough: bool) -> bool:
        """Whether the span that ends with this block is to be remembered. `enough`: it holds rows or outcomes for a look."""
        if (block + 1) % BLOCKS:
            return False  # spans that overlap say the same twice
        cell = self.cells.get(where)
        ring = cell.rings.get(level) if cell is not None else None
        return level == self.gathered or (enough and (ring is None or ring.is_due((block + 1) << level)))

    def take(self, where: Where, level: int, block: int, vector: Vector, enough: bool) -> None:
        """Remembers a span; only what `wants` says."""
        cell = self.cells.setdefault(where, _Cell())
        table, end = self.tracked.table(vector), (block + 1) << level
        excess = excess_of(table, cell.usual, level > self.gathered) if cell.usual is not None else None
        if enough and excess is not None:
            ring = cell.rings.get(level)
            if ring is None:
                ring = cell.rings[level] = Ring(BLOCKS << level)
            if ring.is_due(end):
                longest = max(int(HISTORY_S / self.pane_s / KEPT), BLOCKS << level)
                n = float(table.shares[:, 1].max(initial=0.0))
                rankings = np.concatenate([table.rankings, np.full((len(table.rankings), 1), n)], axis=1)
                ring.add(end, excess.value, excess.rare, rankings, longest)
                cell.found.pop(level, None)
                self._forget(where)
        if level == self.gathered:
            cell.usual = self._gather(cell, table, excess)
        self.dirty.add(where)

    def _gather(self, cell: _Cell, table: Table, excess: Excess | None) -> Table:
        """What is usual, with this span: but for the statistics of which it lies far outside."""
        usual = cell.usual
        if usual is None or excess is None:
            return table
        rho = np.nan_to_num(self._found(cell, self.gathered).rho)[: len(excess.value)]
        taken = ~(excess.value > OUTLIER * (excess.noise + QUARTILE * rho))
        fade = 0.5 ** (BLOCKS * self.pane_s * 2**self.gathered / HALF_LIFE_S)
        first, then = self.tracked.histograms, self.tracked.histograms + self.tracked.shares
        return Table(
            usual.histograms * fade + table.histograms * taken[:first, None],
            usual.shares * fade + table.shares * taken[first:then, None],
            usual.means * fade + table.means * taken[then:, None],
            usual.rankings,
        )

    def _forget(self, where: Where) -> None:
        for known in (self._known, self._varies):
            if where.version is None:
                known.clear()  # others may rest on it
            else:
                known.pop(where, None)

    # -- asking ----------------------------------------------------------------------------------------------------------------

    def varies(self, where: Where) -> bool:
        """Whether anything of the cell varies by itself."""
        found = self._varies.get(where)
        if found is None:
            found = self._varies[where] = any(
                rho > 0.0 or math.isnan(rho) for level in range(self.levels) for rho in self.rho(where, level)
            )
        return found

    def level_of(self, length_s: float) -> int:
        """The level whose spans are nearest to this length, not longer."""
        panes = max(length_s / self.pane_s / BLOCKS, 1.0)
        return min(int(np.log2(panes) + 1e-9), self.levels - 1)

    def rho(self, where: Where, level: int) -> list[float]:
        """[statistics]: what spans of this level have in common, relative to the variance of one row; NaN where no span is known."""
        known = self._known.setdefault(where, {})
        told = known.get(level)
        if told is None:
            found = np.full(len(self.tracked.keys), np.nan)
            surest = np.zeros(len(found))
            for other in dict.fromkeys((where, where._replace(version=None), Where(None, where.stage, None))):
                cell = self.cells.get(other)
                if cell is None:
                    continue
                for near in (*range(level, -1, -1), *range(level + 1, self.levels)):
                    if near in cell.rings:
                        of_level = self._found(cell, near)
                        found = np.where(np.isnan(found), of_level.rho, found)
                        surest = np.minimum(surest, of_level.log_p)
            # That rows depend on each other may be seen best in spans of another length, in all traffic, or in the training rows.
            dependent = self._in_training | (surest <= np.log(GATE / self.levels))
            told = known[level] = np.where(dependent | np.isnan(found), found, 0.0).tolist()
        return told

    def _found(self, cell: _Cell, level: int) -> Found:
        found = cell.found.get(level)
        if found is None:
            ring = cell.rings.get(level)
            if ring is None:
                return Found(np.full(len(self.tracked.keys), np.nan), np.zeros(len(self.tracked.keys)))
            spans = len(ring.ends)
            value = np.frombuffer(b"".join(ring.excess), "<f4").reshape(spans, -1).T
            packed = np.frombuffer(b"".join(ring.rare), np.uint8).reshape(spans, -1)
            rare = np.unpackbits(packed, axis=1)[:, : len(value)].T.astype(np.bool_)
            found = variation(value, rare)
            if ring.rankings[0]:
                ranked = self._of_rankings(ring)
                found = Found(*(np.concatenate(parts) for parts in zip(found, ranked, strict=True)))
            cell.found[level] = found
        return found

    def _of_rankings(self, ring: Ring) -> Found:
        """Against their own middle: rankings do not add, so nothing else is usual of them."""
        table = np.frombuffer(b"".join(ring.rankings), "<f4").astype(np.float64).reshape(len(ring.ends), -1, 3)
        value, error, n = table.transpose(2, 1, 0)
        known = ~np.isnan(value)
        middle = np.array(
            [np.median(row[some]) if some.any() else np.nan for row, some in zip(value, known, strict=True)]
        )
        found = mean_excess(n, value, np.inf, middle[:, None], n * error**2)
        return variation(found.value, found.rare)

    def dispersion(self, where: Where, level: int, finding: Finding) -> float:
        """How many of the finding's rows are worth one independent row."""
        place = self._place(finding)
        if place is None:
            return 1.0
        rho = self.rho(where, level)[place]
        if math.isnan(rho):
            rho = self._of_training(self.tracked.keys[place], finding.n)
        return float(design_effect(finding.n, rho)) if rho > 0.0 else 1.0

    def _place(self, finding: Finding) -> int | None:
        if finding.key not in self._places:
            self._places[finding.key] = self.tracked.place.get(rests_on(finding, self.reference.task))
        return self._places[finding.key]

    def _of_training(self, key: tuple[str, str | None], n: int) -> float:
        """What so many training rows in a row had in common: the best guess until spans are known."""
        steps = self.reference.varies.get(key, ())
        return next((rho for rows, rho in reversed(steps) if rows <= n), steps[0][1]) if steps else 0.0

    def judged(self, where: Where, level: int, finding: Finding, log_alpha: float) -> Judged:
        """The finding with the chance that is left of it, and whether it is still below alpha."""
        dispersion = self.dispersion(where, level, finding)
        if dispersion <= 1.0:
            return Judged(finding, True)
        log10_p = finding.log10_p / dispersion
        return Judged(finding._replace(log10_p=log10_p, dispersion=dispersion), log10_p <= log_alpha / LN10)

    # -- rows ------------------------------------------------------------------------------------------------------------------

    def pack(self, where: Where) -> bytes:
        """One cell as a row of the store."""
        cell = self.cells[where]
        usual = Usual(*(part.astype("<f8").tobytes() for part in cell.usual[:3])) if cell.usual is not None else None
        return msgspec.msgpack.encode(CellRow(self.layout, usual, cell.rings))

    def restore(self, rows: Mapping[Where, bytes]) -> None:
        """Takes `pack`'s rows back; those of another layout are left: they begin anew."""
        tracked = self.tracked
        for where, raw in rows.items():
            row = msgspec.msgpack.decode(raw, type=CellRow)
            if row.layout != self.layout:
                continue
            cell = self.cells[where] = _Cell()
            cell.rings = row.rings
            if row.usual is not None:
                histograms, shares, means = (
                    np.frombuffer(part, "<f8") for part in (row.usual.histograms, row.usual.shares, row.usual.means)
                )
                cell.usual = Table(
                    histograms.reshape(tracked.histograms, tracked.width),
                    shares.reshape(tracked.shares, 2),
                    means.reshape(tracked.means, 3),
                    np.zeros((0, 2)),
                )
        self._forget(Where(None, "", None))
