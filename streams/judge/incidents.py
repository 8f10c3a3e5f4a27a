"""Incidents: findings that belong together, with one life. Pure: time is event time in seconds, given.

One fault lights many (signal, cell) pairs. The incident is named by the most causal of them (schema before data before model before
outcome), its scope is the smallest cell that explains the rest, and what else fires while it is open is its evidence.
"""

from __future__ import annotations

import hashlib
from typing import Literal, NamedTuple

import msgspec

from leadline.alert import Layer
from streams.rules.finding import Finding

LAYERS: dict[str, int] = {"operation": 0, "schema": 1, "data": 2, "model": 3, "outcome": 4}
SPECIFIC = {
    "pipeline_fingerprint": 2,
    "runtime_version": 3,
    "refitted_scaler": 1,
    "embedding_norm_shift": 3,
    "js_divergence": 5,
    "ks": 5,
    "l_infinity": 4,
    "multivariate_drift": 7,
    "layer_nan": 0,
    "layer_inf": 1,
    "layer_shift": 4,
    "predicted_share": 5,
    "predicted_positive_rate": 5,
    "entropy_spread": 5,
    "confidence_shift": 5,
    "latency_shift": 6,
    "resource_growth": 7,
    "traffic_share": 0,
    "absent_rate": 0,
    "extra_feature_rate": 1,
    "missing_rate": 4,
    "null_rate": 2,
    "invalid_rate": 2,
    "new_category_rate": 2,
    "mean_shift": 4,
    "psi": 3,
    "out_of_distribution_rate": 6,
    "output_collapse": 2,
    "adwin": 5,
    "edetector": 5,
    "page_hinkley": 6,
    "latency_over_slo": 6,
    "auc": 2,
    "realised_minus_estimated": 3,
    "false_negative_rate": 5,
    "label_rate": 4,
    "accuracy": 3,
    "ece": 6,
    "mae": 2,
    "precision": 4,
    "recall": 5,
    "f1": 5,
    "average_precision": 4,
    "log_loss": 6,
    "brier": 6,
    "macro_f1": 4,
    "rmse": 3,
    "bias": 3,
    "r2": 5,
    "business_lift": 7,
    "business_lift_control": 7,
    "demographic_parity_difference": 7,
    "true_positive_rate_difference": 7,
    "false_positive_rate_difference": 7,
    "calibration_difference": 8,
    "label_definition": 0,
    "label_coverage": 0,
}
MAX_EVIDENCE = 60
SEQUENTIAL = frozenset({"adwin", "edetector", "page_hinkley"})
"""Signals of single values: no span of counts shows them again."""
BETWEEN_CELLS = frozenset(
    {
        "demographic_parity_difference",
        "true_positive_rate_difference",
        "false_positive_rate_difference",
        "calibration_difference",
        "business_lift_control",
    }
)
SILENT_WHEN_OVER = SEQUENTIAL | BETWEEN_CELLS | {"label_coverage", "label_definition"}
"""Signals that no span of one cell's counts shows again: they are over when they have not fired for a while."""
ALONE = frozenset({"label_coverage", "missing_rate"})
"""Signals that are neither another fault's consequence nor its cause."""
TRAFFIC_SHARE = "traffic_share"
UNSPANNED = SILENT_WHEN_OVER | {TRAFFIC_SHARE}
"""Signals whose scope, onset and end are not to be had from one cell's counts and the reference."""

Life = Literal["open", "worse", "better", "resolved"]
Ended = Literal["recovered", "no_more_traffic"]
# Signals that are the same news of one subject: its values are distributed in another way.
DISTRIBUTION = frozenset({"psi", "mean_shift", "js_divergence", "ks", "l_infinity"}) | SEQUENTIAL


class Where(NamedTuple):
    """A cell of one model as rules see it: None is every version, or all traffic."""

    version: str | None
    stage: str
    segment: str | None


class Firing(NamedTuple):
    """A finding with where and over which span it was found; times are epoch seconds."""

    where: Where
    finding: Finding
    start: float
    end: float
    look: tuple[int, int, int] = (0, 1, 0)
    """(level, blocks, last block) of the span: the same span of another cell is found by it."""
    opens: bool = True
    """Whether it may open an incident: else it is evidence of those that others opened."""

    @property
    def key(self) -> tuple[Where, str, str | None]:
        return (self.where, self.finding.signal, self.finding.subject)

    @property
    def rank(self) -> tuple[int, int, float]:
        """Most causal first, then the surest."""
        return (LAYERS[self.finding.layer], SPECIFIC.get(self.finding.signal, 9), self.finding.log10_p)


class EvidenceRow(msgspec.Struct):
    """One (cell, signal, subject) of an incident: as first and as last seen."""

    where: Where
    finding: Finding
    start: float
    end: float
    first_end: float
    first_n: int
    told: float = 0.0
    """The strength that people know of: what is twice that later is worth a word."""

    @property
    def key(self) -> tuple[Where, str, str | None]:
        return (self.where, self.finding.signal, self.finding.subject)


class Incident(msgspec.Struct, dict=True):
    """One fault and its life."""

    id: str
    model_id: str
    where: Where
    signal: str
    subject: str | None
    layer: Layer
    severity: Literal["warn", "critical"]
    opened_at: float
    onset_at: float
    onset_low: float
    onset_high: float
    span_s: float
    value: float
    reference: float
    n: int
    needed: int
    evidence: list[EvidenceRow]
    quiet_since: float | None = None
    quiet_from: float = 0.0
    next_check: int = 0
    resolved_at: float | None = None
    ended: Ended = "recovered"
    messages: int = 0
    share: float | None = None
    layers: list[Layer] = []
    """Every layer it has been seen in."""
    peak: Literal["warn", "critical"] = "warn"

    def holds(self, key: tuple[Where, str, str | None]) -> EvidenceRow | None:
        """Its evidence of this (cell, signal, subject). A judge asks hundreds of thousands of times: rows are found by an index."""
        rows: dict[tuple[Where, str, str | None], EvidenceRow] | None = self.__dict__.get("rows")
        if rows is None or len(rows) != len(self.evidence):
            rows = self.__dict__["rows"] = {row.key: row for row in reversed(self.evidence)}
        return rows.get(key)

    def drop(self, row: EvidenceRow) -> None:
        """Takes a row out of the evidence."""
        self.evidence.remove(row)
        self.__dict__.pop("rows", None)


def incident_id(model_id: str, where: Where, signal: str, subject: str | None, opened_at: float) -> str:
    """Stable: the same log opens the same incident under the same id."""
    text = "\x1f".join(
        [model_id, where.version or "", where.stage, where.segment or "", signal, subject or "", f"{opened_at:.3f}"]
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def intersects(one: Where, other: Where) -> bool:
    """Whether two cells can share rows: values of different segment names may meet, two values of one name cannot."""
    if one.version is not None and other.version is not None and one.version != other.version:
        return False
    if (one.stage == "shadow") != (other.stage == "shadow"):
        return False
    if one.segment is None or other.segment is None or one.segment == other.segment:
        return True
    return one.segment.partition("=")[0] != other.segment.partition("=")[0]


def evidence_of(firing: Firing) -> EvidenceRow:
    finding = firing.finding
    return EvidenceRow(firing.where, finding, firing.start, firing.end, firing.end, finding.n, finding.strength)


def same_news(one: str, other: str) -> bool:
    """Whether two signals of one subject say the same of it."""
    return one == other or (one in DISTRIBUTION and other in DISTRIBUTION)


def apart(one: str, other: str) -> bool:
    """Whether two signals never belong to one fault."""
    return one != other and not ALONE.isdisjoint((one, other))


def belongs(firing: Firing, incident: Incident, label_delay_s: float) -> bool:
    """Whether a new firing is certainly the same fault as an open incident: by what it is about, or by the time that its span holds.

    It is where it says the same of the same subject, or where its span reaches back to the time when the incident began; labels of
    that time come later by their delay. A span that begins after that is news, unless its rows were so all along: `News.is_same`.
    """
    finding = firing.finding
    if apart(finding.signal, incident.signal):
        return False
    if finding.signal == "label_coverage":
        return incident.where.version in (None, firing.where.version)
    if not intersects(firing.where, incident.where):
        # Segments of other names hold the same rows; a cell that shares none can still be a parent's other half.
        return (
            finding.subject == incident.subject
            and same_news(finding.signal, incident.signal)
            and (finding.subject is not None or finding.signal == incident.signal)
            and firing.start <= incident.opened_at
        )
    if (
        finding.subject is not None
        and finding.subject == incident.subject
        and same_news(finding.signal, incident.signal)
    ):
        return True
    if finding.signal in SEQUENTIAL and any(
        finding.subject == row.finding.subject and same_news(finding.signal, row.finding.signal)
        for row in incident.evidence
    ):
        return True  # single values take longer to say what the incident's counts have said of the same subject
    outcome = finding.layer == "outcome"
    if incident.resolved_at is not None and LAYERS[finding.layer] > LAYERS[incident.layer]:
        # Labels of the faulty time go on coming after it: a span that holds some of them shows that fault, not another.
        return outcome and firing.start <= incident.resolved_at + label_delay_s
    slack = max(firing.end - firing.start, incident.span_s)
    late = label_delay_s if outcome and incident.layer != "outcome" else 0.0
    return firing.start <= incident.opened_at + slack / 8 + late


def severity_of(evidence: list[EvidenceRow]) -> Literal["warn", "critical"]:
    return "critical" if any(row.finding.severity == "critical" for row in evidence) else "warn"


def attach(incident: Incident, firing: Firing) -> Life | None:
    """Adds or refreshes evidence. Says whether the incident became worse: graver, or seen in a further layer."""
    before, finding, key = incident.severity, firing.finding, firing.key
    incident.__dict__.pop("leading", None)
    held = incident.holds(key)
    named = key == (incident.where, incident.signal, incident.subject)
    alike = False
    if held is not None:
        alike = held.finding.severity == finding.severity
        held.finding = finding if finding.detail else finding._replace(detail=held.finding.detail)
        held.start, held.end = firing.start, firing.end
    elif len(incident.evidence) < MAX_EVIDENCE:
        incident.evidence.append(evidence_of(firing))
    elif named:
        incident.drop(max(incident.evidence, key=lambda row: row.finding.log10_p))
        incident.evidence.append(evidence_of(firing))
    # Else it stays out: what came first knows how few rows sufficed, and a row that comes and goes would forget it.
    if named:
        incident.value, incident.reference, incident.n = finding.value, finding.reference, finding.n
    if not alike:
        incident.severity = severity_of(incident.evidence)
    if incident.severity == "critical":
        incident.peak = "critical"
    layer = finding.layer
    # Said once a layer, whether or not its row found a place: evidence is bounded.
    reached = bool(incident.layers) and layer not in incident.layers
    if layer not in incident.layers:
        incident.layers.append(layer)
    if before == "warn" and incident.severity == "critical":
        return "worse"
    return "worse" if reached and layer == "outcome" else None
