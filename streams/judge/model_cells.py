"""What one model's digests have counted: the spans of every cell, whose blocks close as event time goes on, and the sums of every day.

Pure. Digests add, ticks close (`ticks.py`). A cell is a version (or all), a stage, and a segment (or all traffic).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from leadline.config import Limits, Panes
from leadline.events import DigestCell
from streams.counting.layout import Layout
from streams.judge.closings import Closings
from streams.judge.cohorts import Cohorts
from streams.judge.incidents import Where
from streams.judge.spans import BLOCKS, Spans
from streams.judge.traffic import Traffic

Slots = npt.NDArray[np.int32]
Values = npt.NDArray[np.float64]
Learned = tuple[str, Literal["live", "shadow"] | str, str | None, int, Slots, Values]


class ModelCells:
    """Every cell of one model. `earliest` says which pane the spans of a new cell may begin with."""

    def __init__(self, layout: Layout, panes: Panes, traffic: Limits, earliest: Callable[[Where], int]) -> None:
        self.layout, self.pane_s, self.earliest = layout, panes.pane, earliest
        self.levels = max(1, math.ceil(math.log2(max(panes.longest_span / panes.pane / BLOCKS, 1.0))) + 1)
        self.spans: dict[Where, Spans] = {}
        self.days, self.arrivals = Cohorts(layout.size), Cohorts(layout.size)
        self.traffic = Traffic(self.spans, panes.pane, traffic)
        self.closings = Closings()
        self.versions: list[str] = []
        self.serving: list[str] = []
        self.closed = 0
        """Every pane before this one has been judged."""

    @property
    def several(self) -> bool:
        """Whether versions are kept apart: one alone is the same as all."""
        return len(self.serving) > 1

    def add(self, cell: DigestCell, slots: Slots, values: Values) -> None:
        """Adds a digest's cell to all that it belongs to."""
        if cell.version not in self.versions:
            self._new_version(cell.version, cell.stage)
        pane = max(cell.pane, self.closed)
        shadow = cell.stage == "shadow"
        versions: tuple[str | None, ...] = (
            (cell.version,) if shadow else (None, cell.version) if self.several else (None,)
        )
        for version in versions:
            self._add(Where(version, "shadow" if shadow else "live", cell.segment), pane, cell, slots, values)

    def _new_version(self, version: str, stage: str) -> None:
        self.versions.append(version)
        if stage == "shadow":
            return
        self.serving.append(version)
        if len(self.serving) != 2:
            return
        # What was all traffic until now was the first version's.
        first = self.serving[0]
        for where in [where for where in self.spans if where.version is None]:
            spans = self.spans[where].copy()
            other = where._replace(version=first)
            self.spans[other] = spans
            self._announce(other, spans)
        self.days.split(first)
        self.arrivals.split(first)

    def _add(self, where: Where, pane: int, cell: DigestCell, slots: Slots, values: Values) -> None:
        """`pane` is the span's: no earlier than what was judged. The days count by the cell's own."""
        spans = self.spans.get(where)
        if spans is None:
            spans = self.spans[where] = self._empty(where)
        if where.version is None and where.stage == "live" and len(slots) and slots[0] == spans.rows_slot:
            self.traffic.count(where.segment, cell.pane, float(values[0]))
        if spans.add(pane, slots, values):
            self.closings.announce(pane + 1, 0, where)
        self.days.add(where, cell.day, slots, values)
        self.arrivals.add(where, int(cell.pane * self.pane_s // 86_400), slots, values)

    def _empty(self, where: Where) -> Spans:
        layout = self.layout
        spans = Spans(self.levels, layout.size, layout.offset("rows"), layout.offset("outcomes"))
        spans.not_before = self.earliest(where)
        return spans

    def add_learned(self, counted: list[Learned]) -> None:
        """Adds rows that a baseline was learned from, by the day of their predictions: they had been counted without features."""
        for version, stage, segment, day, slots, values in counted:
            if stage != "shadow":
                self.days.add(Where(None, "live", segment), day, slots, values)
            self.days.add(Where(version, stage if stage == "shadow" else "live", segment), day, slots, values)

    def change_layout(self, layout: Layout) -> None:
        """Another reference: blocks of other edges cannot be compared and go; days keep what both layouts name."""
        old, self.layout = self.layout.sections, layout
        self.days.remap(old, layout)
        self.arrivals.remap(old, layout)
        for where in list(self.spans):
            spans = self._empty(where)
            spans.gone = {(level, number) for level in range(self.levels) for number in self.spans[where].blocks[level]}
            spans.gone |= {(-1, number) for number in self.spans[where].open}
            self.spans[where] = spans
        self.closings.clear()

    # -- rows ------------------------------------------------------------------------------------------------------------------

    def restore_days(self, days: Mapping[Where, Mapping[str, bytes]]) -> None:
        """Takes days back: "c" is the day of the prediction, "a" of the arrival."""
        for where, rows in days.items():
            for name, row in rows.items():
                (self.days if name[0] == "c" else self.arrivals).restore(where, int(name[1:]), row)

    def restore_blocks(self, blocks: Mapping[Where, Mapping[str, bytes]]) -> None:
        """Takes blocks back that were counted over the same edges."""
        for where, named in blocks.items():
            spans = self.spans[where] = self._empty(where)
            spans.restore(named)
            self._announce(where, spans)

    def drop_blocks(self, blocks: Mapping[Where, Mapping[str, bytes]], sections: Mapping[str, tuple[int, int]]) -> None:
        """Stored blocks were counted over other edges, `sections` of another layout: they begin anew, what does not depend on the edges is
        kept."""
        self.days.remap(sections, self.layout)
        self.arrivals.remap(sections, self.layout)
        for where, named in blocks.items():
            spans = self.spans[where] = self._empty(where)
            spans.gone = {(int(level), int(number)) for level, _, number in (name.partition(":") for name in named)}

    def forget_rows(self) -> None:
        """Nothing changed since the last call, as far as rows go."""
        for spans in self.spans.values():
            spans.forget_changes()
        self.days.dirty.clear()
        self.arrivals.dirty.clear()

    def _announce(self, where: Where, spans: Spans) -> None:
        for pane in spans.open:
            self.closings.announce(pane + 1, 0, where)
        for level in range(self.levels - 1):
            for number in spans.blocks[level]:
                end = ((number >> 1) + 1) << (level + 1)
                if end > self.closed:
                    self.closings.announce(end, level + 1, where)
