"""Labels find their predictions: which rows change, and which outcomes are counted or taken back.

A request is in one state: pending, joined (and perhaps revised), early, late, expired or orphan. A label is in time when
`-early_tolerance <= label - prediction <= delay_window`, by their stamps alone: no order of arrival changes a figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from leadline.events import ClassValue
from streams.request_rows import RequestRows
from streams.rows import (
    EARLY,
    JOINED,
    LATE_SEEN,
    PENDING,
    REVISED,
    TOO_EARLY_SEEN,
    WaitingLabel,
    age_of,
    flag_row,
    headers,
    join_pending,
    join_row,
    label_of,
    pack_waiting,
    seen_of,
    unpack_waiting,
    values_of,
)
from streams.tally_outcomes import age_bins

NO_DELAY = float("nan")  # of a correction, and of what it takes back: the first label alone says how long labels take


class Arrival(NamedTuple):
    """One label event. `visible` is the watermark when it came; `origin` finds its record again, -1 for a label that had waited."""

    request_id: str
    time: float
    label: ClassValue
    values: dict[str, float] | None
    visible: float
    origin: int
    definition: str | None = None


@dataclass(slots=True)
class Outcomes:
    """What a batch of labels did, as columns; `sign` -1 takes an older label back."""

    rows: list[bytes] = field(default_factory=list)
    labels: list[float] = field(default_factory=list)
    signs: list[int] = field(default_factory=list)
    visible: list[float] = field(default_factory=list)
    """When the pair was complete: a correction counts in the same pane as what it corrects."""
    values: list[dict[str, float] | None] = field(default_factory=list)
    """Business values: of a new label all that are known by now, of an old one what it had said."""
    delays: list[float] = field(default_factory=list)
    ages: list[int] = field(default_factory=list)
    """The bin of the first label's delay, also of corrections: they count where the label stood that they correct."""
    definitions: list[tuple[bytes, float, str]] = field(default_factory=list)
    """(row, visible, definition) of each label in time that names the version of its definition."""
    events: list[tuple[str, bytes, float, int]] = field(default_factory=list)
    """(join slot, row, visible, +1 or -1) of everything that is counted beside the outcome.

    A first label is `joined` too: `delays` says which is one."""
    waiting: int = 0
    repeated: int = 0
    late_labels: int = 0
    unusable: list[int] = field(default_factory=list)
    """Origins of labels that are no class or value of their model's task."""


class Joiner:
    """Joins labels with the rows of one partition. `read_labels` turns raw labels into numbers, given the combinations of their rows;
    `business_of` names the business values that are kept for a combination."""

    def __init__(
        self,
        rows: RequestRows,
        delay_window_s: float,
        early_tolerance_s: float,
        read_labels: Callable[[np.ndarray, Sequence[ClassValue]], np.ndarray],
        business_of: Callable[[int], Sequence[str]],
    ) -> None:
        self.rows = rows
        self.delay_window_s = delay_window_s
        self.early_tolerance_s = early_tolerance_s
        self.read_labels = read_labels
        self.business_of = business_of

    def take(self, arrivals: Sequence[Arrival], outcomes: Outcomes) -> None:
        """Takes labels in order of arrival. Labels of one request go in rounds, so that each sees what the last one did."""
        while arrivals:
            names = [arrival.request_id for arrival in arrivals]
            later: list[Arrival] = []
            if len(set(names)) < len(names):
                taken: set[str] = set()
                this: list[Arrival] = []
                for arrival in arrivals:
                    (later if arrival.request_id in taken else this).append(arrival)
                    taken.add(arrival.request_id)
                arrivals, names = this, [arrival.request_id for arrival in this]
            self._take_distinct(arrivals, names, outcomes)
            arrivals = later
        outcomes.unusable.sort()

    def _take_distinct(self, arrivals: Sequence[Arrival], names: Sequence[str], outcomes: Outcomes) -> None:
        group: list[Arrival] = []
        found: list[bytes] = []
        for arrival, row in zip(arrivals, map(self.rows.rows.get, names), strict=True):
            if row is None:
                label = WaitingLabel(arrival.time, arrival.label, arrival.values, arrival.definition)
                self.rows.put(arrival.request_id, pack_waiting([label]), arrival.time)
                outcomes.waiting += 1
            elif row[0] == EARLY:
                waiting = unpack_waiting(row)
                waiting.append(WaitingLabel(arrival.time, arrival.label, arrival.values, arrival.definition))
                self.rows.put(arrival.request_id, pack_waiting(waiting), waiting[0].time)
            else:
                group.append(arrival)
                found.append(row)
        if group:
            self._join(group, found, outcomes)

    def _join(self, group: list[Arrival], found: list[bytes], outcomes: Outcomes) -> None:
        head = headers(found)
        names, times, given, *_ = zip(*group, strict=True)
        delay = np.array(times) - head["time"]
        numbers = self.read_labels(head["combination"], given)
        in_time = (delay >= -self.early_tolerance_s) & (delay <= self.delay_window_s) & np.isfinite(numbers)
        outcomes.definitions += [
            (row, arrival.visible, arrival.definition)
            for arrival, row, usable in zip(group, found, in_time.tolist(), strict=True)
            if arrival.definition is not None and usable
        ]
        plain = in_time & (head["kind"] == PENDING) & (head["flags"] == 0)
        if plain.all():
            self._join_first(group, names, found, head, numbers, delay, outcomes)
            return
        at = np.flatnonzero(plain)
        if len(at):
            picked = at.tolist()
            some = [group[position] for position in picked]
            self._join_first(
                some,
                [item.request_id for item in some],
                [found[i] for i in picked],
                head[at],
                numbers[at],
                delay[at],
                outcomes,
            )
        for position in np.flatnonzero(~plain).tolist():
            self._join_one(
                group[position],
                found[position],
                float(head["time"][position]),
                float(delay[position]),
                float(numbers[position]),
                bool(in_time[position]),
                outcomes,
            )

    def _join_first(
        self,
        group: Sequence[Arrival],
        names: Sequence[str],
        found: Sequence[bytes],
        head: npt.NDArray[Any],
        numbers: npt.NDArray[np.float64],
        delay: npt.NDArray[np.float64],
        outcomes: Outcomes,
    ) -> None:
        """The usual case at once: labels in time, each the first of its request."""
        fields = [name.encode() for name in names]
        ages = age_bins(delay)
        seen = [arrival.visible for arrival in group]
        values = None
        if any(arrival.values for arrival in group):
            values = [
                self._kept(combination, arrival.values)
                for combination, arrival in zip(head["combination"].tolist(), group, strict=True)
            ]
        self.rows.put_many(names, fields, join_pending(found, numbers, ages, seen, values), head["time"], new=False)
        outcomes.rows += found
        outcomes.labels += numbers.tolist()
        outcomes.signs += [1] * len(found)
        outcomes.visible += seen
        outcomes.values += [arrival.values for arrival in group]
        outcomes.delays += delay.tolist()
        outcomes.ages += ages.tolist()

    def _kept(self, combination: int, given: Mapping[str, float] | None) -> tuple[float, ...]:
        """The values that are kept with a row, in the order of their names; nothing where the label states none of them."""
        names = self.business_of(combination)
        if not given or not any(name in given for name in names):
            return ()
        return tuple(given.get(name, math.nan) for name in names)

    def _told(self, row: bytes, combination: int) -> dict[str, float]:
        """The business values that a joined row's labels have stated. None of them counts if other names are kept by now."""
        kept, names = values_of(row), self.business_of(combination)
        if len(kept) != len(names):
            return {}
        return {name: value for name, value in zip(names, kept, strict=True) if not math.isnan(value)}

    def _join_one(
        self, arrival: Arrival, row: bytes, when: float, delay: float, label: float, usable: bool, outcomes: Outcomes
    ) -> None:
        if not usable:
            self._out_of_time(arrival, row, when, delay, label, outcomes)
            return
        if row[0] == JOINED:
            self._correct(arrival, row, when, label, outcomes)
            return
        if row[1] & LATE_SEEN:
            outcomes.events.append(("late", row, arrival.visible, -1))
        age = int(age_bins(np.array([delay]))[0])
        kept = self._kept(_combination(row), arrival.values)
        self.rows.put(arrival.request_id, join_row(row, label, age, arrival.visible, kept), when)
        _count(outcomes, row, label, 1, arrival.visible, arrival.values, delay, age)

    def _correct(self, arrival: Arrival, row: bytes, when: float, label: float, outcomes: Outcomes) -> None:
        """A further label in time: it replaces the last one, and those of its business values that it states."""
        old, age, seen = label_of(row), age_of(row), seen_of(row)
        combination = _combination(row)
        before = self._told(row, combination)
        names = self.business_of(combination)
        values = before | {name: value for name, value in (arrival.values or {}).items() if name in names}
        if old == label:
            outcomes.repeated += 1
            if values == before:
                return
        elif not row[1] & REVISED:
            outcomes.events.append(("revised", row, arrival.visible, 1))
        revised = old != label or bool(row[1] & REVISED)
        kept = self._kept(combination, values)
        self.rows.put(arrival.request_id, join_row(row, label, age, seen, kept, revised=revised), when)
        _count(outcomes, row, old, -1, seen, before, NO_DELAY, age)
        _count(outcomes, row, label, 1, seen, values, NO_DELAY, age)

    def _out_of_time(
        self, arrival: Arrival, row: bytes, when: float, delay: float, label: float, outcomes: Outcomes
    ) -> None:
        if not np.isfinite(label):
            outcomes.events.append(("label_unusable", row, arrival.visible, 1))
            if arrival.origin >= 0:
                outcomes.unusable.append(arrival.origin)
        elif delay > self.delay_window_s:
            outcomes.late_labels += 1
            if row[0] == PENDING and not row[1] & LATE_SEEN:
                outcomes.events.append(("late", row, arrival.visible, 1))
                self.rows.put(arrival.request_id, flag_row(row, LATE_SEEN), when)
        elif not row[1] & TOO_EARLY_SEEN:
            outcomes.events.append(("too_early", row, arrival.visible, 1))
            self.rows.put(arrival.request_id, flag_row(row, TOO_EARLY_SEEN), when)


def _combination(row: bytes) -> int:
    return int(headers([row])["combination"][0])


def _count(
    outcomes: Outcomes,
    row: bytes,
    label: float,
    sign: int,
    visible: float,
    values: dict[str, float] | None,
    delay: float,
    age: int,
) -> None:
    outcomes.rows.append(row)
    outcomes.labels.append(label)
    outcomes.signs.append(sign)
    outcomes.visible.append(visible)
    outcomes.values.append(values)
    outcomes.delays.append(delay)
    outcomes.ages.append(age)
