"""The same core fed from a recorded log: no broker, event time, as fast as it goes, the same report to the last digit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from leadline.alert import Alert
from leadline.config import Config
from leadline.events import Digest
from streams.backtest.log_files import merge, read_log
from streams.baselines.reference_book import ReferenceBook
from streams.core.decoded import Fault
from streams.core.stage import Arrived, Record
from streams.judge.judge import Judge
from streams.observe.observe import Observer, Order
from streams.observe.rows import EARLY, JOINED, LATE_SEEN, has_flag, kind_of, time_of

BATCH = 4096
FOREVER_S = 100 * 365 * 86_400.0


def for_backtest(config: Config) -> Config:
    """The same configuration without the bounds that a finite log does not need: rows are kept to the end of the log, and counts of every
    day."""
    join = config.join.model_copy(
        update={"late_retention": config.join.late_retention or FOREVER_S, "cache_rows": 10**9}
    )
    panes = config.panes.model_copy(update={"days_kept": 10**9})
    return config.model_copy(update={"join": join, "panes": panes})


@dataclass
class Taken:
    """Lines of one file: how many were read, how many of them were no events, and the first of each reason."""

    lines: int = 0
    rejected: int = 0
    first: dict[str, Fault] = field(default_factory=dict)


class Backtest:
    """One observer and one judge over a log. `run` returns when the log is read; figures and incidents are then final."""

    def __init__(self, config: Config) -> None:
        self.config = for_backtest(config)
        self.book = ReferenceBook(self.config)
        self.observer = Observer(0, self.config, self.book)
        self.judge = Judge(0, self.config, self.book)
        self.alerts: list[Alert] = []
        self.taken = {"predictions": Taken(), "labels": Taken()}

    def run(self, predictions: Path, labels: Path, now: float, progress: Callable[[int], None] | None = None) -> None:
        """Reads both files in order of arrival. `now` is the clock that stamps are held against where no `arrived_at` stands."""
        log = merge(read_log(predictions, now, progress), read_log(labels, now, progress))
        self.feed(log)

    def feed(self, log: Iterator[tuple[str, Record]]) -> None:
        """Takes records in order of arrival, and judges to the end of them."""
        while batch := list(islice(log, BATCH)):
            arrived: dict[str, list[Record]] = {"predictions": [], "labels": []}
            places: dict[str, list[int]] = {"predictions": [], "labels": []}
            for place, (source, record) in enumerate(batch):
                arrived[source].append(record)
                places[source].append(place)
            order = Order(np.array(places["predictions"], np.int64), np.array(places["labels"], np.int64))
            seen = self.observer.observe(arrived, {}, 0.0, order)
            self._count_lines(arrived, seen.faults)
            self.observer.rows.take_changes()
            self.observer.combinations.take_new()
            for digest in seen.digests:
                self.judge.take(digest)
            self.judge.forget_rows()
            if self.observer.watermark.settled:
                self._tell_clock(self.observer.watermark.time)
        if self.observer.watermark.time > float("-inf"):
            # The log is whole: nothing will come into the last pane any more.
            self._tell_clock(self.observer.watermark.time + self.config.panes.pane)

    def _count_lines(self, arrived: Arrived, faults: Mapping[str, Sequence[Fault]]) -> None:
        for source, records in arrived.items():
            taken = self.taken[source]
            taken.lines += len(records)
            # A label that had waited is found out when its prediction comes; its line was counted before.
            taken.rejected += len(faults[source])
            for fault in faults[source]:
                taken.first.setdefault(fault.reason, fault)

    def _tell_clock(self, clock: float) -> None:
        self.observer.sequence += 1
        self.judge.take(Digest(0, self.observer.sequence, "", "", clock, 0.0, []))
        self.alerts += self.judge.take_alerts()

    @property
    def clock(self) -> float:
        """How far event time has come at the end of the log, epoch seconds; minus infinity where it holds no event."""
        return self.observer.watermark.reached(self.config.join.delay_window)

    def counts(self) -> dict[str, int]:
        """Every join state of the log, each request in one of them, and what was not counted."""
        window, clock = self.config.join.delay_window, self.clock
        states = {"joined": 0, "late": 0, "expired": 0, "pending": 0, "orphan": 0}
        for row in self.observer.rows.rows.values():
            if kind_of(row) == EARLY:
                states["orphan"] += 1
            elif kind_of(row) == JOINED:
                states["joined"] += 1
            elif has_flag(row, LATE_SEEN):
                states["late"] += 1
            else:
                states["expired" if time_of(row) + window < clock else "pending"] += 1
        counted = self.observer.counts
        rejected = sum(self.observer.rejected.values())
        duplicates = counted.get("duplicate_predictions", 0)
        return {
            "predictions": counted.get("predictions", 0),
            "labels": counted.get("labels", 0),
            **states,
            "early": counted.get("early", 0),
            "revised": counted.get("revised", 0),
            "too_early": counted.get("too_early", 0),
            "duplicates": duplicates,
            "duplicate_predictions": duplicates,
            "duplicate_labels": counted.get("repeated_labels", 0),
            "late_labels": counted.get("late_labels", 0),
            "rejected": rejected,
        }
