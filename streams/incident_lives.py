"""The lives of one model's incidents: firings open, join and refine them, quiet spans end them, and each turn is an alert.

Pure. Reads the model's cells and lays only one thing on them: no span reaches back over the end of a resolved incident.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec
import numpy as np

from leadline.alert import Alert
from leadline.events import Change
from streams.alerting import alert_of
from streams.evaluate import Evaluator
from streams.incidents import (
    LAYERS,
    SEQUENTIAL,
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
from streams.log_bins import DELAY_S
from streams.onset import onset
from streams.scope import Scoper, scaled
from streams.spans import BLOCKS, Spans

QUIET_RULES = 0.6  # an incident is quiet when its effect is below this share of the warning limit
QUIET_ALPHA = 0.05
MAX_CHANGES = 50
MAX_RESOLVED = 200


class LivesState(msgspec.Struct):
    """What is stored of a model's incidents, open and resolved, and of what people did to the model."""

    incidents: list[Incident] = []
    resolved: list[Incident] = []
    changes: list[Change] = []
    not_before: list[tuple[Where, int]] = []


class IncidentLives:
    """Open and resolved incidents of one model. `handle` takes the firings of a tick, `quieten` looks whether faults are over; what they
    say waits in `alerts`. `cells` is the model's own mapping, seen as it changes; times are epoch seconds, ends are panes."""

    def __init__(
        self,
        model_id: str,
        cells: Mapping[Where, Spans],
        evaluator: Evaluator,
        pane_s: float,
        delay_window_s: float,
    ) -> None:
        self.model_id = model_id
        self.cells = cells
        self.pane_s = pane_s
        self.delay_window_s = delay_window_s
        self.incidents: list[Incident] = []
        self.resolved: list[Incident] = []
        self.changes: list[Change] = []
        self.not_before: list[tuple[Where, int]] = []
        self.alerts: list[Alert] = []
        self.use(evaluator)

    def use(self, evaluator: Evaluator) -> None:
        """Judges by this evaluator from now on: the model's reference is another."""
        self.evaluator = evaluator
        self.rules = evaluator.rules
        self.scoper = Scoper(evaluator)
        quiet = scaled(evaluator.rules, QUIET_RULES)
        self.quiet_evaluator = Evaluator(evaluator.reference, quiet, evaluator.latency_slo_ms)

    def remember(self, change: Change, timestamp: float) -> None:
        """Remembers what people did: an incident names what came just before it."""
        self.changes = sorted(
            [*self.changes, msgspec.structs.replace(change, timestamp=timestamp)],
            key=lambda item: float(item.timestamp),
        )[-MAX_CHANGES:]

    def earliest(self, where: Where) -> int:
        """The first pane that a span of the cell may hold: none reaches back over the end of a resolved incident."""
        return max((pane for other, pane in self.not_before if intersects(other, where)), default=0)

    def save(self) -> LivesState:
        return LivesState(self.incidents, self.resolved, self.changes, self.not_before)

    def restore(self, state: LivesState) -> None:
        self.incidents, self.resolved = state.incidents, state.resolved
        self.changes, self.not_before = state.changes, state.not_before

    # -- firings ---------------------------------------------------------------------------------------------------------------

    def handle(self, firings: Iterable[Firing], end: int) -> None:
        """Takes what fired at the end of pane `end` - 1: into the incidents that it belongs to, the rest into new ones."""
        when = end * self.pane_s
        left: list[Firing] = []
        for firing in sorted(firings, key=lambda firing: (firing.rank, str(firing.where))):
            holder = next((incident for incident in reversed(self.incidents) if incident.holds(firing.key)), None)
            if holder is None:
                left.append(firing)
            else:
                self._attach(holder, firing, when)
        if not left:
            return
        delay = self._label_delay(end)
        left = [firing for firing in left if not self._joins(firing, when, delay) and self._is_news(firing)]
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
        if incident.quiet_since is not None or finding.signal in SEQUENTIAL:
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

    def _joins(self, firing: Firing, when: float, delay: float) -> bool:
        for incident in reversed(self.incidents):
            if belongs(firing, incident, delay) or self._began_before(firing, incident):
                self._attach(incident, firing, when)
                return True
        # An outcome that follows from a fault that is over: its labels are still coming.
        return any(
            firing.finding.layer == "outcome" and incident.layer != "outcome" and belongs(firing, incident, delay)
            for incident in self.resolved[-5:]
        )

    def _is_news(self, firing: Firing) -> bool:
        """False for evidence that opens nothing by itself, and for single values of a fault that is over."""
        if firing.finding.signal not in SEQUENTIAL:
            return True
        return firing.opens and firing.start >= self.earliest(firing.where) * self.pane_s

    def _began_before(self, firing: Firing, incident: Incident) -> bool:
        """Whether what the firing is about may have begun before the incident opened: some signs of a fault need more rows than others."""
        if (
            firing.where not in self.cells
            or not intersects(firing.where, incident.where)
            or firing.finding.signal in SEQUENTIAL
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
        if finding.signal not in SEQUENTIAL:
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
        if where in self.cells and finding.signal not in SEQUENTIAL:
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

    def _label_delay(self, end: int) -> float:
        """How long nine in ten labels take, seconds; the delay window where nothing is known."""
        spans = self.cells.get(Where(None, "live", None))
        if spans is None:
            return self.delay_window_s
        recent = spans.recent(end, 0, self.rules.minimum_rows)
        if recent is None:
            return self.delay_window_s
        counts = np.maximum(self.evaluator.layout.part(recent[0], "delay"), 0)
        return DELAY_S.quantile(counts, 0.9) if counts.any() else self.delay_window_s

    # -- the end of an incident ------------------------------------------------------------------------------------------------

    def quieten(self, end: int, moved: Collection[Where]) -> None:
        """Looks again at the incidents that share rows with a cell that moved: one whose causes are gone from a whole span is over."""
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
        if incident.signal in SEQUENTIAL:
            last = max(row.end for row in incident.evidence)
            return end if end * self.pane_s - last >= max(incident.span_s, 360 * self.pane_s) else None
        rank = LAYERS[incident.layer]
        # First those that few rows suffice to show: they say soonest whether the fault is over.
        causes = sorted(
            (
                row
                for row in incident.evidence
                if LAYERS[row.finding.layer] <= rank and row.finding.signal not in SEQUENTIAL
            ),
            key=lambda row: row.first_n,
        )
        own = [row for row in causes if row.where == incident.where]
        named = [row for row in causes if row.finding.key == (incident.signal, incident.subject)]
        # Of the other cells that showed the same only the largest: a rare one would need days to say anything.
        largest = max(named, key=lambda row: row.finding.n, default=None)
        chosen = (
            [row for row in named if row.where == incident.where] + own[:2] + ([largest] if largest is not None else [])
        )
        leading = {row.key: row for row in chosen}
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
        outcome = row.finding.layer == "outcome"
        recent = spans.recent(end, 0 if outcome else wanted, wanted if outcome else 0)
        if recent is None:
            return None
        vector, start = recent
        # As the rules do: a span of length L is looked at every L/8.
        incident.next_check = max(incident.next_check, end + (end - start) // BLOCKS)
        still = any(
            finding.key == row.finding.key for finding in self.quiet_evaluator.findings(vector, base, QUIET_ALPHA)
        )
        return None if still else start

    def _resolve(self, incident: Incident, when: float, clean_from: int) -> None:
        incident.resolved_at = when
        self.incidents.remove(incident)
        self.resolved = [*self.resolved, incident][-MAX_RESOLVED:]
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
            alert_of(incident, life, when, self.changes, self.rules, self.evaluator, self.evaluator.reference.learned)
        )
