"""The alert for data that is gone: Kafka's retention, or a broker that forgets, was faster than the worker."""

from __future__ import annotations

import time

from leadline.alert import Alert, Evidence, Scope
from streams.transport.beginning import DataGap

EVERY_MODEL = "*"


def gap_alert(gap: DataGap, now: float | None = None) -> Alert:
    """An operational alert with the missing range. Its id depends on the range alone: every worker that meets the gap says the same."""
    when = time.time() if now is None else now
    missing = gap.end - gap.first
    identity = f"gap-{gap.topic}-{gap.partition}-{gap.first}-{gap.end}"
    place = f"{gap.topic}/{gap.partition}"
    return Alert(
        alert_id=identity,
        incident_id=identity,
        life="open",
        severity="critical",
        model_id=EVERY_MODEL,
        scope=Scope(),
        signal="data_gap",
        subject=place,
        layer="operation",
        title=f"{missing:,} records of {place} were never read",
        summary=(
            f"The log no longer holds offsets {gap.first} to {gap.end - 1} of {place}. Counts, join states and figures of that time "
            "lack these records; everything before and after is counted once."
        ),
        onset_at=when,
        opened_at=when,
        raised_at=when,
        value=float(missing),
        reference=0.0,
        n=missing,
        evidence=(
            Evidence(
                signal="data_gap",
                subject=place,
                layer="operation",
                value=float(missing),
                reference=0.0,
                n=missing,
                span_s=0.0,
                detail=f"offsets [{gap.first}, {gap.end})",
            ),
        ),
        advice=(
            "Find out why the worker was away or behind for longer than the topic is kept.",
            "Raise retention.ms of the topic, or add partitions and workers.",
            "Where the events still exist, send them again: what was counted before is recognised as duplicate.",
        ),
    )
