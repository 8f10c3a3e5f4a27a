"""An incident's figures in sentences, for somebody who was asleep a minute ago: percents as percents, distances with what matters."""

from __future__ import annotations

import math

from leadline.durations import format_duration
from streams.judge.incidents import EvidenceRow, Incident, Life
from streams.rules.finding import Finding

SHARES = {
    "null_rate": "of the values are null",
    "invalid_rate": "of the values are invalid",
    "new_category_rate": "of the values are categories that training never saw",
    "absent_rate": "of the rows lack the feature",
    "missing_rate": "of the rows do not state it",
    "extra_feature_rate": "of the rows bring a feature that training does not know",
    "out_of_distribution_rate": "of the rows lie far outside of training",
    "output_collapse": "of the answers are the same",
    "latency_over_slo": "of the answers are slower than the SLO",
    "traffic_share": "of the traffic",
    "accuracy": "of the answers are right",
    "false_negative_rate": "of the positives are missed",
    "precision": "of what is flagged is positive",
    "recall": "of the positives are found",
    "label_rate": "of the labels are of this class",
    "realised_minus_estimated": "is what outcomes say",
    "predicted_positive_rate": "of the answers are positive",
    "predicted_share": "of the answers are this class",
    "layer_nan": "of the rows have NaN in the layer",
    "layer_inf": "of the rows have infinity in the layer",
    "latency_shift": "of the answers are slower than the baseline's p99",
    "pipeline_fingerprint": "of the rows come from a pipeline that the baseline does not know",
    "runtime_version": "of the rows come from a library's version that the baseline does not know",
}
MEANS = {
    "embedding_norm_shift": "the mean norm of embeddings",
    "confidence_shift": "the mean confidence",
    "layer_shift": "the mean of the layer's activations",
    "resource_growth": "the mean of the resource",
    "multivariate_drift": "what the main directions leave unexplained",
    "entropy_spread": "the spread of the answers' entropy",
}
EXPECTED = {
    "realised_minus_estimated": "these scores promised {}",
    "traffic_share": "{} at this time of the days before",
    "latency_over_slo": "the SLO allows {}",
    "missing_rate": "{} in the baseline",
}
DISTANCES = {"psi": "PSI", "js_divergence": "Jensen-Shannon divergence", "ks": "Kolmogorov-Smirnov distance"}
CALLED = {
    "auc": "AUC",
    "ece": "calibration error",
    "mae": "mean absolute error",
    "rmse": "root mean square error",
    "r2": "R2",
    "f1": "F1",
}
NAMED = 3


def figure_of(finding: Finding) -> str:
    """Value against reference, in the signal's own unit."""
    signal, value, reference = finding.signal, finding.value, finding.reference
    if signal == "realised_minus_estimated" and finding.subject != "label":
        name = CALLED.get(finding.subject or "", finding.subject)
        return f"{name} is {_number(value)} by the outcomes, {_number(reference)} by what these scores promised"
    if signal in SHARES and math.isfinite(value):
        expected = EXPECTED.get(signal, "{} in the reference").format(_percent(reference))
        return f"{_percent(value)} {SHARES[signal]}, {expected}"
    if signal == "refitted_scaler":
        return f"near mean 0 and deviation 1, where the reference is far from it: {finding.detail}"
    if signal in MEANS:
        return f"{MEANS[signal]} is {_number(value)}, {_number(reference)} in the baseline"
    if signal in DISTANCES:
        return f"{DISTANCES[signal]} is {_number(value)}: 0 is no change, {_number(finding.threshold)} would matter"
    usual = "before" if signal == "adwin" else "in the reference"
    return f"{CALLED.get(signal, signal.replace('_', ' '))} is {_number(value)}, {_number(reference)} {usual}"


def summary_of(incident: Incident, row: EvidenceRow | None, life: Life, when: float) -> str:
    """Two to four sentences: the figure with its n and how sure it is, what moved with it, how far it reaches; of its end, why."""
    if row is None:
        return ""
    finding = row.finding._replace(value=incident.value, reference=incident.reference, n=incident.n)
    rows = f"on {incident.n:,} rows in {format_duration(row.end - row.start)}"
    text = [f"{_capital(figure_of(finding))} ({rows}{_sure(finding)})."]
    if life == "resolved":
        text[0] = "Last seen: " + text[0]
    if life == "worse" and incident.layer != "outcome":
        text += [f"It has reached the outcomes: {figure_of(found)}." for found in _outcomes(incident)[:1]]
    if finding.detail and finding.signal != "refitted_scaler":
        text.append(f"In detail: {finding.detail}.")
    if moved := _moved_with(incident):
        text.append(f"With it moved {moved}.")
    if incident.share is not None and incident.share < 0.995:
        text.append(f"Affected: {incident.share:.0%} of the traffic.")
    if life == "resolved":
        lasted = format_duration(max(when - incident.onset_at, 0.0))
        text.append(
            f"Back to normal after {lasted}."
            if incident.ended == "recovered"
            else "No row of it has come since: closed because nothing is left to judge, not because it was seen to recover."
        )
    return " ".join(text)


def _outcomes(incident: Incident) -> list[Finding]:
    found = [row.finding for row in incident.evidence if row.finding.layer == "outcome"]
    return sorted(found, key=lambda finding: finding.log10_p)


def _moved_with(incident: Incident) -> str:
    """Other subjects, surest first: signals of the same one say the same again."""
    names: dict[str, None] = {}
    for row in sorted(incident.evidence, key=lambda row: row.finding.log10_p):
        name = row.finding.subject or row.finding.signal.replace("_", " ")
        if row.finding.key != (incident.signal, incident.subject) and name not in (incident.subject, incident.signal):
            names.setdefault(name)
    listed = list(names)
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return ", ".join(listed[:NAMED]) + more


def _sure(finding: Finding) -> str:
    if not math.isfinite(finding.log10_p) or finding.log10_p > -1:
        return ""
    odds = -finding.log10_p
    return f"; noise alone does this once in 10^{odds:.0f} looks" if odds < 300 else "; noise alone never does this"


def _percent(value: float) -> str:
    if not math.isfinite(value):
        return "an unknown share"
    return f"{value:.0%}" if value in (0.0, 1.0) or 0.1 <= value <= 0.9 else f"{100 * value:.2g}%"


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "unknown"


def _capital(text: str) -> str:
    return text if text.startswith("of ") else text[:1].upper() + text[1:]
