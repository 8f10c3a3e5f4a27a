"""The alert for keys in partitions where Java's partitioner does not put them: some producer uses another one."""

from __future__ import annotations

import time

from leadline.alert import Alert, Evidence, Scope
from streams.observe.partitioner import Finding
from streams.worker.gap_alert import EVERY_MODEL

SIGNAL = "misplaced_keys"


def key_alert(finding: Finding, now: float | None = None) -> Alert:
    """One incident for each topic, of a stable id, opened and resolved once."""
    when = time.time() if now is None else now
    incident = f"{SIGNAL}-{finding.topic}-{finding.number}"
    example = ""
    if finding.example is not None:
        partition, offset, belongs = finding.example
        example = f" For example {finding.topic}/{partition} offset {offset}: its key belongs in partition {belongs}."
    return Alert(
        alert_id=f"{incident}-{'open' if finding.begun else 'resolved'}",
        incident_id=incident,
        life="open" if finding.begun else "resolved",
        severity="critical" if finding.begun else "info",
        peak_severity="critical",
        model_id=EVERY_MODEL,
        scope=Scope(),
        signal=SIGNAL,
        subject=finding.topic,
        layer="operation",
        title=f"{finding.share:.1%} of the keys of {finding.topic} lie in wrong partitions"
        if finding.begun
        else f"keys of {finding.topic} lie in their partitions again",
        summary=f"A producer of {finding.topic} uses another partitioner than Java's, or sends no keys: {finding.misplaced:,} keys so far "
        f"do not lie in the partition of their murmur2 hash.{example} A label meets its prediction only in the same partition: "
        "of such a producer, labels show as orphan and predictions as expired, unless both topics are written alike.",
        onset_at=finding.since,
        opened_at=finding.since,
        raised_at=when,
        resolved_at=None if finding.begun else when,
        value=finding.share,
        reference=0.0,
        n=finding.n,
        evidence=(
            Evidence(
                signal=SIGNAL,
                subject=finding.topic,
                layer="operation",
                value=finding.share,
                reference=0.0,
                n=finding.n,
                span_s=0.0,
                detail=f"{finding.misplaced} misplaced keys.{example}",
            ),
        ),
        advice=(
            "Set partitioner=murmur2_random in every client on librdkafka (confluent-kafka, node-rdkafka, kcat); leave Java's unset.",
            "The key is the request id in UTF-8 with nothing around it; docs/events.md lists clients and how to check one.",
        )
        if finding.begun
        else (),
    )
