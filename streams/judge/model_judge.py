"""One model's judge: merges digests into spans and cohorts and evaluates every block that closes.

Pure. Event time comes from the digests' clocks; the same digests give the same incidents with the same ids. What fires goes to the
incidents' lives, single values to the sequential detectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from leadline.alert import Alert
from leadline.config import Config
from leadline.events import Change, Digest, DigestCell, LearningRow
from streams.baselines.learning import learn
from streams.baselines.reference_book import ReferenceBook
from streams.core.digest_cells import unpack_cells
from streams.counting.layout import OF_ANY_TASK
from streams.counting.references import bare
from streams.judge.closings import Closings
from streams.judge.cohorts import Cohorts
from streams.judge.group_rules import GroupRules
from streams.judge.incident_lives import IncidentLives, LivesState
from streams.judge.incidents import TRAFFIC_SHARE, Firing, Incident, Where
from streams.judge.label_watch import LabelState, LabelWatch
from streams.judge.live_baseline import LiveBaseline
from streams.judge.notes import Notes
from streams.judge.sequential import Sequential
from streams.judge.spans import BLOCKS, Block, Spans, stack
from streams.judge.traffic import Traffic, TrafficState
from streams.rules.baseline import Baseline
from streams.rules.evaluate import Evaluator

MONTH_S = 30 * 86_400.0
STACK = 32  # looks judged together: more leave the cache
SPANS_SHARE = 0.5  # of the false-alarm budget; the other half is for single values (`stream_detectors.py`)


class Saved(msgspec.Struct):
    """What is kept of a model beside its blocks and days."""

    layout: str = ""
    closed: int = 0
    versions: list[str] = []
    serving: list[str] = []
    lives: LivesState = msgspec.field(default_factory=LivesState)
    traffic: TrafficState = msgspec.field(default_factory=TrafficState)
    cohorts: dict[int, tuple[int, int, int]] = {}
    learning: list[LearningRow] = []
    schema_seen: dict[str, dict[str, int]] = {}
    sections: dict[str, tuple[int, int]] = {}
    labels: LabelState = msgspec.field(default_factory=LabelState)
    task: Literal["", "binary", "regression", "multiclass"] = ""
    classes: list[str] = []
    renames: dict[str, list[int]] = {}


class ModelJudge:
    """State of one model. `take` merges a digest, `advance` judges everything before a pane; both return nothing: see `take_alerts`."""

    def __init__(self, model_id: str, config: Config, book: ReferenceBook) -> None:
        self.model_id = model_id
        self.config = config
        self.book = book
        self.rules = config.rules_for(model_id)
        self.pane_s = config.panes.pane
        self.levels = max(1, math.ceil(math.log2(max(config.panes.longest_span / self.pane_s / BLOCKS, 1.0))) + 1)
        self.reference = book.get(model_id)
        self.live = self._live()
        self.evaluator = self._evaluator()
        self.cells: dict[Where, Spans] = {}
        self.traffic = Traffic(self.cells, self.pane_s, self.rules.traffic_share)
        self.lives = IncidentLives(
            model_id,
            self.cells,
            self.evaluator,
            self.pane_s,
            config.join.delay_window,
            lambda: self.alpha,
            self.traffic,
        )
        self.sequential = Sequential(self.evaluator, config.panes)
        self.days = Cohorts(self.reference.layout.size)
        self.arrivals = Cohorts(self.reference.layout.size)
        self.versions: list[str] = []
        self.serving: list[str] = []
        self.closed = 0
        self.cohorts: dict[int, list[int]] = {}
        self.learning: list[LearningRow] = []
        self.notes = self.lives.notes
        self.foreign = 0
        self._closings = Closings()
        self.labels = LabelWatch(config.join.delay_window, self.pane_s, self.rules)

    def _evaluator(self) -> Evaluator:
        self.mapping = self.reference.layout.fingerprint + self.reference.bins_fingerprint
        model = self.config.model_for(self.model_id)
        self.groups = GroupRules(self.reference.layout, self.reference.cells, self.rules, model)
        slo_ms = self.config.model_for(self.model_id).latency_slo_ms
        return Evaluator(self.reference, self.rules, slo_ms, self.live.vector)

    def _live(self) -> LiveBaseline:
        return LiveBaseline(self.reference, self.config.model_for(self.model_id).learn_rows)

    @property
    def incidents(self) -> list[Incident]:
        """Open incidents, oldest first."""
        return self.lives.incidents

    @property
    def resolved(self) -> list[Incident]:
        """The last resolved incidents, in order of their ends."""
        return self.lives.resolved

    def take_alerts(self) -> list[Alert]:
        """Alerts since the last call."""
        alerts, self.lives.alerts = self.lives.alerts, []
        return alerts

    # -- taking digests in -----------------------------------------------------------------------------------------------------

    def take(self, digest: Digest) -> None:
        """Merges one digest. Counts over other edges than the model's are not added, but counted (`foreign`)."""
        translate = None
        if digest.task:
            self.book.tell_task(self.model_id, digest.task, digest.classes)
        if digest.layout != self.mapping and not self._follow(digest):
            translate = self._from_bare(digest)
            if translate is None:
                self.foreign += 1
                return
        for cell, slots, values in unpack_cells(digest):
            if cell.version not in self.versions:
                self._new_version(cell.version, cell.stage)
            if translate is not None:
                slots = translate[slots]
                values, slots = values[slots >= 0], slots[slots >= 0]
                order = np.argsort(slots, kind="stable")
                values, slots = values[order], slots[order]
            pane = max(cell.pane, self.closed)
            versions: tuple[str | None, ...] = (
                (cell.version,) if cell.stage == "shadow" else (None, cell.version) if self.several else (None,)
            )
            for version in versions:
                where = Where(version, cell.stage if cell.stage == "shadow" else "live", cell.segment)
                self._add(where, pane, cell, slots, values)
        for sample in digest.samples:
            self.sequential.keep(sample)
        for start, rows, joined, late, _ in digest.cohorts:
            counts = self.cohorts.setdefault(start, [0, 0, 0])
            counts[0] += rows
            counts[1] += joined
            counts[2] += late
        self.labels.take(digest)
        self.notes.take(digest)
        if digest.learning and self.book.is_learning(self.model_id):
            self._learn(digest.learning)

    @property
    def several(self) -> bool:
        """Whether versions are kept apart: one alone is the same as all."""
        return len(self.serving) > 1

    def _new_version(self, version: str, stage: str) -> None:
        self.versions.append(version)
        if stage == "shadow":
            return
        self.serving.append(version)
        if len(self.serving) != 2:
            return
        # What was all traffic until now was the first version's.
        first = self.serving[0]
        for where in [where for where in self.cells if where.version is None]:
            spans = self.cells[where].copy()
            other = where._replace(version=first)
            self.cells[other] = spans
            self._announce(other, spans)
        self.days.split(first)
        self.arrivals.split(first)

    def _add(
        self, where: Where, pane: int, cell: DigestCell, slots: npt.NDArray[np.int32], values: npt.NDArray[np.float64]
    ) -> None:
        """`pane` is the span's: no earlier than what was judged. The days count by the cell's own."""
        spans = self.cells.get(where)
        if spans is None:
            spans = self.cells[where] = self._spans(where)
        if where.version is None and where.stage == "live" and len(slots) and slots[0] == spans.rows_slot:
            self.traffic.count(where.segment, cell.pane, float(values[0]))
        if spans.add(pane, slots, values):
            self._closings.announce(pane + 1, 0, where)
        self.days.add(where, cell.day, slots, values)
        self.arrivals.add(where, int(cell.pane * self.pane_s // 86_400), slots, values)

    def _spans(self, where: Where) -> Spans:
        layout = self.reference.layout
        spans = Spans(self.levels, layout.size, layout.offset("rows"), layout.offset("outcomes"))
        spans.not_before = self.lives.earliest(where)
        return spans

    def _follow(self, digest: Digest) -> bool:
        """The book may have learned, or been given, the reference that the digest was counted with."""
        reference = self.book.get(self.model_id)
        if reference.layout.fingerprint + reference.bins_fingerprint != digest.layout:
            return False
        self._change_reference()
        return True

    def _from_bare(self, digest: Digest) -> npt.NDArray[np.int32] | None:
        """Another worker may not know the learned baseline yet, or have seen too few scores to know the task: what it counts without
        features still counts, of another task what all tasks have."""
        layout = self.reference.layout
        task = digest.task or self.reference.task
        classes = digest.classes if digest.task else self.reference.classes
        nothing = bare(task, layout.business, classes, layout.probes, layout.resources)
        if digest.layout != nothing.layout.fingerprint + nothing.bins_fingerprint:
            return None
        same = (task, tuple(classes)) == (self.reference.task, tuple(self.reference.classes))
        target = np.full(nothing.layout.size, -1, dtype=np.int32)
        for name, part in nothing.layout.slots.items():
            there = layout.slots.get(name)
            if there is not None and (same or name in OF_ANY_TASK):
                target[part] = np.arange(there.start, there.stop)
        return target

    def _change_reference(self) -> None:
        """Takes the book's reference. Blocks of other edges cannot be compared and go; cohorts keep what both layouts name."""
        old = self.reference.layout.sections
        self.reference = self.book.get(self.model_id)
        self.live = self._live()
        self.evaluator = self._evaluator()
        self.lives.use(self.evaluator)
        self.sequential.use(self.evaluator)
        self.days.remap(old, self.reference.layout)
        self.arrivals.remap(old, self.reference.layout)
        for where in list(self.cells):
            spans = self._spans(where)
            spans.gone = {(level, number) for level in range(self.levels) for number in self.cells[where].blocks[level]}
            spans.gone |= {(-1, number) for number in self.cells[where].open}
            self.cells[where] = spans
        self._closings.clear()

    def _learn(self, rows: Iterable[LearningRow]) -> None:
        self.learning += rows
        wanted = self.config.model_for(self.model_id).learn_rows
        if len(self.learning) < wanted:
            return
        reference, counted = learn(self.learning[:wanted], self.reference, self.config.model_for(self.model_id))
        self.learning = []
        if reference is None:
            return
        self.book.learn(self.model_id, reference)
        self._change_reference()
        for version, stage, segment, day, slots, values in counted:
            if stage != "shadow":
                self.days.add(Where(None, "live", segment), day, slots, values)
            self.days.add(Where(version, stage if stage == "shadow" else "live", segment), day, slots, values)

    def take_change(self, change: Change, timestamp: float) -> None:
        """Remembers what people did: an incident names what came just before it."""
        self.lives.remember(change, timestamp)

    # -- judging ---------------------------------------------------------------------------------------------------------------

    @property
    def alpha(self) -> float:
        """The spans' half of the false-alarm budget divided by the number of looks of a month: cells x tests x independent spans."""
        looks = 2.0 * MONTH_S / self.pane_s
        tests = max(len(self.cells), 1) * self.evaluator.tests + self.groups.tests + self.labels.tests
        return SPANS_SHARE * self.rules.false_alarms_per_month / (tests * looks)

    def due(self, pane: int) -> bool:
        """Whether `advance` would judge anything."""
        first = self._closings.first()
        return (first is not None and first <= pane) or self.lives.gone_by(pane) is not None

    def advance(self, pane: int) -> None:
        """Judges all blocks that end at `pane` or before, in order of time."""
        while (end := self._closings.first()) is not None and end <= pane:
            self._end_gone(end)
            closing: list[tuple[int, int, Where]] = []
            for level, where in self._closings.take():
                block = (end >> level) - 1
                if self.cells[where].close(level, block):
                    closing.append((level, block, where))
                    if level + 1 < self.levels:
                        self._closings.announce(((block >> 1) + 1) << (level + 1), level + 1, where)
            self.closed = max(self.closed, end)
            self._tick(end, closing)
        self._end_gone(pane)
        self.closed = max(self.closed, pane)

    def _end_gone(self, until: int) -> None:
        """Each at its own time, whenever it is noticed: a replay says the same."""
        while (at := self.lives.gone_by(until)) is not None:
            self.lives.end_gone(at)

    def _tick(self, end: int, closing: list[tuple[int, int, Where]]) -> None:
        when = end * self.pane_s
        firings: dict[tuple[Where, str, str | None], Firing] = {}
        alpha = self.alpha
        seen: list[tuple[Where, tuple[int, int, int]]] = []
        members: list[list[Block]] = []
        bases: list[Baseline] = []
        for level, block, where in closing:
            spans = self.cells[where]
            if level == 0:
                pane = spans.blocks[0][block]
                if where.version is None and where.stage == "live":
                    self.live.take(where.segment, pane)
                for fact in self.evaluator.facts(pane.slots, pane.values, pane.rows):
                    firing = Firing(where, fact, when - self.pane_s, when, (0, 1, block))
                    firings[firing.key] = firing
            for count, blocks in spans.looks(level, block, self.rules.minimum_rows):
                base = self.evaluator.baseline(where.segment)
                if base is not None:
                    seen.append((where, (level, count, block)))
                    members.append(blocks)
                    bases.append(base)
        for at in range(0, len(seen), STACK):
            part = slice(at, at + STACK)
            told = self.evaluator.findings_of(stack(members[part], self.reference.layout.size), bases[part], alpha)
            for (where, look), findings in zip(seen[part], told, strict=True):
                level, count, block = look
                start = (block - count + 1 << level) * self.pane_s
                for finding in findings:
                    firing = Firing(where, finding, start, when, look)
                    held = firings.get(firing.key)
                    if held is None or firing.start > held.start:
                        firings[firing.key] = firing
        if TRAFFIC_SHARE not in self.rules.disabled:
            for firing in self.traffic.firings(closing, when, alpha, self.rules.minimum_rows):
                firings.setdefault(firing.key, firing)
        whole = [(level, block, where) for level, block, where in closing if where.segment is None]
        between = self.groups.firings(self.cells, whole, self.pane_s, when, alpha) if self.groups.tests else []
        for firing in [*between, *self.labels.advance(end, alpha)]:
            firings.setdefault(firing.key, firing)
        for firing in self.sequential.feed(when, self.several):
            firings.setdefault(firing.key, firing)
        if firings:
            self.lives.handle(firings.values(), end)
        if self.lives.incidents:
            self.lives.quieten(end, {where for _, _, where in closing})
        if self.live.settle():
            self.evaluator.forget_baselines()
            self.lives.use(self.evaluator)

    # -- rows ------------------------------------------------------------------------------------------------------------------

    def save(self) -> Saved:
        """All but blocks and days."""
        return Saved(
            self.mapping,
            self.closed,
            self.versions,
            self.serving,
            self.lives.save(),
            self.traffic.save(),
            {start: (rows, joined, late) for start, (rows, joined, late) in self.cohorts.items()},
            self.learning,
            self.notes.seen,
            self.reference.layout.sections,
            self.labels.save(),
            self.reference.task if self.reference.is_bare else "",
            list(self.reference.classes) if self.reference.is_bare else [],
            renames=self.notes.renames,
        )

    def restore(
        self,
        saved: Saved,
        blocks: dict[Where, dict[str, bytes]],
        days: dict[Where, dict[str, bytes]],
        sequential: dict[str, bytes],
    ) -> None:
        """Takes back what `save` and the rows held. Blocks over edges that the reference no longer has are dropped."""
        if saved.task:
            self.book.tell_task(self.model_id, saved.task, saved.classes)
        if self.book.get(self.model_id) is not self.reference:
            self._change_reference()
        self.closed, self.versions, self.serving = saved.closed, saved.versions, saved.serving
        self.lives.restore(saved.lives)
        self.traffic.restore(saved.traffic)
        self.sequential.restore(sequential, saved.layout == self.mapping)
        self.cohorts = {start: list(counts) for start, counts in saved.cohorts.items()}
        self.labels.restore(saved.labels)
        self.learning, self.notes = saved.learning, Notes(saved.schema_seen, saved.renames)
        self.lives.notes = self.notes
        for where, rows in days.items():
            for name, row in rows.items():
                (self.days if name[0] == "c" else self.arrivals).restore(where, int(name[1:]), row)
        if saved.layout != self.mapping:
            # A new reference: what does not depend on its edges is kept, the blocks that rules look at begin anew.
            self.days.remap(saved.sections, self.reference.layout)
            self.arrivals.remap(saved.sections, self.reference.layout)
            for where, named in blocks.items():
                spans = self.cells[where] = self._spans(where)
                spans.gone = {(int(level), int(number)) for level, _, number in (name.partition(":") for name in named)}
            return
        for where, named in blocks.items():
            spans = self.cells[where] = self._spans(where)
            spans.restore(named)
            self._announce(where, spans)

    def forget_rows(self) -> None:
        for spans in self.cells.values():
            spans.forget_changes()
        self.days.dirty.clear()
        self.arrivals.dirty.clear()

    def _announce(self, where: Where, spans: Spans) -> None:
        for pane in spans.open:
            self._closings.announce(pane + 1, 0, where)
        for level in range(self.levels - 1):
            for number in spans.blocks[level]:
                end = ((number >> 1) + 1) << (level + 1)
                if end > self.closed:
                    self._closings.announce(end, level + 1, where)

    def pending_counts(self, clock: float) -> dict[str, int]:
        """Join states of the model's predictions, by quarter hours: a cohort expires as a whole when its last window has closed."""
        window = self.config.join.delay_window
        totals: dict[str, int] = {"predictions": 0, "joined": 0, "late": 0, "pending": 0, "expired": 0}
        for start, (rows, joined, late) in self.cohorts.items():
            totals["predictions"] += rows
            totals["joined"] += joined
            totals["late"] += late
            totals["expired" if start + 900 + window < clock else "pending"] += rows - joined - late
        return totals
