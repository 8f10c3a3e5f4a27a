"""Alerts to deliver."""

from __future__ import annotations

from typing import Any

from leadline.alert import Alert, ChangeNote, Evidence, Scope

ONSET = 1_790_000_000.0


def alert(number: int = 1, incident: str = "inc-1", **changes: Any) -> Alert:
    """A plain alert; `number` makes its id."""
    fields: dict[str, Any] = {
        "alert_id": f"{incident}:{number}",
        "incident_id": incident,
        "life": "open",
        "severity": "warn",
        "model_id": "readmission",
        "scope": Scope(model_version="3", segment="site=north", share_of_traffic=0.25),
        "signal": "psi",
        "subject": "age",
        "layer": "data",
        "title": "age has drifted",
        "summary": "The distribution of age differs from training.",
        "onset_at": ONSET,
        "opened_at": ONSET + 60,
        "raised_at": ONSET + 90,
        "value": 0.3123,
        "reference": 0.1,
        "n": 4200,
        "noise_floor": 0.012,
    }
    return Alert(**{**fields, **changes})


def full_alert() -> Alert:
    """Every field in use."""
    return alert(
        peak_severity="critical",
        onset_low=ONSET - 30,
        onset_high=ONSET + 30,
        resolved_at=ONSET + 3600,
        life="resolved",
        evidence=(
            Evidence(
                signal="psi",
                subject="age",
                layer="data",
                value=0.3123,
                reference=0.1,
                n=4200,
                noise_floor=0.012,
                threshold=0.2,
                log10_p=-12.5,
                design_effect=4.2,
                span_s=300.0,
                scope=Scope(model_version="3"),
                detail="bin 70 to 80 doubled",
            ),
        ),
        false_alarm_budget="1 a week",
        changes_before=(ChangeNote(kind="deploy", timestamp=ONSET - 120, version="3", note="new scaler"),),
        advice=("Compare the scaler of version 3 with version 2.",),
        channels=("ml-oncall",),
        baseline="learned",
    )
