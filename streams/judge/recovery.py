"""When a fault is over: as many rows as showed it, without it; or no more rows at all."""

from __future__ import annotations

from collections.abc import Mapping

from leadline.config import Limits, Rules
from streams.judge.incidents import LAYERS, SILENT_WHEN_OVER, TRAFFIC_SHARE, UNSPANNED, EvidenceRow, Incident, Where
from streams.judge.spans import BLOCKS, Spans
from streams.judge.traffic import Traffic
from streams.rules.evaluate import Evaluator
from streams.rules.fact_rules import FACTS

QUIET_RULES = 0.6  # an incident is quiet when its effect is below this share of the warning limit
QUIET_ALPHA = 0.05
FACT_ROWS = 1000  # clean rows that end what one row suffices to show: one in a few hundred is the usual rate


def scaled(rules: Rules, factor: float) -> Rules:
    """The same rules with every effect limit times `factor`."""
    limits = {
        name: Limits(warn=value.warn * factor, critical=value.critical)
        for name in Rules.model_fields
        if isinstance(value := getattr(rules, name), Limits) and name != "output_collapse"
    }
    lift = {name: value.model_copy(update={"warn": value.warn * factor}) for name, value in rules.lift.items()}
    return rules.model_copy(update={**limits, "lift": lift})


class Recovery:
    """Looks at an open incident's leading evidence again, with easier limits than those that opened it. Ends are panes."""

    def __init__(self, evaluator: Evaluator, cells: Mapping[Where, Spans], pane_s: float, traffic: Traffic) -> None:
        self.evaluator, self.cells, self.pane_s, self.traffic = evaluator, cells, pane_s, traffic
        self.rules = evaluator.rules
        self.quiet = Evaluator(evaluator.reference, scaled(evaluator.rules, QUIET_RULES), evaluator.latency_slo_ms)

    def gone_at(self, incident: Incident, closed: int) -> float | None:
        """When the incident's version or segment will have had no row for `gone_after`, epoch seconds; None where it never had any.
        Panes before `closed` have been judged."""
        spans = self.cells.get(incident.where)
        last = spans.last_row(closed) if spans is not None else None
        if last is None or self.rules.gone_after is None:
            return None
        return max(last * self.pane_s, incident.opened_at) + self.rules.gone_after

    def clean_since(self, incident: Incident, end: int) -> int | None:
        """The first pane of a recent span without the incident's leading evidence; None while there is none.

        Consequences are left out: labels of the faulty time go on coming when the fault itself is over.
        """
        if incident.signal in SILENT_WHEN_OVER:
            last = max(row.end for row in incident.evidence)
            return end if end * self.pane_s - last >= max(incident.span_s, 360 * self.pane_s) else None
        if incident.signal == TRAFFIC_SHARE:
            wanted = min((row.first_n for row in incident.evidence if row.finding.signal == TRAFFIC_SHARE), default=0)
            return self.traffic.clean_since(incident, max(wanted, self.rules.minimum_rows), end, QUIET_ALPHA)
        starts = []
        incident.next_check = end + 1
        for row in self._leading(incident):
            start = self._clean_row(incident, row, end)
            if start is None:
                return None
            starts.append(start)
        return min(starts, default=end)

    @staticmethod
    def _leading(incident: Incident) -> list[EvidenceRow]:
        """The rows that say soonest and most surely whether the fault is over. Kept until its evidence changes."""
        known: list[EvidenceRow] | None = incident.__dict__.get("leading")
        if known is not None:
            return known
        rank = LAYERS[incident.layer]
        # First those that few rows suffice to show: they say soonest whether the fault is over.
        causes = sorted(
            (
                row
                for row in incident.evidence
                if LAYERS[row.finding.layer] <= rank and row.finding.signal not in UNSPANNED
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
        leading = incident.__dict__["leading"] = list({row.key: row for row in chosen}.values())
        return leading

    def _clean_row(self, incident: Incident, row: EvidenceRow, end: int) -> int | None:
        spans, base = self.cells.get(row.where), self.evaluator.baseline(row.where.segment)
        fact = row.finding.signal in FACTS
        if spans is None or (base is None and not fact):
            return end
        # As many rows as showed it first, at odds that the budget demands: enough to see by an easier test whether it is still there.
        wanted = max(row.first_n, FACT_ROWS if fact else self.rules.minimum_rows)
        outcome = row.finding.layer == "outcome"
        recent = spans.recent(end, 0 if outcome else wanted, wanted if outcome else 0)
        if recent is None:
            return None
        vector, start = recent
        # As the rules do: a span of length L is looked at every L/8.
        incident.next_check = max(incident.next_check, end + (end - start) // BLOCKS)
        if base is None or fact:
            return None if self.quiet.has_fact(vector, row.finding) else start
        still = self.quiet.first(vector, base, QUIET_ALPHA, row.finding)
        return start if still is None else None
