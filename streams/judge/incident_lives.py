"""The lives of one model's incidents: firings open, join and refine them, quiet spans end them, and each turn is an alert.

Pure. Reads the model's cells and lays only one thing on them: no span reaches back over the end of a resolved incident.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec
import numpy as np

from leadline.alert import Alert
from leadline.events import Change
from streams.counting.log_bins import DELAY_S
from streams.judge.alerting import alert_of
from streams.judge.incidents import (
    LAYERS,
    SILENT_WHEN_OVER,
    TRAFFIC_SHARE,
    UNSPANNED,
    Ended,
    Firing,
    Incident,
    Life,
    Where,
    apart,
    attach,
    belongs,
    evidence_of,
    incident_id,
    intersects,
    severity_of,
)
from streams.judge.news import NEWS_ALPHA, News
from streams.judge.notes import Notes
from streams.judge.onset import onset
from streams.judge.recovery import Recovery
from streams.judge.scope import Scoper
from streams.judge.spans import Spans
from streams.judge.traffic import Traffic
from streams.judge.variation import Variation
from streams.rules.evaluate import Evaluator

MAX_CHANGES = 50
MAX_RESOLVED = 200


class LivesState(msgspec.Struct):
    """What is stored of a model's incidents, open and resolved, and of what people did to the model."""

    incidents: list[Incident] = []
    resolved: list[Incident] = []
    changes: list[Change] = []
    not_before: list[tuple[Where, int]] = []
    """(scope of a resolved incident, first pane after it): for every cell that shares rows with it."""
    shown_before: list[tuple[Where, int]] = []
    """The same for the cells of its evidence alone."""


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
        alpha: Callable[[], float],
        traffic: Traffic,
        variation: Variation,
    ) -> None:
        self.model_id = model_id
        self.cells = cells
        self.pane_s = pane_s
        self.delay_window_s = delay_window_s
        self.alpha = alpha
        self.traffic, self.variation = traffic, variation
        self.incidents: list[Incident] = []
        self.resolved: list[Incident] = []
        self.changes: list[Change] = []
        self.not_before: list[tuple[Where, int]] = []
        self.shown_before: dict[Where, int] = {}
        self.alerts: list[Alert] = []
        self._gone_not_before = -math.inf
        """No incident is over for want of rows before this pane: rows that come can only make it later."""
        self.notes = Notes()
        """Names behind the findings; the model's judge fills them."""
        self.use(evaluator)

    def use(self, evaluator: Evaluator) -> None:
        """Judges by this evaluator from now on: the model's reference is another."""
        self._gone_not_before = -math.inf
        self.evaluator = evaluator
        self.rules = evaluator.rules
        self.scoper = Scoper(evaluator, self.variation)
        self.recovery = Recovery(evaluator, self.cells, self.pane_s, self.traffic)
        self.news = News(evaluator, self.cells, self.pane_s, self.variation)

    def remember(self, change: Change, timestamp: float) -> None:
        """Remembers what people did: an incident names what came just before it."""
        self.changes = sorted(
            [*self.changes, msgspec.structs.replace(change, timestamp=timestamp)],
            key=lambda item: float(item.timestamp),
        )[-MAX_CHANGES:]

    def earliest(self, where: Where) -> int:
        """The first pane that a span of the cell may hold: none reaches back over the end of a resolved incident."""
        shared = max((pane for other, pane in self.not_before if intersects(other, where)), default=0)
        return max(shared, self.shown_before.get(where, 0))

    def save(self) -> LivesState:
        return LivesState(
            self.incidents, self.resolved, self.changes, self.not_before, sorted(self.shown_before.items(), key=repr)
        )

    def restore(self, state: LivesState) -> None:
        self._gone_not_before = -math.inf
        self.incidents, self.resolved = state.incidents, state.resolved
        self.changes, self.not_before = state.changes, state.not_before
        self.shown_before = dict(state.shown_before)

    # -- firings ---------------------------------------------------------------------------------------------------------------

    def handle(self, firings: Iterable[Firing], end: int) -> None:
        """Takes what fired at the end of pane `end` - 1: into the incidents that it belongs to, the rest into new ones."""
        when = end * self.pane_s
        delay = self._label_delay(end)
        left: list[Firing] = []
        names: dict[Where, str] = {}

        def order(firing: Firing) -> tuple[tuple[int, int, float], str]:
            where = firing.where
            return firing.rank, names.get(where) or names.setdefault(where, str(where))

        for firing in sorted(firings, key=order):
            holder = next((incident for incident in reversed(self.incidents) if incident.holds(firing.key)), None)
            if holder is None:
                left.append(firing)
            else:
                self._attach(holder, firing, when, delay)
        left = [firing for firing in left if not self._joins(firing, when, delay) and self._is_news(firing)]
        while left:
            # The surest firing of the most causal layer opens the incident; what belongs to it is taken out of the list.
            first = min(left, key=lambda firing: firing.rank)
            incident, new = self._open(first, when, delay)
            rest = []
            for firing in left:
                if firing is first or belongs(firing, incident, delay):
                    attach(incident, firing)
                else:
                    rest.append(firing)
            if new:
                incident.severity = severity_of(incident.evidence)
                self._say(incident, "open", when)
            left = rest

    def _attach(self, incident: Incident, firing: Firing, when: float, delay: float) -> None:
        life = self._refine(incident, firing) or attach(incident, firing)
        # Evidence that neither names the fault nor follows from it says nothing of how large it is.
        sized = firing.finding.layer == "outcome" or firing.finding.key == (incident.signal, incident.subject)
        if sized and self._grew(incident, firing, delay, self.alpha()):
            life = "worse"
        if life is not None:
            self._say(incident, life, when)

    def _grew(self, incident: Incident, firing: Firing, delay: float, alpha: float) -> bool:
        """Whether a fault is now twice what people were told of it: in what names the incident, or in its outcomes."""
        key, row = firing.finding.key, incident.holds(firing.key)
        if row is None:
            return False
        if firing.start <= incident.opened_at + incident.span_s:
            row.told = max(row.told, firing.finding.strength)  # the fault itself still fills the span
        if not self.news.has_grown(firing, incident, row.told, delay, alpha):
            return False
        for other in incident.evidence:
            if other.finding.key == key:
                other.told = max(other.told, firing.finding.strength)
        return True

    def _refine(self, incident: Incident, firing: Firing) -> Life | None:
        """Names the incident anew where the firing knows better: a more causal layer, or twice the rows that its scope was drawn from."""
        finding = firing.finding
        if incident.quiet_since is not None or finding.signal in SILENT_WHEN_OVER:
            return None
        if finding.signal == TRAFFIC_SHARE and incident.signal != TRAFFIC_SHARE:
            # Rows that do not come move everything else: its segment is the scope.
            incident.where, incident.share = firing.where, None
            self._gone_not_before = -math.inf
            incident.signal, incident.subject, incident.layer = finding.signal, finding.subject, finding.layer
            attach(incident, firing)
            return "worse"
        if finding.signal in UNSPANNED:
            return None
        causal = LAYERS[finding.layer] < LAYERS[incident.layer]
        same = (finding.signal, finding.subject) == (incident.signal, incident.subject)
        if not causal and not (same and finding.n >= 2 * incident.needed):
            return None
        if causal and self._is_known(firing, besides=incident):
            return None  # what another incident is about is not this one's cause
        if same:
            incident.needed = finding.n
        affected = self.scoper.narrow(firing, self.cells)
        if not causal and affected.where == incident.where:
            incident.share = affected.share
            return None
        wider = affected.share > (incident.share if incident.share is not None else 1.0)
        incident.where, incident.share = affected.where, affected.share
        self._gone_not_before = -math.inf
        incident.signal, incident.subject, incident.layer = finding.signal, finding.subject, finding.layer
        attach(incident, firing)
        attach(incident, Firing(affected.where, affected.finding, firing.start, firing.end, firing.look))
        return "worse" if wider or causal else "better"

    def _joins(self, firing: Firing, when: float, delay: float) -> bool:
        for incident in reversed(self.incidents):
            if belongs(firing, incident, delay) or self.news.is_same(firing, incident, delay):
                self._attach(incident, firing, when, delay)
                return True
        # An outcome that follows from a fault that is over: its labels are still coming.
        return any(
            firing.finding.layer == "outcome" and incident.layer != "outcome" and belongs(firing, incident, delay)
            for incident in self.resolved[-5:]
        )

    def _is_news(self, firing: Firing) -> bool:
        """False for evidence that opens nothing by itself, and for single values of a fault that is over."""
        if firing.finding.signal not in SILENT_WHEN_OVER:
            return True
        return firing.opens and firing.start >= self.earliest(firing.where) * self.pane_s

    def _open(self, firing: Firing, when: float, delay: float) -> tuple[Incident, bool]:
        """The incident of a firing that none holds: a new one (True), or an open one that is about the firing's cause."""
        finding, where, share = firing.finding, firing.where, None
        if finding.signal not in UNSPANNED:
            affected = self.scoper.narrow(firing, self.cells)
            finding, where, share = affected.finding, affected.where, affected.share
            rank = Firing(where, finding, firing.start, firing.end).rank[:2]
            causes = [
                cause
                for upstream in self.scoper.causes(firing, where, self.cells)
                if not apart(upstream.signal, finding.signal)
                and (cause := Firing(where, upstream, firing.start, firing.end, firing.look)).rank[:2] < rank
            ]
            for cause in sorted(causes, key=lambda item: item.rank):
                known = self._that_names(cause)
                if known is None and not self._is_known(cause):
                    finding = cause.finding
                    break
                if known is not None and self._grew(known, cause, delay, NEWS_ALPHA):
                    # The cause is known and has doubled: that is the news, and this follows from it.
                    attach(known, firing)
                    self._say(known, "worse", when)
                    return known, False
            named = Firing(where, finding, firing.start, firing.end, firing.look)
            held = next(
                (
                    incident
                    for incident in reversed(self.incidents)
                    if incident.holds(named.key) or belongs(named, incident, delay)
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
        if where in self.cells and finding.signal not in UNSPANNED:
            since = onset(self.cells[where], self.evaluator, finding, where.segment, end, length)
        begun = since.pane * self.pane_s if since is not None else firing.start
        row = evidence_of(Firing(where, finding, firing.start, firing.end, firing.look))
        incident = Incident(
            id=incident_id(self.model_id, where, finding.signal, finding.subject, when),
            model_id=self.model_id,
            where=where,
            signal=finding.signal,
            subject=finding.subject,
            layer=finding.layer,
            severity=severity_of([row]),
            opened_at=when,
            onset_at=begun,
            onset_low=since.first * self.pane_s if since is not None else firing.start,
            onset_high=(since.last + 1) * self.pane_s if since is not None else firing.end,
            span_s=firing.end - firing.start,
            value=finding.value,
            reference=finding.reference,
            n=finding.n,
            needed=max(finding.n, self.rules.minimum_rows),
            evidence=[row],
            share=share,
        )
        self.incidents.append(incident)
        self._gone_not_before = -math.inf
        return incident, True

    def _that_names(self, firing: Firing) -> Incident | None:
        """The open incident whose name the firing's signal is, of rows that it shares."""
        for incident in reversed(self.incidents):
            if intersects(incident.where, firing.where) and firing.finding.key == (incident.signal, incident.subject):
                return incident
        return None

    def _is_known(self, firing: Firing, besides: Incident | None = None) -> bool:
        """Whether an open incident of these rows (`besides` one) has that signal: what is news beside it has another cause."""
        return any(
            row.finding.key == firing.finding.key
            for incident in self.incidents
            if incident is not besides and intersects(incident.where, firing.where)
            for row in incident.evidence
        )

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
            if end < incident.next_check or not any(intersects(incident.where, where) for where in moved):
                continue
            clean = self.recovery.clean_since(incident, end)
            if clean is None:
                incident.quiet_since = None
            elif incident.quiet_since is None:
                # What is left of the fault lies in the older half of the first quiet span: the incident ends when one without it is quiet.
                incident.quiet_since, incident.quiet_from = when, (clean * self.pane_s + when) / 2
            elif clean * self.pane_s >= incident.quiet_from and when - incident.quiet_since >= (
                self.rules.resolve_after or 0.0
            ):
                self._resolve(incident, when, clean, "recovered")

    def gone_by(self, pane: int, closed: int) -> int | None:
        """The first pane, at most `pane`, at whose begin an incident is over for want of rows; None where none is until then. Panes before
        `closed` have been judged."""
        if pane < self._gone_not_before:
            return None
        if self.rules.gone_after is None:
            return None
        # A cell without a row: the first will come at `pane` or later.
        never = pane * self.pane_s + self.rules.gone_after
        gone = [self.recovery.gone_at(incident, closed) for incident in self.incidents]
        ends = [never if at is None else at for at in gone]
        self._gone_not_before = math.ceil(min(ends) / self.pane_s) if ends else math.inf
        return int(self._gone_not_before) if ends and self._gone_not_before <= pane else None

    def end_gone(self, end: int, closed: int) -> None:
        """Ends incidents of versions and segments that nobody serves any more: no clean row will ever come to say that they are over."""
        when = end * self.pane_s
        for incident in list(self.incidents):
            at = self.recovery.gone_at(incident, closed)
            if at is not None and at <= when:
                self._resolve(incident, when, end, "no_more_traffic")

    def _resolve(self, incident: Incident, when: float, clean_from: int, ended: Ended) -> None:
        incident.resolved_at, incident.ended = when, ended
        self._gone_not_before = -math.inf
        self.incidents.remove(incident)
        self.resolved = [*self.resolved, incident][-MAX_RESOLVED:]
        # No span of a cell that shares rows with it reaches back over its end: old faulty panes would keep the alarm alive.
        self.not_before = [item for item in self.not_before if item[0] != incident.where] + [
            (incident.where, clean_from)
        ]
        # Nor one of a cell that showed it, though the scope does not name it: half of a fault's other rows lie there.
        shown = {row.where for row in incident.evidence}
        self.shown_before.update(dict.fromkeys(shown, clean_from))
        for where, spans in self.cells.items():
            if where in shown or intersects(where, incident.where):
                spans.not_before = max(spans.not_before, clean_from)
        self._say(incident, "resolved", when)

    def _say(self, incident: Incident, life: Life, when: float) -> None:
        incident.messages += 1
        for row in incident.evidence:
            base = self.evaluator.baseline(row.where.segment)
            vector = base.vector if base is not None else None
            detail = self.notes.detail(row.finding, row.where, self.evaluator.reference, vector)
            row.finding = row.finding._replace(detail=detail or "")
        self.alerts.append(
            alert_of(incident, life, when, self.changes, self.rules, self.evaluator, self.evaluator.reference.learned)
        )
