"""One model's judge: digests go into its cells, every tick of event time has its spans judged, and what fires goes into incidents.

Pure. Event time comes from the digests' clocks; the same digests give the same incidents with the same ids. Counts are in
`model_cells.py`, the judging of spans in `ticks.py`, incidents in `incident_lives.py`, what is stored in `saved_model.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from leadline.alert import Alert
from leadline.config import Config
from leadline.events import Change, Digest, LearningRow
from streams.baselines.learning import learn
from streams.baselines.reference_book import ReferenceBook
from streams.core.days import DAY_S
from streams.core.digest_cells import unpack_entries
from streams.counting.layout import OF_ANY_TASK
from streams.counting.references import bare
from streams.counting.tracked import Tracked
from streams.judge.group_rules import GroupRules
from streams.judge.incident_lives import IncidentLives
from streams.judge.incidents import TRAFFIC_SHARE, Firing, Incident, Where
from streams.judge.label_coverage import COHORT_S
from streams.judge.label_watch import LabelWatch
from streams.judge.live_baseline import LiveBaseline
from streams.judge.model_cells import ModelCells
from streams.judge.open_panes import Part
from streams.judge.sequential import Sequential
from streams.judge.spans import BLOCKS
from streams.judge.ticks import Tick, Ticks
from streams.judge.variation import Variation
from streams.rules.evaluate import Evaluator

MONTH_S = 30 * 86_400.0
SPANS_SHARE = 0.5  # of the false-alarm budget; the other half is for single values (`stream_detectors.py`)


class ModelJudge:
    """State of one model. `take` merges a digest, `advance` judges everything before a pane; both return nothing: see `take_alerts`."""

    def __init__(self, model_id: str, config: Config, book: ReferenceBook) -> None:
        self.model_id = model_id
        self.config = config
        self.book = book
        self.rules = config.rules_for(model_id)
        self.pane_s = config.panes.pane
        self.reference = book.get(model_id)
        self.live = self._live()
        self.evaluator = self._evaluator()
        self.cells = ModelCells(
            self.reference.layout,
            config.panes,
            self.rules.traffic_share,
            lambda where: self.lives.earliest(where),
            lambda version: self.variation.split(version),
        )
        self.variation = Variation(self._tracked(), self.reference, self.pane_s, self.cells.levels)
        self.ticks = Ticks(self.cells, self.variation)
        self.lives = IncidentLives(
            model_id,
            self.cells.spans,
            self.evaluator,
            self.pane_s,
            config.join.delay_window,
            lambda: self.alpha(self.cells.closed),
            self.cells.traffic,
            self.variation,
        )
        self.sequential = Sequential(self.evaluator, config.panes)
        self.cohorts: dict[int, list[int]] = {}
        """Predictions, joined and late ones by the quarter hour of the prediction; what has expired is together under the first of them."""
        self.learning: list[LearningRow] = []
        self.foreign = 0
        self.labels = LabelWatch(config.join.delay_window, self.pane_s, self.rules)

    def _evaluator(self) -> Evaluator:
        self.mapping = self.reference.layout.fingerprint + self.reference.bins_fingerprint
        model = self.config.model_for(self.model_id)
        self.groups = GroupRules(self.reference.layout, self.reference.cells, self.rules, model)
        return Evaluator(self.reference, self.rules, model.latency_slo_ms, self.live.vector)

    def _tracked(self) -> Tracked:
        slow = self.evaluator.of_model.slow_from(self.reference.cell(None))
        return Tracked(self.reference, slow, self.rules.minimum_per_class)

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
        if digest.cells:
            part = Part(*unpack_entries(digest))
            self.cells.add(part if translate is None else part.translated(translate))
        for sample in digest.samples:
            self.sequential.keep(sample)
        for start, rows, joined, late, _ in digest.cohorts:
            counts = self.cohorts.setdefault(start, [0, 0, 0])
            counts[0] += rows
            counts[1] += joined
            counts[2] += late
        self.labels.take(digest)
        self.lives.notes.take(digest)
        if digest.learning and self.book.is_learning(self.model_id):
            self._learn(digest.learning)

    def _follow(self, digest: Digest) -> bool:
        """The book may have learned, or been given, the reference that the digest was counted with."""
        reference = self.book.get(self.model_id)
        if reference.layout.fingerprint + reference.bins_fingerprint != digest.layout:
            return False
        self.change_reference()
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

    def change_reference(self) -> None:
        """Takes the book's reference."""
        self.reference = self.book.get(self.model_id)
        self.live = self._live()
        self.evaluator = self._evaluator()
        self.lives.use(self.evaluator)
        self.sequential.use(self.evaluator)
        self.cells.change_layout(self.reference.layout)
        self.variation.use(self._tracked(), self.reference)

    def _learn(self, rows: Iterable[LearningRow]) -> None:
        self.learning += rows
        model = self.config.model_for(self.model_id)
        if len(self.learning) < model.learn_rows:
            return
        reference, counted = learn(self.learning[: model.learn_rows], self.reference, model)
        self.learning = []
        if reference is None:
            return
        self.book.learn(self.model_id, reference)
        self.change_reference()
        self.cells.add_learned(counted)

    def take_change(self, change: Change, timestamp: float) -> None:
        """Remembers what people did: an incident names what came just before it."""
        self.lives.remember(change, timestamp)

    # -- judging ---------------------------------------------------------------------------------------------------------------

    def alpha(self, end: int) -> float:
        """The spans' half of the false-alarm budget divided by the number of looks of a month: cells x tests x independent spans.

        The cells are those that panes before `end` have shown, however many more are known by now: the same log is judged alike, whatever
        its batches.
        """
        looks = 2.0 * MONTH_S / self.pane_s
        tests = (
            max(self.cells.known(end), 1) * self.evaluator.tests
            + self.groups.tests
            + self.labels.tests(len(self.cells.serving))
        )
        return SPANS_SHARE * self.rules.false_alarms_per_month / (tests * looks)

    def due(self, pane: int) -> bool:
        """Whether `advance` would judge anything."""
        first = self.cells.first_end()
        return (first is not None and first <= pane) or self.lives.gone_by(pane, self.cells.closed) is not None

    def advance(self, pane: int) -> None:
        """Judges all blocks that end at `pane` or before, in order of time."""
        for tick in self.ticks.until(pane, self.evaluator, self.alpha, self._end_gone):
            self.cells.closed = max(self.cells.closed, tick.end)
            self._judge(tick)
        self._end_gone(pane)
        self.cells.closed = max(self.cells.closed, pane)
        self._gather_expired()

    def _end_gone(self, until: int) -> None:
        """Each at its own time, whenever it is noticed: a replay says the same."""
        while (at := self.lives.gone_by(until, self.cells.closed)) is not None:
            self.lives.end_gone(at, self.cells.closed)

    def _judge(self, tick: Tick) -> None:
        """What fires goes into incidents, and those that nothing shows any more are over."""
        end, alpha, closing, told = tick
        when, log_alpha = end * self.pane_s, math.log(alpha)
        firings: dict[tuple[Where, str, str | None], Firing] = {}
        for level, block, where in closing:
            if level == 0:
                pane = self.cells.spans[where].blocks[0][block]
                if where.version is None and where.stage == "live":
                    self.live.take(where.segment, pane)
                for fact in self.evaluator.facts(pane.slots, pane.values, pane.rows):
                    firing = Firing(where, fact, when - self.pane_s, when, (0, 1, block))
                    firings[firing.key] = firing
        begun = self._begun() if any(findings for _, _, findings in told) else {}
        for where, look, findings in told:
            level, count, block = look
            start = (block - count + 1 << level) * self.pane_s
            for finding, passes in self.variation.among(where, look, findings, log_alpha, begun.get(where, {})):
                if not passes:
                    continue
                firing = Firing(where, finding, start, when, look)
                held = firings.get(firing.key)
                if held is None or firing.start > held.start:
                    firings[firing.key] = firing
        for firing in self._beside_spans(closing, end, alpha):
            firings.setdefault(firing.key, firing)
        if firings:
            self.lives.handle(firings.values(), end)
        if self.lives.incidents:
            self.lives.quieten(end, {where for _, _, where in closing})
        if self.live.settle():
            self.evaluator.forget_baselines()
            self.lives.use(self.evaluator)
        self._remember(closing)

    def _begun(self) -> dict[Where, dict[tuple[str, str | None], float]]:
        """Since which pane the open incidents have known what of which cell."""
        found: dict[Where, dict[tuple[str, str | None], float]] = {}
        for incident in self.lives.incidents:
            for row in incident.evidence:
                of_cell = found.setdefault(row.where, {})
                since = incident.onset_low // self.pane_s
                of_cell[row.finding.key] = min(of_cell.get(row.finding.key, math.inf), since)
        return found

    def _remember(self, closing: list[tuple[int, int, Where]]) -> None:
        """Spans that have ended tell the next ones how far such spans vary by themselves."""
        least = self.rules.minimum_rows
        for level, block, where in closing:
            if (block + 1) % BLOCKS:
                continue
            spans = self.cells.spans[where]
            members = spans.members(level, BLOCKS, block)
            enough = (
                sum(member.rows for member in members) >= least or sum(member.outcomes for member in members) >= least
            )
            if self.variation.wants(where, level, block, enough):
                self.variation.take(where, level, block, spans.dense(members), enough)

    def _beside_spans(self, closing: list[tuple[int, int, Where]], end: int, alpha: float) -> Iterable[Firing]:
        """What no single span of one cell shows."""
        when = end * self.pane_s
        if TRAFFIC_SHARE not in self.rules.disabled:
            yield from self.cells.traffic.firings(closing, when, alpha, self.rules.minimum_rows)
        if self.groups.tests:
            whole = [(level, block, where) for level, block, where in closing if where.segment is None]
            yield from self.groups.firings(self.cells.spans, whole, self.pane_s, when, alpha)
        yield from self.labels.advance(end, alpha)
        for firing in self.sequential.feed(when, self.cells.several):
            among = self.sequential.among_spans(firing, self.variation, alpha)
            if among is not None:
                yield among

    def _gather_expired(self) -> None:
        """One entry for all cohorts whose windows have closed, or they would become more for ever."""
        closed_s = self.cells.closed * self.pane_s
        open_at_once = self.config.join.delay_window / COHORT_S
        if len(self.cohorts) < 2 * open_at_once + DAY_S / COHORT_S:
            return
        expired = [start for start in self.cohorts if self._expires(start) < closed_s]
        if len(expired) > 1:
            counts = [self.cohorts.pop(start) for start in expired]
            self.cohorts[min(expired)] = [sum(column) for column in zip(*counts, strict=True)]

    def _expires(self, start: int) -> float:
        """When the last window of a cohort closes."""
        return start + COHORT_S + self.config.join.delay_window

    def pending_counts(self, clock: float) -> dict[str, int]:
        """Join states of the model's predictions, by quarter hours: a cohort expires as a whole when its last window has closed."""
        totals: dict[str, int] = {"predictions": 0, "joined": 0, "late": 0, "pending": 0, "expired": 0}
        for start, (rows, joined, late) in self.cohorts.items():
            totals["predictions"] += rows
            totals["joined"] += joined
            totals["late"] += late
            totals["expired" if self._expires(start) < clock else "pending"] += rows - joined - late
        return totals
