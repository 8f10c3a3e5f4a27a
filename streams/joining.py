"""Labels find their predictions: which rows change, and which outcomes are counted or taken back.

A request is in one state: pending, joined (and perhaps revised), early, late, expired or orphan. A label is in time when
`-early_tolerance <= label - prediction <= delay_window`, by their stamps alone: no order of arrival changes a figure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from leadline.events import ClassValue
from streams.request_rows import RequestRows
from streams.rows import EARLY, JOINED, LATE_SEEN, PENDING, REVISED, TOO_EARLY_SEEN, WaitingLabel, flag_row, headers, join_row, label_of
from streams.rows import pack_waiting, unpack_waiting

NO_DELAY = float("nan")  # of a correction, and of what it takes back: the first label alone says how long labels take


class Arrival(NamedTuple):
    """One label event. `visible` is the watermark when it came; `origin` finds its record again, -1 for a label that had waited."""

    request_id: str
    time: float
    label: ClassValue
    values: dict[str, float] | None
    visible: float
    origin: int


@dataclass(slots=True)
class Outcomes:
    """What a batch of labels did, as columns; `sign` -1 takes an older label back."""

    rows: list[bytes] = field(default_factory=list)
    labels: list[float] = field(default_factory=list)
    signs: list[int] = field(default_factory=list)
    visible: list[float] = field(default_factory=list)
    values: list[dict[str, float] | None] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    events: list[tuple[str, bytes, float, int]] = field(default_factory=list)
    """(join slot, row, visible, +1 or -1) of everything that is counted beside the outcome."""
    waiting: int = 0
    repeated: int = 0
    late_labels: int = 0
    unusable: list[int] = field(default_factory=list)
    """Origins of labels that are no class or value of their model's task."""


class Joiner:
    """Joins labels with the rows of one partition. `read_labels` turns raw labels into numbers, given the combinations of their rows."""

    def __init__(
        self,
        rows: RequestRows,
        delay_window_s: float,
        early_tolerance_s: float,
        read_labels: Callable[[np.ndarray, Sequence[ClassValue]], np.ndarray],
    ) -> None:
        self.rows = rows
        self.delay_window_s = delay_window_s
        self.early_tolerance_s = early_tolerance_s
        self.read_labels = read_labels

    def take(self, arrivals: Sequence[Arrival], outcomes: Outcomes) -> None:
        """Takes labels in order of arrival. Labels of one request are told apart by rounds, so that each sees what the last one did."""
        rows = self.rows.rows
        group: list[Arrival] = []
        found: list[bytes] = []
        taken: set[str] = set()
        for arrival in arrivals:
            name = arrival.request_id
            if name in taken:
                self._join(group, found, outcomes)
                group, found, taken = [], [], set()
            row = rows.get(name)
            if row is None:
                self.rows.put(name, pack_waiting([WaitingLabel(arrival.time, arrival.label, arrival.values)]), arrival.time)
                outcomes.waiting += 1
            elif row[0] == EARLY:
                waiting = unpack_waiting(row)
                waiting.append(WaitingLabel(arrival.time, arrival.label, arrival.values))
                self.rows.put(name, pack_waiting(waiting), waiting[0].time)
            else:
                group.append(arrival)
                found.append(row)
                taken.add(name)
        self._join(group, found, outcomes)

    def _join(self, group: list[Arrival], found: list[bytes], outcomes: Outcomes) -> None:
        if not group:
            return
        head = headers(found)
        times = np.array([arrival.time for arrival in group])
        delay = times - head["time"]
        numbers = self.read_labels(head["combination"], [arrival.label for arrival in group])
        in_time = (delay >= -self.early_tolerance_s) & (delay <= self.delay_window_s) & np.isfinite(numbers)
        put = self.rows.put
        events = outcomes.events
        joined = (head["kind"] == JOINED).tolist()
        for at, (arrival, row, usable, label, is_joined) in enumerate(
            zip(group, found, in_time.tolist(), numbers.tolist(), joined, strict=True)
        ):
            when = float(times[at] - delay[at])
            if not usable:
                self._out_of_time(arrival, row, when, float(delay[at]), label, outcomes)
                continue
            visible = arrival.visible
            if is_joined:
                old = label_of(row)
                if old == label:
                    outcomes.repeated += 1
                    continue
                if not row[1] & REVISED:
                    events.append(("revised", row, visible, 1))
                outcomes.rows.append(row)
                outcomes.labels.append(old)
                outcomes.signs.append(-1)
                outcomes.visible.append(visible)
                outcomes.values.append(None)
                outcomes.delays.append(NO_DELAY)
            else:
                if row[1] & LATE_SEEN:
                    events.append(("late", row, visible, -1))
                events.append(("joined", row, visible, 1))
            put(arrival.request_id, join_row(row, label, revised=is_joined), when)
            outcomes.rows.append(row)
            outcomes.labels.append(label)
            outcomes.signs.append(1)
            outcomes.visible.append(visible)
            outcomes.values.append(None if is_joined else arrival.values)
            outcomes.delays.append(NO_DELAY if is_joined else float(delay[at]))

    def _out_of_time(self, arrival: Arrival, row: bytes, when: float, delay: float, label: float, outcomes: Outcomes) -> None:
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
