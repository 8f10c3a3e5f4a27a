"""Labels find their predictions: which rows change, and which outcomes are counted or taken back.

A request is in one state: pending, joined (and perhaps revised), early, late, expired or orphan. A label is in time when
`-early_tolerance <= label - prediction <= delay_window`, by their stamps alone: no order of arrival changes a figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from leadline.events import ClassValue
from streams.core.stage import Record
from streams.counting.tally_outcomes import age_bins
from streams.observe.request_rows import RequestRows
from streams.observe.rows import (
    EARLY,
    JOINED,
    LATE_SEEN,
    PENDING,
    REVISED,
    TICKS_PER_S,
    TOO_EARLY_SEEN,
    Floats,
    Heads,
    Indices,
    WaitingLabel,
    age_of,
    combination_of,
    flag_row,
    has_flag,
    heads,
    join_pending,
    join_row,
    kind_of,
    label_of,
    pack_waiting,
    pane_of,
    unpack_waiting,
    values_of,
)


class Arrivals(NamedTuple):
    """Labels in order of arrival, as columns.

    `keys` are those of their requests' rows, `visible` the watermark when each came, `times` its own stamp. `record(origins[k])` is the
    message itself; of a label that had waited, what is left of it.
    """

    keys: Sequence[bytes]
    times: Floats
    labels: Sequence[ClassValue]
    values: Sequence[dict[str, float] | None]
    definitions: Sequence[str | None]
    visible: Floats
    record: Callable[[int], Record]
    origins: Sequence[int]

    def pick(self, positions: Sequence[int]) -> Arrivals:
        """Those at some positions."""
        keys, times, labels, values, definitions, visible, record, origins = self
        at = np.array(positions, dtype=np.int64)
        return Arrivals(
            [keys[place] for place in positions],
            times[at],
            [labels[place] for place in positions],
            [values[place] for place in positions],
            [definitions[place] for place in positions],
            visible[at],
            record,
            [origins[place] for place in positions],
        )


class Block(NamedTuple):
    """Outcomes that are counted (sign 1) or taken back (-1) together, as columns; `heads` are those of `rows`.

    `delays` (seconds) and `visible` (the watermark when the pair was complete) are NaN for all but the first label of a request.
    `panes` (of arrival) and `ages` (bins of the delay) are those of the first label, also of a correction: it counts where the label
    stood that it corrects. `values` are all that are known by then.
    """

    rows: Sequence[bytes]
    heads: Heads
    labels: Floats
    panes: Indices
    visible: Floats
    values: Sequence[Mapping[str, float] | None]
    delays: Floats
    ages: Indices
    sign: int


class Event(NamedTuple):
    """Something that is counted beside the outcome: a join slot, whose row, when it was seen, and +1 or -1."""

    name: str
    row: bytes
    visible: float
    sign: int


@dataclass(slots=True)
class Outcomes:
    """What a batch of labels did."""

    blocks: list[Block] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    """A first label is `joined` too: a block's `delays` say which is one."""
    definitions: list[tuple[bytes, float, str]] = field(default_factory=list)
    """(row, visible, definition) of each label in time that names the version of its definition."""
    waiting: int = 0
    repeated: int = 0
    late_labels: int = 0
    unusable: list[tuple[Record, ClassValue]] = field(default_factory=list)
    """Labels that are no class or value of their model's task."""


@dataclass(slots=True)
class _Singles:
    """Outcomes of labels that are looked at one by one."""

    rows: list[bytes] = field(default_factory=list)
    labels: list[float] = field(default_factory=list)
    panes: list[int] = field(default_factory=list)
    visible: list[float] = field(default_factory=list)
    values: list[Mapping[str, float] | None] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    ages: list[int] = field(default_factory=list)

    def add(
        self,
        row: bytes,
        label: float,
        pane: int,
        values: Mapping[str, float] | None,
        age: int,
        delay: float = math.nan,
        visible: float = math.nan,
    ) -> None:
        self.rows.append(row)
        self.labels.append(label)
        self.panes.append(pane)
        self.visible.append(visible)
        self.values.append(values)
        self.delays.append(delay)
        self.ages.append(age)

    def blocks(self, sign: int) -> list[Block]:
        """None or one."""
        if not self.rows:
            return []
        panes, ages = np.array(self.panes, dtype=np.int64), np.array(self.ages, dtype=np.int64)
        return [
            Block(
                self.rows,
                heads(self.rows),
                np.array(self.labels),
                panes,
                np.array(self.visible),
                self.values,
                np.array(self.delays),
                ages,
                sign,
            )
        ]


class Joiner:
    """Joins labels with the rows of one partition. `read_labels` turns raw labels into numbers, given the combinations of their rows;
    `business_of` names the business values that are kept for a combination."""

    def __init__(
        self,
        rows: RequestRows,
        pane_s: float,
        delay_window_s: float,
        early_tolerance_s: float,
        read_labels: Callable[[Indices, Sequence[ClassValue]], Floats],
        business_of: Callable[[int], Sequence[str]],
    ) -> None:
        self.rows = rows
        self.pane_s = pane_s
        self.delay_window_s = delay_window_s
        self.early_tolerance_s = early_tolerance_s
        self.read_labels = read_labels
        self.business_of = business_of

    def take(self, arrivals: Arrivals, outcomes: Outcomes) -> None:
        """Takes labels in order of arrival. Labels of one request go in rounds, so that each sees what the last one did."""
        while arrivals.keys:
            keys = arrivals.keys
            again: list[int] = []
            if len(set(keys)) < len(keys):
                taken: set[bytes] = set()
                first: list[int] = []
                for at, key in enumerate(keys):
                    (again if key in taken else first).append(at)
                    taken.add(key)
                self._take_distinct(arrivals.pick(first), outcomes)
            else:
                self._take_distinct(arrivals, outcomes)
            if not again:
                break
            arrivals = arrivals.pick(again)
        outcomes.unusable.sort(key=lambda unusable: unusable[0].offset)

    def _take_distinct(self, arrivals: Arrivals, outcomes: Outcomes) -> None:
        found = list(map(self.rows.rows.get, arrivals.keys))
        met = [at for at, row in enumerate(found) if row is not None and row[0] & EARLY != EARLY]
        rows: list[bytes] = [found[at] for at in met]  # type: ignore[misc]  # none of them is None
        if len(met) == len(found):
            self._join(arrivals, rows, outcomes)
            return
        new = [at for at, row in enumerate(found) if row is None]
        waiting = [[self._waiting(arrivals, at)] for at in new]
        keys, times = [arrivals.keys[at] for at in new], arrivals.times[new]
        self.rows.put_many(keys, [pack_waiting(labels) for labels in waiting], times, new=True)
        outcomes.waiting += len(new)
        for at, row in enumerate(found):
            if row is not None and kind_of(row) == EARLY:
                labels = [*unpack_waiting(row), self._waiting(arrivals, at)]
                self.rows.put(arrivals.keys[at], pack_waiting(labels), labels[0].time)
        if met:
            self._join(arrivals.pick(met), rows, outcomes)

    @staticmethod
    def _waiting(arrivals: Arrivals, at: int) -> WaitingLabel:
        return WaitingLabel(
            float(arrivals.times[at]),
            arrivals.labels[at],
            arrivals.values[at],
            arrivals.definitions[at],
            arrivals.record(arrivals.origins[at]).offset,
        )

    def _join(self, arrivals: Arrivals, rows: Sequence[bytes], outcomes: Outcomes) -> None:
        """Labels whose predictions are known."""
        head = heads(rows)
        # Both are whole microseconds; so is what lies between them, not what a difference of large floats makes of it.
        delay = np.rint((arrivals.times - head.time) * TICKS_PER_S) / TICKS_PER_S
        numbers = self.read_labels(head.combination, arrivals.labels)
        in_time = (delay >= -self.early_tolerance_s) & (delay <= self.delay_window_s) & np.isfinite(numbers)
        if any(arrivals.definitions):
            told = zip(rows, arrivals.visible.tolist(), arrivals.definitions, in_time.tolist(), strict=True)
            outcomes.definitions += [(row, seen, name) for row, seen, name, usable in told if name and usable]
        plain = in_time & (head.kind == PENDING) & (head.flags == 0)
        if plain.all():
            self._join_first(arrivals, rows, head, numbers, delay, outcomes)
            return
        at = np.flatnonzero(plain)
        if len(at):
            picked = at.tolist()
            some = [rows[place] for place in picked]
            self._join_first(arrivals.pick(picked), some, head.at(at), numbers[at], delay[at], outcomes)
        back, new = _Singles(), _Singles()
        for place in np.flatnonzero(~plain).tolist():
            row, when, label = rows[place], float(head.time[place]), float(numbers[place])
            if in_time[place]:
                self._join_one(arrivals, place, row, when, float(delay[place]), label, outcomes, back, new)
            else:
                self._out_of_time(arrivals, place, row, when, float(delay[place]), label, outcomes)
        outcomes.blocks += [*back.blocks(-1), *new.blocks(1)]

    def _join_first(
        self,
        arrivals: Arrivals,
        rows: Sequence[bytes],
        head: Heads,
        numbers: Floats,
        delay: Floats,
        outcomes: Outcomes,
    ) -> None:
        """The usual case at once: labels in time, each the first of its request."""
        ages, panes = age_bins(delay), self._panes(arrivals.visible)
        values = None
        if any(arrivals.values):
            pairs = zip(head.combination.tolist(), arrivals.values, strict=True)
            values = [self._kept(combination, given) for combination, given in pairs]
        joined = join_pending(rows, numbers, ages, panes, values)
        self.rows.put_many(arrivals.keys, joined, head.time, new=False)
        outcomes.blocks.append(Block(rows, head, numbers, panes, arrivals.visible, arrivals.values, delay, ages, 1))

    def _panes(self, visible: Floats) -> Indices:
        """Arrival panes of times at which something became visible, epoch seconds."""
        return (visible // self.pane_s).astype(np.int64)

    def _kept(self, combination: int, given: Mapping[str, float] | None) -> tuple[float, ...]:
        """The values that are kept with a row, in the order of their names; nothing where its labels state none of them."""
        names = self.business_of(combination)
        if not given or not any(name in given for name in names):
            return ()
        return tuple(given.get(name, math.nan) for name in names)

    def _told(self, row: bytes, names: Sequence[str]) -> dict[str, float]:
        """The business values that a joined row's labels have stated. None of them counts if other names are kept by now."""
        kept = values_of(row)
        if len(kept) != len(names):
            return {}
        return {name: value for name, value in zip(names, kept, strict=True) if not math.isnan(value)}

    def _join_one(
        self,
        arrivals: Arrivals,
        at: int,
        row: bytes,
        when: float,
        delay: float,
        label: float,
        outcomes: Outcomes,
        back: _Singles,
        new: _Singles,
    ) -> None:
        visible = float(arrivals.visible[at])
        if kind_of(row) == JOINED:
            self._correct(arrivals, at, row, when, label, outcomes, back, new)
            return
        if has_flag(row, LATE_SEEN):
            outcomes.events.append(Event("late", row, visible, -1))
        age, pane = int(age_bins(np.array([delay]))[0]), int(visible // self.pane_s)
        kept = self._kept(combination_of(row), arrivals.values[at])
        self.rows.put(arrivals.keys[at], join_row(row, label, age, pane, kept), when)
        new.add(row, label, pane, arrivals.values[at], age, delay, visible)

    def _correct(
        self,
        arrivals: Arrivals,
        at: int,
        row: bytes,
        when: float,
        label: float,
        outcomes: Outcomes,
        back: _Singles,
        new: _Singles,
    ) -> None:
        """A further label in time: it replaces the last one, and those of its business values that it states."""
        old, age, pane, combination = label_of(row), age_of(row), pane_of(row), combination_of(row)
        names = self.business_of(combination)
        before = self._told(row, names)
        values = before | {name: value for name, value in (arrivals.values[at] or {}).items() if name in names}
        revised = has_flag(row, REVISED)
        if old == label:
            outcomes.repeated += 1
            if values == before:
                return
        elif not revised:
            outcomes.events.append(Event("revised", row, float(arrivals.visible[at]), 1))
            revised = True
        kept = self._kept(combination, values)
        self.rows.put(arrivals.keys[at], join_row(row, label, age, pane, kept, revised=revised), when)
        back.add(row, old, pane, before, age)
        new.add(row, label, pane, values, age)

    def _out_of_time(
        self, arrivals: Arrivals, at: int, row: bytes, when: float, delay: float, label: float, outcomes: Outcomes
    ) -> None:
        visible = float(arrivals.visible[at])
        if not np.isfinite(label):
            outcomes.events.append(Event("label_unusable", row, visible, 1))
            outcomes.unusable.append((arrivals.record(arrivals.origins[at]), arrivals.labels[at]))
        elif delay > self.delay_window_s:
            outcomes.late_labels += 1
            if kind_of(row) == PENDING and not has_flag(row, LATE_SEEN):
                outcomes.events.append(Event("late", row, visible, 1))
                self.rows.put(arrivals.keys[at], flag_row(row, LATE_SEEN), when)
        elif not has_flag(row, TOO_EARLY_SEEN):
            outcomes.events.append(Event("too_early", row, visible, 1))
            self.rows.put(arrivals.keys[at], flag_row(row, TOO_EARLY_SEEN), when)
