"""How far a model's spans vary by themselves: the same statistics of past spans of each cell and length.

Pure. Rows come in days and nights, in weather, in batches of one customer. What past spans (`past_spans.py`) have in common counts against
a finding: n rows that vary together are worth fewer. Only spans that had ended when the finding's own began are asked: a fault is no excuse
for itself.

A length that is not known yet takes the variation of the next shorter one that is (longer spans vary less), or of the next longer; a cell
that is not known takes that of all versions, then of all traffic. What nobody has seen yet is as the order of the training rows says, and
without such an order counts as independent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from detectors.dependence import GATE
from streams.counting.layout import Vector
from streams.counting.references import Reference
from streams.counting.tracked import Tracked
from streams.judge.incidents import Where
from streams.judge.past_spans import KEPT, PastRow, PastSpans
from streams.judge.spans import BLOCKS, Look
from streams.rules.finding import LN10, Finding
from streams.rules.rests_on import rests_on

HISTORY_S = 7 * 86_400.0
"""How far remembered spans reach back, at least."""
USUAL_S = 5_400.0
"""What is usual is gathered from spans of at least this length."""
GATE_AMONG = 0.01
"""Chance that a statistic of independent rows passes for dependent where another of the same rows does; `GATE` where none does."""
MOST_KNOWN = 1_024
"""Answers kept of one cell."""


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
        self.cells: dict[Where, PastSpans] = {}
        self.dirty: set[Where] = set()
        self.gone: set[Where] = set()
        self.use(tracked, reference)

    def use(self, tracked: Tracked, reference: Reference) -> None:
        """Another reference: all begins anew."""
        self.tracked, self.reference = tracked, reference
        self.layout = reference.layout.fingerprint + reference.bins_fingerprint
        self._in_training = np.array([key in reference.varies for key in tracked.keys], dtype=np.bool_)
        self._places: dict[tuple[str, str | None], int | None] = {}
        self.gone |= set(self.cells)
        self.cells.clear()
        self.dirty.clear()
        self._known: dict[Where, dict[tuple[int, float], list[float]]] = {}
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
        cell = self.cells.get(where)
        if cell is None:
            cell = self.cells[where] = PastSpans(self.tracked)
        table, end = self.tracked.table(vector), (block + 1) << level
        excess = cell.excess(table, level > self.gathered)
        if enough and excess is not None:
            longest = max(int(HISTORY_S / self.pane_s / KEPT), BLOCKS << level)
            if cell.remember(level, end, table, excess, BLOCKS << level, longest):
                self._forget(where)
        if level == self.gathered:
            cell.gather(level, table, excess, BLOCKS * self.pane_s * 2**level)
        self.dirty.add(where)

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

    def rho(self, where: Where, level: int, before: float = math.inf) -> list[float]:
        """[statistics]: what spans of this level have in common, relative to the variance of one row, as far as those say that ended by
        pane `before`; NaN where none is known."""
        known = self._known.setdefault(where, {})
        asked = (level, before)
        if asked in known:
            return known[asked]
        others = dict.fromkeys((where, where._replace(version=None), Where(None, where.stage, None)))
        cells = [cell for other in others if (cell := self.cells.get(other)) is not None]
        if all(cell.ends_by(before) for cell in cells):
            before = math.inf
        told = known.get((level, before))
        if told is None:
            found = np.full(len(self.tracked.keys), np.nan)
            surest = np.zeros(len(found))
            for cell in cells:
                for near in (*range(level, -1, -1), *range(level + 1, self.levels)):
                    of_level = cell.found(near, before)
                    if of_level is not None:
                        found = np.where(np.isnan(found), of_level.rho, found)
                        surest = np.minimum(surest, of_level.log_p)
            # That rows depend on each other may be seen best in spans of another length, in all traffic, or in the training rows; and
            # where one statistic shows it, another needs less to.
            dependent = self._in_training | (surest <= math.log(GATE / self.levels))
            if dependent.any():
                dependent |= surest <= math.log(GATE_AMONG / self.levels)
            told = np.where(dependent | np.isnan(found), found, 0.0).tolist()
            if len(known) >= MOST_KNOWN:
                known.clear()
            known[level, before] = told
        known[asked] = told
        return told

    def design_effect(self, where: Where, level: int, before: float, finding: Finding) -> float:
        """How many of the finding's rows are worth one independent row, as spans that ended by pane `before` say."""
        return self._effect(self.rho(where, level, before), finding)

    def _effect(self, common: Sequence[float], finding: Finding) -> float:
        place = self._place(finding)
        if place is None:
            return 1.0
        rho = common[place]
        if math.isnan(rho):
            rho = self._of_training(self.tracked.keys[place], finding.n)
        return 1.0 + finding.n * rho

    def _place(self, finding: Finding) -> int | None:
        if finding.key not in self._places:
            self._places[finding.key] = self.tracked.place.get(rests_on(finding, self.reference.task))
        return self._places[finding.key]

    def _of_training(self, key: tuple[str, str | None], n: int) -> float:
        """What so many training rows in a row had in common: the best guess until spans are known."""
        steps = self.reference.varies.get(key, ())
        return next((rho for rows, rho in reversed(steps) if rows <= n), steps[0][1]) if steps else 0.0

    def judged(self, where: Where, look: Look, finding: Finding, log_alpha: float, before: float = math.inf) -> Judged:
        """The finding with the chance that is left of it, and whether it is still below alpha. Asked are spans that had ended when its own
        began, and by pane `before`: a fault that is known already is no excuse for itself either."""
        return next(self.among(where, look, (finding,), log_alpha, {finding.key: before}))

    def among(
        self,
        where: Where,
        look: Look,
        findings: Sequence[Finding],
        log_alpha: float,
        before: Mapping[tuple[str, str | None], float] | None = None,
    ) -> Iterator[Judged]:
        """The same for each of one look's findings, by (signal, subject). `look` is (level, blocks, last block)."""
        if not findings:
            return
        level, count, block = look
        start = float((block - count + 1) << level)
        common = self.rho(where, level, start)
        for finding in findings:
            until = before.get(finding.key, math.inf) if before else math.inf
            effect = self._effect(common if until >= start else self.rho(where, level, until), finding)
            if effect <= 1.0:
                yield Judged(finding, True)
                continue
            log10_p = finding.log10_p / effect
            yield Judged(finding._replace(log10_p=log10_p, design_effect=effect), log10_p <= log_alpha / LN10)

    # -- rows ------------------------------------------------------------------------------------------------------------------

    def take_changes(self) -> tuple[dict[Where, bytes], list[Where]]:
        """Rows of the cells that changed since the last call, and the cells whose rows go."""
        written = {where: self.cells[where].pack(self.layout) for where in sorted(self.dirty, key=str)}
        gone = sorted(self.gone - set(written), key=str)
        self.forget_changes()
        return written, gone

    def forget_changes(self) -> None:
        """Nothing changed since the last call, as far as rows go."""
        self.dirty.clear()
        self.gone.clear()

    def restore(self, rows: Mapping[Where, bytes]) -> None:
        """Takes rows back; those of another reference begin anew."""
        for where, raw in rows.items():
            row = msgspec.msgpack.decode(raw, type=PastRow)
            if row.layout == self.layout:
                cell = self.cells[where] = PastSpans(self.tracked)
                cell.restore(row)
            else:
                self.gone.add(where)
        self._forget(Where(None, "", None))
