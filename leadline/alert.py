"""The alert: one message about one incident, as people and sinks receive it. Versioned; `tests/leadline/golden/` pins its JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ALERT_VERSION = 1

Severity = Literal["info", "warn", "critical"]
Life = Literal["open", "worse", "better", "resolved"]
Layer = Literal["operation", "schema", "data", "model", "outcome"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Scope(_Part):
    """Who is affected. None means all: every version, or all traffic."""

    model_version: str | None = None
    stage: str | None = None
    segment: str | None = None
    share_of_traffic: float | None = Field(default=None, ge=0, le=1, description="share of the window's predictions in scope")

    def __str__(self) -> str:
        parts = [f"version {self.model_version}" if self.model_version else "", self.stage if self.stage else "", self.segment or ""]
        return ", ".join(part for part in parts if part) or "all traffic"


class Evidence(_Part):
    """One signal that fired: its value against its reference, with the number of rows and what noise alone could do."""

    signal: str
    subject: str | None
    layer: Layer
    value: float | None
    reference: float | None
    n: int
    noise_floor: float | None = None
    threshold: float | None = None
    log10_p: float | None = Field(default=None, description="log10 of the p-value under no change; more negative is surer")
    span_s: float = Field(description="length of the window looked at, seconds")
    scope: Scope = Scope()
    detail: str | None = Field(default=None, description="in words: which bins, categories or names moved")


class ChangeNote(_Part):
    """A change event that came shortly before the onset."""

    kind: str
    timestamp: float
    version: str | None = None
    note: str | None = None


class Alert(_Part):
    """A message about an incident. `alert_id` is stable: a repeated delivery carries the same id. Times are epoch seconds of event time."""

    schema_version: Literal[1] = 1
    alert_id: str
    incident_id: str
    life: Life
    severity: Severity
    model_id: str
    scope: Scope
    signal: str
    subject: str | None
    layer: Layer
    title: str
    summary: str
    onset_at: float
    onset_low: float | None = None
    onset_high: float | None = None
    opened_at: float
    raised_at: float = Field(description="event time of this message")
    resolved_at: float | None = None
    value: float | None
    reference: float | None
    n: int
    noise_floor: float | None = None
    evidence: tuple[Evidence, ...] = ()
    false_alarm_budget: str | None = None
    changes_before: tuple[ChangeNote, ...] = ()
    advice: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    baseline: Literal["reference", "learned"] = "reference"
