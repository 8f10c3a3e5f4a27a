"""Whether a firing under an open incident is that fault, or something that came to it later.

A fault that stays (a population that has moved for good) must not hide the next one. The question is then not how far the rows are from the
reference, the open incident says that already, but whether they changed *since it opened*: its own earlier time is the baseline.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from streams.counting.layout import Vector
from streams.judge.incidents import LAYERS, UNSPANNED, Firing, Incident, Where, apart, intersects
from streams.judge.onset import onset, timeline
from streams.judge.spans import Spans
from streams.judge.variation import Variation
from streams.rules.baseline import Baseline
from streams.rules.evaluate import Evaluator

NEWS_ALPHA = 1e-4  # the firing itself has passed the budget: this decides only whose it is
USUAL_ALPHA = 0.05
GROWN = 2.0  # times the effect that was last told


class Earlier:
    """What a cell showed before a span, and as a baseline."""

    def __init__(self, vector: Vector, rows: float, outcomes: float) -> None:
        self.vector, self.rows, self.outcomes = vector, rows, outcomes
        self._baseline: Baseline | None = None

    def baseline(self, evaluator: Evaluator) -> Baseline:
        if self._baseline is None:
            self._baseline = evaluator.prepare(self.vector)
        return self._baseline


class News:
    """Compares a firing's span with what its cell showed while the incident was open. Times are epoch seconds, ends are panes."""

    def __init__(self, evaluator: Evaluator, cells: Mapping[Where, Spans], pane_s: float, variation: Variation) -> None:
        self.evaluator, self.cells, self.pane_s, self.variation = evaluator, cells, pane_s, variation
        self._known: dict[tuple[Where, int, int], Earlier] = {}
        """Of the firings that end at `_at`: those of one tick often ask for the same time of the same cell."""
        self._at = -math.inf

    def is_same(self, firing: Firing, incident: Incident, label_delay_s: float) -> bool:
        """Whether what the firing is about was so when the incident opened, though its span begins later: some signs of a fault need more
        rows than others."""
        if (
            firing.where not in self.cells
            or firing.finding.signal in UNSPANNED
            or apart(firing.finding.signal, incident.signal)
            or not intersects(firing.where, incident.where)
        ):
            return False
        later = LAYERS[firing.finding.layer] > LAYERS[incident.layer]
        if later or (firing.finding.subject is not None and firing.finding.subject == incident.subject):
            # Against the reference these rows have been wrong all the time: only their own earlier time can tell.
            changed = self.changed(firing, incident, label_delay_s, NEWS_ALPHA)
            if changed is not None:
                return not changed
            return later or self._began_before(firing, incident) is not False
        began = self._began_before(firing, incident)
        return not self.changed(firing, incident, label_delay_s, NEWS_ALPHA) if began is None else began

    def changed(self, firing: Firing, incident: Incident, label_delay_s: float, alpha: float) -> bool | None:
        """Whether the finding stands out against its cell's own time since the incident opened; None where too few rows came in between."""
        base = self.evaluator.baseline(firing.where.segment)
        earlier = self._earlier(firing, incident, label_delay_s) if base is not None else None
        span = self._span(firing) if earlier is not None else None
        if base is None or earlier is None or span is None:
            return None
        before = self.evaluator.first(earlier.vector, base, USUAL_ALPHA, firing.finding)
        if before is not None and GROWN * before.strength >= firing.finding.strength:
            return False
        found = self.evaluator.first(span, earlier.baseline(self.evaluator), alpha, firing.finding)
        # Spans that vary by themselves differ from those before them, too.
        since = incident.onset_low // self.pane_s
        return (
            found is not None and self.variation.judged(firing.where, firing.look, found, math.log(alpha), since).passes
        )

    def has_grown(self, firing: Firing, incident: Incident, told: float, label_delay_s: float, alpha: float) -> bool:
        """Whether an incident's own signal is now twice as strong as was told, and not by luck."""
        if firing.finding.signal in UNSPANNED or firing.finding.strength < GROWN * told:
            return False
        return firing.start > incident.opened_at + incident.span_s and bool(
            self.changed(firing, incident, label_delay_s, alpha)
        )

    def _span(self, firing: Firing) -> Vector | None:
        spans = self.cells.get(firing.where)
        level, count, block = firing.look
        members = spans.members(level, count, block) if spans is not None else []
        return spans.dense(members) if spans is not None and members else None

    def _earlier(self, firing: Firing, incident: Incident, label_delay_s: float) -> Earlier | None:
        """The cell's rows from the opening (for labels: once the faulty rows' had come) to the firing's span."""
        spans = self.cells.get(firing.where)
        outcome = firing.finding.layer == "outcome"
        first = int(-(-(incident.opened_at + (label_delay_s if outcome else 0.0)) // self.pane_s))
        end = round(firing.start / self.pane_s)
        if spans is None or end <= first:
            return None
        if firing.end != self._at:
            self._at = firing.end
            self._known.clear()
        key = (firing.where, first, end)
        found = self._known.get(key)
        if found is None:
            blocks = [block for _, _, block in timeline(spans, end, first)]
            rows, outcomes = sum(block.rows for block in blocks), sum(block.outcomes for block in blocks)
            found = self._known[key] = Earlier(spans.dense(blocks), rows, outcomes)
        enough = found.outcomes if outcome else found.rows
        return found if enough >= self.evaluator.rules.minimum_rows else None

    def _began_before(self, firing: Firing, incident: Incident) -> bool | None:
        """By its onset; None where its counts do not tell: joint figures have no histogram of their own."""
        level, count, _ = firing.look
        end, length = round(firing.end / self.pane_s), count << level
        back = round((firing.end - incident.onset_low) / self.pane_s) + length
        since = onset(self.cells[firing.where], self.evaluator, firing.finding, firing.where.segment, end, length, back)
        return since.first * self.pane_s <= incident.opened_at if since is not None else None
