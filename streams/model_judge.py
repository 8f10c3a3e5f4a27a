"""One model's judge: merges digests into spans and cohorts, evaluates every closed block, opens and closes incidents.

Pure. Event time comes from the digests' clocks; the same digests give the same incidents with the same ids.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections.abc import Iterable

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.adwin import Adwin, AdwinConfig
from detectors.state import State
from leadline.alert import Alert
from leadline.config import Config
from leadline.events import Change, Digest, DigestSample, LearningRow
from streams.alerting import alert_of
from streams.cohorts import Cohorts
from streams.evaluate import Evaluator, Finding
from streams.incidents import (
    LAYERS,
    EvidenceRow,
    Firing,
    Incident,
    Life,
    Where,
    attach,
    belongs,
    evidence_of,
    incident_id,
    intersects,
    severity_of,
)
from streams.learning import learn
from streams.log_bins import DELAY_S
from streams.onset import onset
from streams.reference_book import ReferenceBook
from streams.references import bare
from streams.sampling import LEVELS
from streams.scope import Scoper, scaled
from streams.spans import BLOCKS, Spans

MONTH_S = 30 * 86_400.0
QUIET_RULES = 0.6  # an incident is quiet when its effect is below this share of the warning limit
QUIET_ALPHA = 0.05
ADWIN_EFFECT = 0.25  # a change of the score's mean below this many standard deviations of the reference is no news
ADWIN_CHECKS = 32
MAX_CHANGES = 50
MAX_CLOSED = 200
MAX_SAMPLES = 200_000


class Saved(msgspec.Struct):
    """What is kept of a model beside its blocks and days."""

    layout: str = ""
    closed: int = 0
    versions: list[str] = []
    serving: list[str] = []
    incidents: list[Incident] = []
    resolved: list[Incident] = []
    changes: list[Change] = []
    not_before: list[tuple[Where, int]] = []
    detectors: dict[str, bytes] = {}
    samples: dict[str, list[tuple[float, int, int]]] = {}
    cohorts: dict[int, tuple[int, int, int]] = {}
    learning: list[LearningRow] = []
    schema_seen: dict[str, dict[str, int]] = {}
    sections: dict[str, tuple[int, int]] = {}


class ModelJudge:
    """State of one model. `take` merges a digest, `advance` judges everything before a pane; both return nothing: see `alerts`."""

    def __init__(self, model_id: str, config: Config, book: ReferenceBook) -> None:
        self.model_id = model_id
        self.config = config
        self.book = book
        self.rules = config.rules_for(model_id)
        self.pane_s = config.panes.pane
        self.levels = max(1, math.ceil(math.log2(max(config.panes.longest_span / self.pane_s / BLOCKS, 1.0))) + 1)
        self.reference = book.get(model_id)
        self.evaluator = self._evaluator()
        self.cells: dict[Where, Spans] = {}
        self.days = Cohorts(self.reference.layout.size)
        self.arrivals = Cohorts(self.reference.layout.size)
        self.versions: list[str] = []
        self.serving: list[str] = []
        self.closed = 0
        self.incidents: list[Incident] = []
        self.resolved: list[Incident] = []
        self.changes: list[Change] = []
        self.not_before: list[tuple[Where, int]] = []
        self.detectors: dict[str, Adwin] = {}
        self.samples: dict[str, list[tuple[float, int, int]]] = {}
        self.cohorts: dict[int, list[int]] = {}
        self.learning: list[LearningRow] = []
        self.schema_seen: dict[str, dict[str, int]] = {}
        self.alerts: list[Alert] = []
        self.foreign = 0
        self._due: list[tuple[int, int, int, int, Where]] = []
        self._numbered = 0
        self._scheduled: set[tuple[int, int, Where]] = set()
        self._detections: list[tuple[Where, Finding, float, float]] = []

    def _evaluator(self) -> Evaluator:
        model = self.config.model_for(self.model_id)
        evaluator = Evaluator(self.reference, self.rules, model.latency_slo_ms)
        self.scoper = Scoper(evaluator)
        self.quiet_evaluator = Evaluator(self.reference, scaled(self.rules, QUIET_RULES), model.latency_slo_ms)
        self.mapping = self.reference.layout.fingerprint + self.reference.bins_fingerprint
        return evaluator

    # -- taking digests in -----------------------------------------------------------------------------------------------------

    def take(self, digest: Digest) -> None:
        """Merges one digest. Counts over other edges than the model's are not added, but counted (`foreign`)."""
        translate = None
        if digest.layout != self.mapping and not self._follow(digest):
            translate = self._from_bare(digest)
            if translate is None:
                self.foreign += 1
                return
        for cell in digest.cells:
            if cell.version not in self.versions:
                self._new_version(cell.version, cell.stage)
            slots = np.array(cell.indices + cell.sum_indices, dtype=np.int32)
            values = np.array([*cell.counts, *cell.sums], dtype=np.float64)
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
                self._add(where, pane, cell.day, slots, values)
        for sample in digest.samples:
            self._keep_sample(sample)
        for start, rows, joined, late in digest.cohorts:
            counts = self.cohorts.setdefault(start, [0, 0, 0])
            counts[0] += rows
            counts[1] += joined
            counts[2] += late
        for version, seen in digest.schema_seen.items():
            counts_seen = self.schema_seen.setdefault(version, {})
            for name, n in seen.items():
                counts_seen[name] = counts_seen.get(name, 0) + n
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
            self._reschedule(other, spans)
        self.days.split(first)
        self.arrivals.split(first)

    def _add(
        self, where: Where, pane: int, day: int, slots: npt.NDArray[np.int32], values: npt.NDArray[np.float64]
    ) -> None:
        spans = self.cells.get(where)
        if spans is None:
            spans = self.cells[where] = self._spans(where)
        if spans.add(pane, slots, values):
            self._schedule(pane + 1, 0, pane, where)
        self.days.add(where, day, slots, values)
        self.arrivals.add(where, int(pane * self.pane_s // 86_400), slots, values)

    def _spans(self, where: Where) -> Spans:
        layout = self.reference.layout
        spans = Spans(self.levels, layout.size, layout.offset("rows"), layout.offset("outcomes"))
        spans.not_before = max((pane for other, pane in self.not_before if intersects(other, where)), default=0)
        return spans

    def _schedule(self, end: int, level: int, block: int, where: Where) -> None:
        mark = (level, block, where)
        if mark not in self._scheduled:
            self._scheduled.add(mark)
            self._numbered += 1  # breaks ties by order of arrival: cells do not compare
            heapq.heappush(self._due, (end, level, self._numbered, block, where))

    def _follow(self, digest: Digest) -> bool:
        """The book may have learned, or been given, the reference that the digest was counted with."""
        reference = self.book.get(self.model_id)
        if reference.layout.fingerprint + reference.bins_fingerprint != digest.layout:
            return False
        self._change_reference()
        return True

    def _from_bare(self, digest: Digest) -> npt.NDArray[np.int32] | None:
        """Another worker may not know the learned baseline yet: what it counts without features still counts."""
        layout = self.reference.layout
        nothing = bare(self.reference.task, layout.business, self.reference.classes)
        if digest.layout != nothing.layout.fingerprint + nothing.bins_fingerprint:
            return None
        target = np.full(nothing.layout.size, -1, dtype=np.int32)
        for name, part in nothing.layout.slots.items():
            there = layout.slots[name]
            target[part] = np.arange(there.start, there.stop)
        return target

    def _change_reference(self) -> None:
        """Takes the book's reference. Blocks of other edges cannot be compared and go; cohorts keep what both layouts name."""
        old = self.reference.layout.sections
        self.reference = self.book.get(self.model_id)
        self.evaluator = self._evaluator()
        self.days.remap(old, self.reference.layout)
        self.arrivals.remap(old, self.reference.layout)
        for where in list(self.cells):
            spans = self._spans(where)
            spans.gone = {(level, number) for level in range(self.levels) for number in self.cells[where].blocks[level]}
            spans.gone |= {(-1, number) for number in self.cells[where].open}
            self.cells[where] = spans
        self._due.clear()
        self._scheduled.clear()

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
        self.changes = sorted(
            [*self.changes, msgspec.structs.replace(change, timestamp=timestamp)],
            key=lambda item: float(item.timestamp),
        )[-MAX_CHANGES:]

    # -- judging ---------------------------------------------------------------------------------------------------------------

    @property
    def alpha(self) -> float:
        """The false-alarm budget divided by the number of looks of a month: cells x tests x independent spans."""
        looks = 2.0 * MONTH_S / self.pane_s
        return self.rules.false_alarms_per_month / (max(len(self.cells), 1) * self.evaluator.tests * looks)

    def due(self, pane: int) -> bool:
        """Whether `advance` would judge anything."""
        return bool(self._due) and self._due[0][0] <= pane

    def advance(self, pane: int) -> None:
        """Judges all blocks that end at `pane` or before, in order of time."""
        while self._due and self._due[0][0] <= pane:
            end = self._due[0][0]
            closing: list[tuple[int, int, Where]] = []
            while self._due and self._due[0][0] == end:
                _, level, _, block, where = heapq.heappop(self._due)
                self._scheduled.discard((level, block, where))
                if self.cells[where].close(level, block):
                    closing.append((level, block, where))
                    if level + 1 < self.levels:
                        parent = block >> 1
                        self._schedule((parent + 1) << (level + 1), level + 1, parent, where)
            self.closed = max(self.closed, end)
            self._tick(end, closing)
        self.closed = max(self.closed, pane)

    def _tick(self, end: int, closing: list[tuple[int, int, Where]]) -> None:
        when = end * self.pane_s
        firings: dict[tuple[Where, str, str | None], Firing] = {}
        alpha = self.alpha
        for level, block, where in closing:
            base = self.evaluator.baseline(where.segment)
            if base is None:
                continue
            spans = self.cells[where]
            for count, members in spans.looks(level, block, self.rules.minimum_rows):
                start = (block - count + 1 << level) * self.pane_s
                for finding in self.evaluator.findings(spans.dense(members), base, alpha):
                    firing = Firing(where, finding, start, when, (level, count, block))
                    held = firings.get(firing.key)
                    if held is None or firing.start > held.start:
                        firings[firing.key] = firing
        for where, finding, begun, found in self._feed_detectors(when):
            firings.setdefault((where, finding.signal, finding.subject), Firing(where, finding, begun, found))
        if firings:
            self._handle(sorted(firings.values(), key=lambda firing: (firing.rank, str(firing.where))), when)
        if self.incidents:
            self._quieten(end, {where for _, _, where in closing})

    def _handle(self, firings: list[Firing], when: float) -> None:
        left: list[Firing] = []
        for firing in firings:
            holder = next((incident for incident in reversed(self.incidents) if incident.holds(firing.key)), None)
            if holder is None:
                left.append(firing)
            else:
                self._attach(holder, firing, when)
        left = [firing for firing in left if not self._joins(firing, when)]
        while left:
            # The surest firing of the most causal layer opens the incident; what belongs to it is taken out of the list.
            first = min(left, key=lambda firing: firing.rank)
            incident, new = self._open(first, when)
            rest = []
            for firing in left:
                if firing is first or belongs(firing, incident, 0.0):
                    attach(incident, firing)
                else:
                    rest.append(firing)
            if new:
                incident.severity = severity_of(incident.evidence)
                self._say(incident, "open", when)
            left = rest

    def _attach(self, incident: Incident, firing: Firing, when: float) -> None:
        life = self._refine(incident, firing) or attach(incident, firing)
        if life is not None:
            self._say(incident, life, when)

    def _refine(self, incident: Incident, firing: Firing) -> Life | None:
        """Names the incident anew where the firing knows better: a more causal layer, or twice the rows that its scope was drawn from."""
        finding = firing.finding
        if incident.quiet_since is not None or finding.signal == "adwin":
            return None
        causal = LAYERS[finding.layer] < LAYERS[incident.layer]
        same = (finding.signal, finding.subject) == (incident.signal, incident.subject)
        if not causal and not (same and finding.n >= 2 * incident.needed):
            return None
        if same:
            incident.needed = finding.n
        affected = self.scoper.narrow(firing, self.cells)
        if not causal and affected.where == incident.where:
            incident.share = affected.share
            return None
        wider = affected.share > (incident.share if incident.share is not None else 1.0)
        incident.where, incident.share = affected.where, affected.share
        incident.signal, incident.subject, incident.layer = finding.signal, finding.subject, finding.layer
        attach(incident, firing)
        attach(incident, Firing(affected.where, affected.finding, firing.start, firing.end, firing.look))
        return "worse" if wider or causal else "better"

    def _joins(self, firing: Firing, when: float) -> bool:
        delay = self._label_delay()
        for incident in reversed(self.incidents):
            if belongs(firing, incident, delay) or self._began_before(firing, incident):
                self._attach(incident, firing, when)
                return True
        # An outcome that follows from a fault that is over: its labels are still coming.
        return any(
            firing.finding.layer == "outcome" and incident.layer != "outcome" and belongs(firing, incident, delay)
            for incident in self.resolved[-5:]
        )

    def _began_before(self, firing: Firing, incident: Incident) -> bool:
        """Whether what the firing is about may have begun before the incident opened: some signs of a fault need more rows than others."""
        if (
            firing.where not in self.cells
            or not intersects(firing.where, incident.where)
            or firing.finding.signal == "adwin"
        ):
            return False
        level, count, _ = firing.look
        end, length = round(firing.end / self.pane_s), count << level
        back = round((firing.end - incident.onset_low) / self.pane_s) + length
        since = onset(self.cells[firing.where], self.evaluator, firing.finding, firing.where.segment, end, length, back)
        return since is not None and since.first * self.pane_s <= incident.opened_at

    def _open(self, firing: Firing, when: float) -> tuple[Incident, bool]:
        """The incident of a firing that none holds: a new one (True), or an open one that is about the firing's cause."""
        finding, where, share = firing.finding, firing.where, None
        if finding.signal != "adwin":
            affected = self.scoper.narrow(firing, self.cells)
            finding, where, share = affected.finding, affected.where, affected.share
            causes = [
                Firing(where, cause, firing.start, firing.end, firing.look)
                for cause in self.scoper.causes(firing, where, self.cells)
            ]
            cause = min(causes, key=lambda item: item.rank, default=None)
            if cause is not None and cause.rank[:2] < Firing(where, finding, firing.start, firing.end).rank[:2]:
                finding = cause.finding
            named = Firing(where, finding, firing.start, firing.end, firing.look)
            held = next(
                (
                    incident
                    for incident in reversed(self.incidents)
                    if incident.holds(named.key) or belongs(named, incident, 0.0)
                ),
                None,
            )
            if held is not None:
                attach(held, firing)
                return held, False
        level, count, _ = firing.look
        length = count << level
        end = round(firing.end / self.pane_s)
        since = None
        if where in self.cells and finding.signal != "adwin":
            since = onset(self.cells[where], self.evaluator, finding, where.segment, end, length)
        begun = since.pane * self.pane_s if since is not None else firing.start
        incident = Incident(
            id=incident_id(self.model_id, where, finding.signal, finding.subject, when),
            model_id=self.model_id,
            where=where,
            signal=finding.signal,
            subject=finding.subject,
            layer=finding.layer,
            severity="warn",
            opened_at=when,
            onset_at=begun,
            onset_low=since.first * self.pane_s if since is not None else firing.start,
            onset_high=(since.last + 1) * self.pane_s if since is not None else firing.end,
            span_s=firing.end - firing.start,
            value=finding.value,
            reference=finding.reference,
            n=finding.n,
            needed=max(finding.n, self.rules.minimum_rows),
            evidence=[],
            share=share,
        )
        incident.evidence.append(evidence_of(Firing(where, finding, firing.start, firing.end, firing.look)))
        self.incidents.append(incident)
        return incident, True

    def _label_delay(self) -> float:
        """How long nine in ten labels take, seconds; the delay window where nothing is known."""
        spans = self.cells.get(Where(None, "live", None))
        if spans is None:
            return self.config.join.delay_window
        recent = spans.recent(self.closed, 0, self.rules.minimum_rows)
        if recent is None:
            return self.config.join.delay_window
        counts = np.maximum(self.reference.layout.part(recent[0], "delay"), 0)
        return DELAY_S.quantile(counts, 0.9) if counts.any() else self.config.join.delay_window

    # -- the end of an incident ------------------------------------------------------------------------------------------------

    def _quieten(self, end: int, moved: set[Where]) -> None:
        when = end * self.pane_s
        for incident in list(self.incidents):
            if not any(intersects(incident.where, where) for where in moved):
                continue
            if end < incident.next_check:
                continue
            clean = self._clean_since(incident, end)
            if clean is None:
                incident.quiet_since = None
            elif incident.quiet_since is None:
                # What is left of the fault lies in the older half of the first quiet span: the incident ends when one without it is quiet.
                incident.quiet_since, incident.quiet_from = when, (clean * self.pane_s + when) / 2
            elif clean * self.pane_s >= incident.quiet_from and when - incident.quiet_since >= (
                self.rules.resolve_after or 0.0
            ):
                self._resolve(incident, when, clean)

    def _clean_since(self, incident: Incident, end: int) -> int | None:
        """The first pane of a recent span without the incident's leading evidence; None while there is none.

        Consequences are left out: labels of the faulty time go on coming when the fault itself is over.
        """
        if incident.signal == "adwin":
            last = max(row.end for row in incident.evidence)
            return end if end * self.pane_s - last >= max(incident.span_s, 360 * self.pane_s) else None
        rank = LAYERS[incident.layer]
        # First those that few rows suffice to show: they say soonest whether the fault is over.
        causes = sorted(
            (row for row in incident.evidence if LAYERS[row.layer] <= rank and row.signal != "adwin"),
            key=lambda row: row.first_n,
        )
        own = [row for row in causes if row.where == incident.where]
        named = [row for row in causes if (row.signal, row.subject) == (incident.signal, incident.subject)]
        # Of the other cells that showed the same only the largest: a rare one would need days to say anything.
        largest = max(named, key=lambda row: row.n, default=None)
        chosen = (
            [row for row in named if row.where == incident.where] + own[:2] + ([largest] if largest is not None else [])
        )
        leading = {(row.where, row.signal, row.subject): row for row in chosen}
        starts = []
        incident.next_check = end + 1
        for row in leading.values():
            start = self._clean_row(incident, row, end)
            if start is None:
                return None
            starts.append(start)
        return min(starts, default=end)

    def _clean_row(self, incident: Incident, row: EvidenceRow, end: int) -> int | None:
        spans, base = self.cells.get(row.where), self.evaluator.baseline(row.where.segment)
        if spans is None or base is None:
            return end
        # As many rows as showed it first, at odds that the budget demands: enough to see by an easier test whether it is still there.
        wanted = max(row.first_n, self.rules.minimum_rows)
        outcome = row.layer == "outcome"
        recent = spans.recent(end, 0 if outcome else wanted, wanted if outcome else 0)
        if recent is None:
            return None
        vector, start = recent
        # As the rules do: a span of length L is looked at every L/8.
        incident.next_check = max(incident.next_check, end + (end - start) // BLOCKS)
        still = any(
            finding.key == (row.signal, row.subject)
            for finding in self.quiet_evaluator.findings(vector, base, QUIET_ALPHA)
        )
        return None if still else start

    def _resolve(self, incident: Incident, when: float, clean_from: int) -> None:
        incident.resolved_at = when
        self.incidents.remove(incident)
        self.resolved = [*self.resolved, incident][-MAX_CLOSED:]
        # No span of a cell that shares rows with it reaches back over its end: old faulty panes would keep the alarm alive.
        self.not_before = [item for item in self.not_before if item[0] != incident.where] + [
            (incident.where, clean_from)
        ]
        for where, spans in self.cells.items():
            if intersects(where, incident.where):
                spans.not_before = max(spans.not_before, clean_from)
        self._say(incident, "resolved", when)

    def _say(self, incident: Incident, life: Life, when: float) -> None:
        incident.messages += 1
        self.alerts.append(
            alert_of(incident, life, when, self.changes, self.rules, self.evaluator, self.reference.learned)
        )

    # -- single values ---------------------------------------------------------------------------------------------------------

    def _keep_sample(self, sample: DigestSample) -> None:
        kept = self.samples.setdefault(f"{sample.version}\x1f{sample.stage}\x1f{sample.stream}", [])
        if len(kept) < MAX_SAMPLES:
            kept += zip(sample.times, sample.order, sample.values, strict=True)
            kept.sort()

    def _feed_detectors(self, when: float) -> list[tuple[Where, Finding, float, float]]:
        """Feeds ADWIN all values before the tick, in order of (time, id); a detection is a finding of its version."""
        if not self.rules.adwin or "adwin" in self.rules.disabled:
            self.samples.clear()
            return []
        found = []
        for name in sorted(self.samples):
            waiting = self.samples[name]
            ready = waiting[: bisect_left(waiting, (when, -1, 0))]
            if not ready:
                continue
            del waiting[: len(ready)]
            version, stage, stream = name.split("\x1f")
            detector = self.detectors.get(name)
            if detector is None:
                detector = self.detectors[name] = self._adwin_config().build()
            values = np.array([value for _, _, value in ready], dtype=np.float64) / LEVELS
            for detection in detector.update_many(values):
                finding = self._change_found(stream, detection.before, detection.after, detection.onset)
                if finding is not None:
                    at = max(detection.index - detection.onset + 1, 0)
                    shadow = stage == "shadow"
                    where = Where(version if self.several or shadow else None, "shadow" if shadow else "live", None)
                    found.append((where, finding, ready[at][0], when))
        return found

    def _adwin_config(self) -> AdwinConfig:
        checks = MONTH_S * self.config.panes.sample_per_second / ADWIN_CHECKS
        return AdwinConfig(
            low=0.0, high=1.0, significance=max(self.rules.false_alarms_per_month / checks, 1e-9), clock=ADWIN_CHECKS
        )

    def _change_found(self, stream: str, before: float, after: float, n: int) -> Finding | None:
        base = self.evaluator.baseline(None)
        score = self.reference.score
        if base is None or score is None or not (math.isfinite(before) and math.isfinite(after)):
            return None
        low, high = (0.0, 1.0) if self.reference.task != "regression" else (score.low, score.high)
        before, after = low + before * (high - low), low + after * (high - low)
        moved = abs(after - before) / base.score_sd
        away = abs(after - base.score_mean) > abs(before - base.score_mean)
        if moved < ADWIN_EFFECT or not away:
            return None  # a return to the reference is the end of a fault, not a fault
        significance = self._adwin_config().significance
        return Finding(
            "adwin",
            stream,
            "model",
            after,
            before,
            n,
            ADWIN_EFFECT,
            math.inf,
            0.0,
            math.log10(significance),
            moved / ADWIN_EFFECT,
        )

    # -- rows ------------------------------------------------------------------------------------------------------------------

    def save(self) -> Saved:
        """All but blocks and days."""
        return Saved(
            self.mapping,
            self.closed,
            self.versions,
            self.serving,
            self.incidents,
            self.resolved,
            self.changes,
            self.not_before,
            {name: detector.snapshot().to_bytes() for name, detector in self.detectors.items()},
            self.samples,
            {start: (rows, joined, late) for start, (rows, joined, late) in self.cohorts.items()},
            self.learning,
            self.schema_seen,
            self.reference.layout.sections,
        )

    def restore(self, saved: Saved, blocks: dict[Where, dict[str, bytes]], days: dict[Where, dict[str, bytes]]) -> None:
        """Takes back what `save` and the rows held. Blocks over edges that the reference no longer has are dropped."""
        self.closed, self.versions, self.serving = saved.closed, saved.versions, saved.serving
        self.incidents, self.resolved, self.changes, self.not_before = (
            saved.incidents,
            saved.resolved,
            saved.changes,
            saved.not_before,
        )
        self.cohorts = {start: list(counts) for start, counts in saved.cohorts.items()}
        self.learning, self.schema_seen = saved.learning, saved.schema_seen
        self.samples = saved.samples
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
        self.detectors = {
            name: self._adwin_config().build(State.from_bytes(raw)) for name, raw in saved.detectors.items()
        }
        for where, named in blocks.items():
            spans = self.cells[where] = self._spans(where)
            for name, row in named.items():
                spans.restore(name, row)
            self._reschedule(where, spans)

    def _reschedule(self, where: Where, spans: Spans) -> None:
        for pane in spans.open:
            self._schedule(pane + 1, 0, pane, where)
        for level in range(self.levels - 1):
            for number in spans.blocks[level]:
                end = ((number >> 1) + 1) << (level + 1)
                if end > self.closed:
                    self._schedule(end, level + 1, number >> 1, where)

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
