"""The alert: one message about one incident, as people and sinks receive it.

Versioned; `tests/leadline/golden/` pins its JSON. A reader ignores fields that it does not know, so that the judge may
be newer than the delivery process. Figures that are not finite become null on the way in: JSON has no NaN, and an alert
that cannot be read again would be an alert lost.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

ALERT_VERSION = 1

Severity = Literal["info", "warn", "critical"]
Life = Literal["open", "worse", "better", "resolved"]
Layer = Literal["operation", "schema", "data", "model", "outcome"]


def finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Figure = Annotated[float | None, BeforeValidator(finite_or_none)]
Instant = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    # An alert quotes people's data: a validation error must not quote it once more, into a log.
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Scope(_Part):
    """Who is affected. None means all: every version, or all traffic."""

    model_version: str | None = None
    stage: str | None = None
    segment: str | None = None
    share_of_traffic: float | None = Field(
        default=None, ge=0, le=1, description="share of the window's predictions in scope"
    )

    def __str__(self) -> str:
        version = f"version {self.model_version}" if self.model_version else ""
        return ", ".join(part for part in (version, self.stage, self.segment) if part) or "all traffic"


class Evidence(_Part):
    """One signal that fired: its value against its reference, with the number of rows and what noise alone could do."""

    signal: str
    subject: str | None
    layer: Layer
    value: Figure
    reference: Figure
    n: int
    noise_floor: Figure = None
    threshold: Figure = None
    log10_p: Figure = Field(default=None, description="log10 of the p-value under no change; more negative is surer")
    design_effect: Annotated[float, Field(ge=1.0, allow_inf_nan=False)] = Field(
        default=1.0,
        description="how many rows count as one independent row, as past spans vary; log10_p has been divided by it",
    )
    span_s: Instant = Field(description="length of the window looked at, seconds")
    scope: Scope = Scope()
    detail: str | None = Field(default=None, description="in words: which bins, categories or names moved")


class ChangeNote(_Part):
    """A change event that came shortly before the onset."""

    kind: str
    timestamp: Instant
    version: str | None = None
    note: str | None = None


class Alert(_Part):
    """A message about an incident. `alert_id` is stable: a repeated delivery carries the same id.

    Times are epoch seconds of event time.
    """

    schema_version: Literal[1] = 1
    alert_id: str = Field(min_length=1)
    incident_id: str = Field(min_length=1)
    life: Life
    severity: Severity = Field(description="how grave the incident is now")
    peak_severity: Severity | None = Field(
        default=None, description="the gravest that the incident has been; null: the same as severity"
    )
    model_id: str
    scope: Scope
    signal: str
    subject: str | None
    layer: Layer
    title: str
    summary: str
    onset_at: Instant
    onset_low: Figure = None
    onset_high: Figure = None
    opened_at: Instant
    raised_at: Instant = Field(description="event time of this message")
    resolved_at: Figure = None
    value: Figure
    reference: Figure
    n: int
    noise_floor: Figure = None
    evidence: tuple[Evidence, ...] = ()
    false_alarm_budget: str | None = None
    changes_before: tuple[ChangeNote, ...] = ()
    advice: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    baseline: Literal["reference", "learned"] = "reference"


UndeliveredReason = Literal["undecodable", "unknown_version", "rejected", "gave_up", "queue_full"]


class Undelivered(_Part):
    """The envelope on `<alerts>.undelivered`: an alert that one sink did not get (all of them, if `sink` is null), and
    why.
    """

    schema_version: Literal[1] = 1
    reason: UndeliveredReason
    detail: str = Field(description="in words; never a secret")
    sink: str | None = None
    attempts: int = 0
    failed_at: Instant = Field(description="epoch seconds, wall clock")
    source_topic: str
    source_partition: int
    source_offset: int
    alert: Alert | None = None
    original: str | None = Field(default=None, description="base64 of the message, cut, where it was no alert")
    original_size: int | None = Field(default=None, description="bytes")
