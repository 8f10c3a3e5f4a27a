"""What people read in Redis: models, signals, join states, open incidents, as hashes and JSON under documented keys (docs/redis.md)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

from leadline.config import Config
from streams.baselines.stored_reference import dump_reference
from streams.counting.figure import Figure, Side
from streams.counting.layout import Vector
from streams.figures.figures import figures
from streams.judge.incidents import Incident
from streams.judge.model_judge import ModelJudge
from streams.judge.model_wide_figures import of_labels, of_recent_days

EVERY_S = 2.0  # processing time between two refreshes of a model: views cost more than counting
CELLS_A_S = 50.0  # signals of so many cells are rendered a second by each judge, however many models it has
HISTORY = 20


class Views:
    """Renders what changed. Views are outside of the exactly-once promise: they can always be made again from the rows."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.prefix = config.redis.prefix
        self._shown_at: dict[str, float] = {}
        self._signals_of: dict[str, tuple[object, ...]] = {}
        """What the signals that are shown of a model were made from."""
        self._waiting: set[str] = set()
        self._credit = CELLS_A_S * EVERY_S
        self._asked_at = math.inf

    def owe(self, models: Iterable[str]) -> None:
        """Shows these with the next refresh: whoever committed them last may have died before it showed them."""
        self._waiting.update(models)

    def refresh(
        self, models: Mapping[str, ModelJudge], touched: Iterable[str], clock: float, now: float
    ) -> dict[str, dict[str, str] | str | None]:
        """Full key to value, for models that changed and were not shown within the last two seconds: those whose incidents changed
        first, then those that were shown longest ago, as many as there is time for."""
        self._waiting.update(touched)
        self._credit = min(self._credit + CELLS_A_S * max(now - self._asked_at, 0.0), CELLS_A_S * EVERY_S)
        self._asked_at = now
        views: dict[str, dict[str, str] | str | None] = {}
        due = [name for name in self._waiting if now - self._shown_at.get(name, -math.inf) >= EVERY_S]
        for model_id in sorted(due, key=lambda name: (self._knows(models[name]), self._shown_at.get(name, 0.0), name)):
            judge = models[model_id]
            if self._credit <= 0 and self._knows(judge):
                break
            self._shown_at[model_id] = now
            self._waiting.discard(model_id)
            views.update(self.model(judge, clock))
        return views

    def _knows(self, judge: ModelJudge) -> bool:
        """Whether the incidents that are shown of a model are those that it has."""
        return self._signals_of.get(judge.model_id, (0,))[1:] == _incidents_of(judge)

    def model(self, judge: ModelJudge, clock: float) -> dict[str, dict[str, str] | str | None]:
        """Every view of one model. Its signals are those of panes that have ended: they are made anew when another has."""
        base = f"{self.prefix}:model:{judge.model_id}"
        reference = judge.reference
        join = judge.pending_counts(clock)
        views: dict[str, dict[str, str] | str | None] = {
            base: {
                "model_id": judge.model_id,
                "task": reference.task,
                "versions": ",".join(judge.cells.versions),
                "clock": repr(clock),
                "baseline": "learning"
                if judge.book.is_learning(judge.model_id)
                else "learned"
                if reference.learned
                else "reference",
                "reference_fingerprint": reference.fingerprint,
                "reference_rows": str(reference.rows),
                "open_incidents": str(len(judge.incidents)),
                **{f"join:{name}": str(count) for name, count in join.items()},
            },
            f"{base}:incidents": {
                incident.id: _json(incident_row(incident))
                for incident in [*judge.resolved[-HISTORY:], *judge.incidents]
            }
            or None,
        }
        made_from = (judge.cells.closed, *_incidents_of(judge))
        if self._signals_of.get(judge.model_id) != made_from:
            self._signals_of[judge.model_id] = made_from
            self._credit -= len(judge.cells.spans)
            views[f"{base}:signals"] = self._signals(judge)
        if reference.learned and reference.features:
            views[f"{base}:reference"] = dump_reference(reference).decode()
        return views

    def _signals(self, judge: ModelJudge) -> dict[str, str] | None:
        shown: dict[str, str] = {}
        for where, spans in judge.cells.spans.items():
            recent = spans.recent(judge.cells.closed, judge.rules.minimum_rows, 0)
            if recent is None:
                continue
            vector, start = recent
            longest = spans.recent(judge.cells.closed, judge.rules.minimum_rows, judge.rules.minimum_rows)
            baseline = judge.live.vector(where.segment)
            firing = {row.key: incident for incident in judge.incidents for row in incident.evidence}
            shows: list[tuple[Sequence[Side], Vector | None, int]] = [
                (("data", "model"), vector, start),
                (("outcome",), longest[0] if longest else None, longest[1] if longest else 0),
            ]
            for layers, source, first in shows:
                if source is None:
                    continue
                for figure in figures(judge.reference, source, baseline, judge.evaluator.latency_slo_ms, layers):
                    name = "|".join([where.version or "*", where.segment or "*", figure.signal, figure.subject or "*"])
                    incident = firing.get((where, figure.signal, figure.subject))
                    shown[name] = _json(self._signal(figure, incident, judge, first))
        layout, control, usual = judge.reference.layout, judge.groups.control, judge.reference.cells
        firing = {row.key: incident for incident in judge.incidents for row in incident.evidence}
        for where, _, start_s, end_s, figure in chain(
            of_recent_days(layout, judge.cells.arrivals, control, usual), of_labels(judge.labels)
        ):
            if end_s is not None and figure.signal == "label_definition_share":
                continue
            name = "|".join([where.version or "*", where.segment or "*", figure.signal, figure.subject or "*"])
            row = self._signal(figure, firing.get((where, figure.signal, figure.subject)), judge, None)
            shown[name] = _json({**row, "window_start": start_s, "window_end": end_s or row["window_end"]})
        for where, figure in judge.sequential.figures(judge.cells.several) if shown else ():
            name = "|".join([where.version or "*", where.segment or "*", figure.signal, figure.subject or "*"])
            shown[name] = _json(self._signal(figure, None, judge, None))
        return shown or None

    def _signal(
        self, figure: Figure, incident: Incident | None, judge: ModelJudge, first: int | None
    ) -> dict[str, Any]:
        return {
            "value": _finite(figure.value),
            "reference": _finite(figure.reference),
            "n": figure.n,
            "noise_floor": _finite(figure.floor),
            "verdict": verdict(figure, incident, judge),
            "incident": incident.id if incident else None,
            "window_start": first * judge.pane_s if first is not None else None,
            "window_end": judge.cells.closed * judge.pane_s,
        }


def _incidents_of(judge: ModelJudge) -> tuple[object, ...]:
    return tuple((incident.id, incident.severity, len(incident.evidence)) for incident in judge.incidents)


def verdict(figure: Figure, incident: Incident | None, judge: ModelJudge) -> str:
    """ok, warn, critical, or insufficient_data: few rows, or a noise floor that is itself past the limit."""
    if incident is not None:
        return incident.severity
    if figure.n < judge.rules.minimum_rows:
        return "insufficient_data"
    limits = getattr(judge.rules, figure.signal, None)
    if limits is not None and math.isfinite(figure.floor) and figure.floor > limits.warn:
        return "insufficient_data"
    return "ok"


def incident_row(incident: Incident) -> dict[str, Any]:
    """One incident as a flat row: the report's, and the view's."""
    from streams.judge.alerting import title_of

    return {
        "id": incident.id,
        "model_id": incident.model_id,
        "model_version": incident.where.version,
        "segment": incident.where.segment,
        "signal": incident.signal,
        "subject": incident.subject,
        "severity": incident.severity,
        "title": title_of(incident),
        "opened_at": incident.opened_at,
        "onset_at": incident.onset_at,
        "resolved_at": incident.resolved_at,
        "value": _finite(incident.value),
        "reference": _finite(incident.reference),
        "n": incident.n,
        "layer": incident.layer,
        "stage": incident.where.stage,
        "onset_low": incident.onset_low,
        "onset_high": incident.onset_high,
        "evidence": [
            {
                "model_version": row.where.version,
                "segment": row.where.segment,
                "signal": row.finding.signal,
                "subject": row.finding.subject,
                "value": _finite(row.finding.value),
                "reference": _finite(row.finding.reference),
                "n": row.finding.n,
                "log10_p": _finite(row.finding.log10_p),
                "design_effect": row.finding.design_effect,
            }
            for row in incident.evidence
        ],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _json(row: Mapping[str, Any]) -> str:
    return msgspec.json.encode(row).decode()
