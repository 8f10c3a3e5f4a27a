"""A model that has gone quiet: no figure moves, so no rule would speak. By processing time, the only clock that silence has."""

from __future__ import annotations

from typing import Literal

import msgspec

from leadline.alert import Alert, Scope
from leadline.durations import format_duration

USUAL = 2.0  # a gap is news when it is so many times the longest that this model has had


class Heard(msgspec.Struct):
    """When a model was last heard (epoch seconds of the observers' clocks), its longest gap, and the alarm that stands."""

    at: float
    longest_gap_s: float = 0.0
    alarm_since: float | None = None
    alarms: int = 0


class Silence:
    """Remembers when each model was heard. A nightly batch learns its own gap: it alarms once at most, then waits two nights."""

    def __init__(self, after_s: float | None, heard: dict[str, Heard] | None = None) -> None:
        self.after_s = after_s
        self.models = heard if heard is not None else {}
        self._listening_since: float | None = None

    def hear(self, model_id: str, at: float) -> Alert | None:
        """A digest of the model; the alert that its silence is over, if it was one."""
        known = self.models.get(model_id)
        if known is None:
            self.models[model_id] = Heard(at)
            return None
        if at <= known.at:
            return None
        known.longest_gap_s = max(known.longest_gap_s, at - known.at)
        began, since, known.at = known.at, known.alarm_since, at
        known.alarm_since = None
        return self._alert(model_id, known, "resolved", began, since, at) if since is not None else None

    def check(self, now: float) -> list[Alert]:
        """Alerts of models that have been quiet for longer than is usual for them."""
        if self.after_s is None:
            return []
        if self._listening_since is None:
            self._listening_since = now  # what was silent while nobody listened may be waiting in the log
        found = []
        for model_id, known in sorted(self.models.items()):
            quiet = now - max(known.at, self._listening_since)
            if known.alarm_since is None and quiet > max(self.after_s, USUAL * known.longest_gap_s):
                known.alarm_since = now
                known.alarms += 1
                found.append(self._alert(model_id, known, "open", known.at, now, now))
        return found

    def _alert(
        self, model_id: str, known: Heard, life: Literal["open", "resolved"], began: float, opened: float, now: float
    ) -> Alert:
        incident = f"silence-{model_id}-{known.alarms}"
        lasted = format_duration(now - began)
        return Alert(
            alert_id=f"{incident}-{life}",
            incident_id=incident,
            life=life,
            severity="warn",
            model_id=model_id,
            scope=Scope(),
            signal="silence",
            subject=None,
            layer="operation",
            title=f"{model_id}: no predictions for {lasted}"
            if life == "open"
            else f"{model_id}: predictions came again after {lasted}",
            summary=f"This model's longest gap until now was {format_duration(known.longest_gap_s)}. "
            "While nothing comes, nothing can be judged.",
            onset_at=began,
            opened_at=opened,
            raised_at=now,
            resolved_at=now if life == "resolved" else None,
            value=now - began,
            reference=known.longest_gap_s,
            n=0,
            advice=(
                "Is the service up, does it publish, and does a worker read its partitions? `leadline doctor` checks the last two.",
            )
            if life == "open"
            else (),
        )
