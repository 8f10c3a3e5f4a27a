"""What one model's digests have counted: the spans of every cell, whose blocks close as event time goes on, and the sums of every day.

Pure. Digests add, ticks close (`ticks.py`). A cell is a version (or all), a stage, and a segment (or all traffic).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from leadline.config import Limits, Panes
from streams.core.days import DAY_S
from streams.core.digest_cells import Named
from streams.counting.layout import Layout
from streams.judge.closings import Closings
from streams.judge.cohorts import Cohorts
from streams.judge.incidents import Where
from streams.judge.open_panes import OpenPanes, Part, Slots, Values, added_up, together
from streams.judge.spans import BLOCKS, Spans
from streams.judge.traffic import Traffic

Learned = tuple[str, Literal["live", "shadow"] | str, str | None, int, Slots, Values]


def _predicted(cell: Named) -> int:
    return cell[4]


class ModelCells:
    """Every cell of one model. `earliest` says which pane the spans of a new cell may begin with; `split` is told when all that was counted
    for all versions so far becomes that of the first one too."""

    def __init__(
        self,
        layout: Layout,
        panes: Panes,
        traffic: Limits,
        earliest: Callable[[Where], int],
        split: Callable[[str], None],
    ) -> None:
        self.layout, self.pane_s, self.earliest, self.split = layout, panes.pane, earliest, split
        self.days_kept = panes.days_kept
        self.levels = max(1, math.ceil(math.log2(max(panes.longest_span / panes.pane / BLOCKS, 1.0))) + 1)
        self.spans: dict[Where, Spans] = {}
        self.days, self.arrivals = Cohorts(layout.size), Cohorts(layout.size)
        self.traffic = Traffic(self.spans, panes.pane, traffic)
        self.closings = Closings()
        self.open = OpenPanes(layout.size)
        self._wheres: dict[tuple[str, str, str | None], tuple[Where, ...]] = {}
        self._begun: list[int] = []
        """The first pane of each cell, ascending."""
        self.versions: list[str] = []
        self.serving: list[str] = []
        self.closed = 0
        """Every pane before this one has been judged."""

    @property
    def several(self) -> bool:
        """Whether versions are kept apart: one alone is the same as all."""
        return len(self.serving) > 1

    def known(self, end: int) -> int:
        """Cells of which anything came in panes before `end`."""
        return bisect.bisect_left(self._begun, end)

    def add(self, part: Part) -> None:
        """Keeps a digest's cells until their panes end."""
        self.open.add(part, self.closed)

    def first_end(self) -> int | None:
        """The earliest end of a pane or block that holds something; None where nothing does."""
        block, pane = self.closings.first(), self.open.first()
        if pane is None:
            return block
        return pane + 1 if block is None else min(block, pane + 1)

    def news(self, pane: int) -> bool:
        """Whether a version appears in a pane that has not ended: then all before it must have been judged."""
        return any(self._is_new(version, stage) for version, stage in self.open.versions(pane))

    def close_panes(self, until: float) -> None:
        """Adds up what came for the first panes before `until`, many at a time, up to one in which a version appears: a block of each cell,
        whose closing is announced, and the sums of days."""
        for where, pane, slots, values in self._close(until, self.layout.size, self.layout.offset("rows")):
            if not len(slots):  # counted and taken back: in one batch nothing would have been told of it
                continue
            spans = self.spans.get(where)
            if spans is None:
                spans = self.spans[where] = self._empty(where)
                bisect.insort(self._begun, pane)
            spans.put(pane, slots, values)
            self.closings.announce(pane + 1, 0, where)

    def _close(self, until: float, size: int, rows_slot: int) -> list[tuple[Where, int, Slots, Values]]:
        """The sums of some open panes, as `_count` gives them."""
        first = self.open.first()
        if first is None or first >= until:
            return []
        for version, stage in self.open.versions(first):
            if self._is_new(version, stage):
                self._new_version(version, stage, first)
        panes = self.open.close_before(until, self.news)
        counted = self._count(panes, size, rows_slot)
        self._drop_days(panes[-1][0])
        return counted

    def _drop_days(self, pane: int) -> None:
        """Keeps as many days as are wanted, up to that of a pane."""
        first = int(pane * self.pane_s // DAY_S) - self.days_kept + 1
        self.days.drop_before(first)
        self.arrivals.drop_before(first)

    def _is_new(self, version: str, stage: str) -> bool:
        """Also one that was a shadow, and serves now."""
        return version not in self.versions or (stage != "shadow" and version not in self.serving)

    def _new_version(self, version: str, stage: str, pane: int) -> None:
        if version not in self.versions:
            self.versions.append(version)
        if stage == "shadow":
            return
        self.serving.append(version)
        self._wheres.clear()
        if len(self.serving) != 2:
            return
        # What was all traffic until now was the first version's.
        first = self.serving[0]
        for where in [where for where in self.spans if where.version is None]:
            spans = self.spans[where].copy()
            other = where._replace(version=first)
            self.spans[other] = spans
            bisect.insort(self._begun, pane)
            self._announce(other, spans)
        self.days.split(first)
        self.arrivals.split(first)
        self.split(first)

    def _wheres_of(self, cell: Named) -> tuple[Where, ...]:
        """All that a digest's cell belongs to."""
        version, stage, segment = name = cell[:3]
        found = self._wheres.get(name)
        if found is None:
            if stage == "shadow":
                found = (Where(version, "shadow", segment),)
            else:
                whole = Where(None, "live", segment)
                found = (whole, Where(version, "live", segment)) if self.several else (whole,)
            self._wheres[name] = found
        return found

    def _count(
        self, panes: Sequence[tuple[int, Part]], size: int, rows_slot: int
    ) -> list[tuple[Where, int, Slots, Values]]:
        """The sum for each cell and pane, of parts with their panes; counted for the days of the predictions and of arrival, and for the
        hours of the traffic."""

        def arrived(cell: Named) -> int:
            return int(cell[3] * self.pane_s // DAY_S)

        part = together([part for _, part in panes])
        wheres = [self._wheres_of(cell) for cell in part.cells]

        def keyed(numbers: Iterable[int]) -> Iterator[tuple[Where, int, Slots, Values]]:
            """Summed by cell and number."""
            keys = [[(where, number) for where in of_cell] for of_cell, number in zip(wheres, numbers, strict=True)]
            for (where, number), slots, values in added_up(part, keys, size):
                yield where, number, slots, values

        found = list(keyed(pane for pane, of_pane in panes for _ in of_pane.cells))
        sums: dict[tuple[int, ...], list[tuple[Where, int, Slots, Values]]] = {}
        for cohorts, day_of in ((self.days, _predicted), (self.arrivals, arrived)):
            days = tuple(map(day_of, part.cells))
            if days not in sums:  # mostly both axes have the same days, and one pane one day
                if panes[0][0] == panes[-1][0] and len(set(days)) == 1:
                    sums[days] = [(where, days[0], slots, values) for where, _, slots, values in found]
                else:
                    sums[days] = list(keyed(days))
            for where, day, slots, values in sums[days]:
                cohorts.add(where, day, slots, values)
        self._count_traffic(part, rows_slot)
        return found

    def _count_traffic(self, part: Part, rows_slot: int) -> None:
        rows: dict[tuple[str | None, int], float] = {}
        at = np.flatnonzero(part.slots == rows_slot)
        of_cell = np.searchsorted(part.bounds, at, side="right") - 1
        for number, value in zip(of_cell.tolist(), part.values[at].tolist(), strict=True):
            _, stage, segment, pane, _ = part.cells[number]
            if stage != "shadow":
                rows[segment, pane] = rows.get((segment, pane), 0.0) + value
        for (segment, pane), value in rows.items():
            self.traffic.count(segment, pane, value)

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
        while self.open:
            self._close(math.inf, self.layout.size, self.layout.offset("rows"))
        self.open.size = layout.size
        old, self.layout = self.layout.sections, layout
        self.days.remap(old, layout)
        self.arrivals.remap(old, layout)
        for where in list(self.spans):
            spans = self._empty(where)
            spans.gone = {(level, number) for level in range(self.levels) for number in self.spans[where].blocks[level]}
            self.spans[where] = spans
        self.closings.clear()

    # -- rows ------------------------------------------------------------------------------------------------------------------

    def restore_days(self, days: Mapping[Where, Mapping[str, bytes]]) -> None:
        """Takes days back: "c" is the day of the prediction, "a" of the arrival."""
        for where, rows in days.items():
            for axis, cohorts in (("c", self.days), ("a", self.arrivals)):
                cohorts.restore(where, {name[1:]: row for name, row in rows.items() if name[0] == axis})
        self._drop_days(self.closed)

    def restore_blocks(self, blocks: Mapping[Where, Mapping[str, bytes]]) -> None:
        """Takes blocks back that were counted over the same edges."""
        for where, named in blocks.items():
            spans = self.spans[where] = self._empty(where)
            spans.restore(named)
            self._announce(where, spans)
        self._begun = [-1] * len(self.spans)

    def drop_blocks(self, blocks: Mapping[Where, Mapping[str, bytes]], sections: Mapping[str, tuple[int, int]]) -> None:
        """Stored blocks were counted over other edges, `sections` of another layout: they begin anew, what does not depend on the edges is
        kept."""
        size = max(stop for _, stop in sections.values()) if sections else self.layout.size
        while self.open:  # over the other edges, as the days still are
            self._close(math.inf, size, sections["rows"][0])
        self.days.remap(sections, self.layout)
        self.arrivals.remap(sections, self.layout)
        for where, named in blocks.items():
            spans = self.spans[where] = self._empty(where)
            spans.gone = {(int(level), int(number)) for level, _, number in (name.partition(":") for name in named)}
        self._begun = [-1] * len(self.spans)

    def forget_rows(self) -> None:
        """Nothing changed since the last call, as far as rows go."""
        for spans in self.spans.values():
            spans.forget_changes()
        self.open.forget_changes()
        self.days.forget_changes()
        self.arrivals.forget_changes()

    def _announce(self, where: Where, spans: Spans) -> None:
        for level in range(self.levels - 1):
            for number in spans.blocks[level]:
                end = ((number >> 1) + 1) << (level + 1)
                if end > self.closed:
                    self.closings.announce(end, level + 1, where)
