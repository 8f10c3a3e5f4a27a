"""Incidents as alerts: what, since when, how sure, who is affected, what changed just before, what to do. In words for a tired human."""

from __future__ import annotations

import math
from collections.abc import Sequence

from leadline.alert import Alert, ChangeNote, Evidence, Scope
from leadline.config import Rules
from leadline.durations import format_duration
from leadline.events import Change
from streams.judge.incident_words import summary_of
from streams.judge.incidents import EvidenceRow, Incident, Life, Where
from streams.rules.evaluate import Evaluator

NAMES = {
    "pipeline_fingerprint": "features come from a pipeline that the baseline does not know",
    "runtime_version": "a library's version is new",
    "refitted_scaler": "standardised again before the model: a re-fitted scaler",
    "embedding_norm_shift": "embeddings grew or shrank",
    "js_divergence": "distribution shifted",
    "ks": "distribution shifted",
    "l_infinity": "one category's share moved",
    "multivariate_drift": "features no longer move together",
    "layer_nan": "NaN in a layer",
    "layer_inf": "infinity in a layer",
    "layer_shift": "a layer's activations moved",
    "predicted_share": "is answered more or less often",
    "predicted_positive_rate": "share of positive answers moved",
    "entropy_spread": "answers' certainty spreads far wider",
    "confidence_shift": "confidence moved",
    "latency_shift": "latency rose",
    "resource_growth": "a request takes more of it",
    "traffic_share": "share of traffic changed",
    "psi": "distribution shifted",
    "null_rate": "nulls changed",
    "invalid_rate": "invalid values",
    "new_category_rate": "unknown categories",
    "mean_shift": "mean moved",
    "absent_rate": "feature is absent",
    "missing_rate": "is no longer stated",
    "extra_feature_rate": "unknown features",
    "out_of_distribution_rate": "rows far outside of training",
    "output_collapse": "answers collapsed to one value",
    "latency_over_slo": "latency over its SLO",
    "adwin": "mean changed",
    "edetector": "mean moved away from training",
    "page_hinkley": "mean moved away from training",
    "auc": "AUC dropped",
    "accuracy": "accuracy dropped",
    "false_negative_rate": "false negatives rose",
    "label_rate": "label rate moved",
    "ece": "calibration is off",
    "mae": "error grew",
    "realised_minus_estimated": "outcomes differ from what these scores promised",
    "precision": "precision dropped",
    "recall": "recall dropped",
    "f1": "F1 dropped",
    "average_precision": "average precision dropped",
    "log_loss": "log loss rose",
    "brier": "Brier score rose",
    "macro_f1": "macro F1 dropped",
    "rmse": "root mean square error grew",
    "bias": "errors lean to one side",
    "r2": "R2 dropped",
    "business_lift": "business value moved",
    "business_lift_control": "business value differs from the control group's",
    "demographic_parity_difference": "groups are selected at different rates",
    "true_positive_rate_difference": "groups differ in true positive rate",
    "false_positive_rate_difference": "groups differ in false positive rate",
    "calibration_difference": "scores mean different things for different groups",
    "label_definition": "definition of the label changed",
    "label_coverage": "labels stopped coming",
}
ADVICE = {
    "pipeline_fingerprint": "Was the feature pipeline released without the model? Compare it with the one of the training.",
    "runtime_version": "Compare the service's environment with the training's: numbers may differ between versions.",
    "refitted_scaler": "A preprocessing step was fitted on live data, or runs twice: load the one trained with the model.",
    "embedding_norm_shift": "Look for another encoder, or a normalisation that went missing.",
    "l_infinity": "One value came or went: look at the source that delivers it.",
    "multivariate_drift": "No single feature may have changed: look for features joined from the wrong row, or delivered with a delay.",
    "layer_nan": "Outputs of this layer are no numbers: take the version out of traffic, look at its weights and inputs.",
    "layer_inf": "Outputs of this layer overflow: look at half precision, weights and inputs.",
    "layer_shift": "Weights or inputs of this layer changed: compare with the version before.",
    "predicted_positive_rate": "Was the threshold changed, or the population?",
    "latency_shift": "Look at the service: saturation, a larger model, a slow feature store.",
    "resource_growth": "Look at what the last release loads for each request.",
    "traffic_share": "Ask who sends this segment's requests: an outage upstream, a routing change, or a value that is now named otherwise?",
    "absent_rate": "Look for a renamed or dropped column in the feature pipeline's last release.",
    "missing_rate": "Look at the last release of the service that publishes: what it no longer states is no longer watched.",
    "extra_feature_rate": "Compare the published feature names with the training schema: one may have been renamed.",
    "null_rate": "Ask the owner of this feature's source: it stopped delivering, or a join lost its rows.",
    "invalid_rate": "The type of this feature changed: look at the last change of its producer.",
    "new_category_rate": "A category that training never saw: was a code list changed, or a new site added?",
    "psi": "Compare the feature's histogram with the reference: new population, or a changed computation upstream?",
    "mean_shift": "A mean that jumps by whole standard deviations is rarely the world: check units and the scaler's fit.",
    "out_of_distribution_rate": "Look at the rows themselves: many features at once point to the pipeline, one to its source.",
    "output_collapse": "The model answers almost the same for everyone: check its inputs and the loaded artefact.",
    "latency_over_slo": "Look at the service: saturation, a larger model, a slow feature store.",
    "adwin": "The score changed against its own recent past: look for a release or a new population.",
    "edetector": "Single values say so, one after another: look at the subject's recent values and at the last release.",
    "page_hinkley": "Single values say so, without a false-alarm guarantee: look at the subject's recent values.",
    "auc": "Where no data signal stands beside this, the relation of inputs and outcome changed: consider retraining.",
    "accuracy": "Compare the confusion counts with the reference's; consider rolling back the last change.",
    "false_negative_rate": "Positives are missed: consider a lower threshold until the cause is known.",
    "label_rate": "Did the definition of the label change, or who gets labelled?",
    "ece": "Scores no longer mean probabilities: recalibrate, after the cause is known.",
    "mae": "Errors grew against training: look for drift in the inputs first.",
    "realised_minus_estimated": "The same scores now come with other outcomes: the concept drifted, or the label changed its meaning.",
    "precision": "More of what is flagged is harmless: raise the threshold until the cause is known.",
    "recall": "Positives are missed: consider a lower threshold until the cause is known.",
    "average_precision": "The ranking among the likely positives got worse, at the same share of positives: look at the inputs first.",
    "log_loss": "Look for confident mistakes: a few of them weigh as much as a thousand ordinary rows.",
    "macro_f1": "Compare precision and recall of each class: one class often explains it.",
    "rmse": "Look for single large errors first, then for drift in the inputs.",
    "bias": "Errors lean to one side: look for a unit or a level that changed, then recalibrate.",
    "r2": "Look whether errors grew or the labels only spread less.",
    "business_lift": "Against the reference the calendar counts too: compare with a control group where there is one.",
    "business_lift_control": "Same time, same traffic: the treatment itself is the first suspect.",
    "label_definition": "Labels name a new version of their definition: compare only figures of one version, or build a new reference.",
    "label_coverage": "Look at the producer of labels: figures of outcomes rest on fewer rows than they should.",
}
NAMED_BY_DETAIL = frozenset({"refitted_scaler", "pipeline_fingerprint", "runtime_version"})
CHANGE_WINDOW_S = 86_400.0
UNDOABLE = ("deploy", "rollback", "feature_pipeline", "schema", "traffic")
DIRECTED = {
    "null_rate": ("more nulls", "fewer nulls"),
    "mean_shift": ("mean rose", "mean fell"),
    "label_rate": ("label rate rose", "label rate fell"),
    "traffic_share": ("share of the traffic rose", "share of the traffic fell"),
    "predicted_positive_rate": ("more positive answers", "fewer positive answers"),
}


def alert_of(
    incident: Incident,
    life: Life,
    when: float,
    changes: Sequence[Change],
    rules: Rules,
    evaluator: Evaluator,
    learned: bool,
) -> Alert:
    """The message about an incident at this moment. Its id is the incident's and the number of the message."""
    rows = sorted(incident.evidence, key=lambda row: row.finding.log10_p)
    primary = primary_row(incident)
    before = changes_before(incident, changes)
    return Alert(
        alert_id=f"{incident.id}-{incident.messages}",
        incident_id=incident.id,
        life=life,
        severity=incident.severity,
        peak_severity=incident.peak,
        model_id=incident.model_id,
        scope=scope_of(incident.where, incident.share),
        signal=incident.signal,
        subject=incident.subject,
        layer=incident.layer,
        title=title_of(incident),
        summary=summary_of(incident, primary, life, when),
        onset_at=incident.onset_at,
        onset_low=incident.onset_low,
        onset_high=incident.onset_high,
        opened_at=incident.opened_at,
        raised_at=when,
        resolved_at=incident.resolved_at,
        value=_number(incident.value),
        reference=_number(incident.reference),
        n=incident.n,
        noise_floor=_number(primary.finding.floor) if primary else None,
        evidence=tuple(_evidence(row) for row in rows[:20]),
        false_alarm_budget=f"at most {rules.false_alarms_per_month:g} a month for this model",
        changes_before=before,
        advice=advice_of(incident, before) if life != "resolved" else (),
        channels=rules.channels,
        baseline="learned" if learned else "reference",
    )


def primary_row(incident: Incident) -> EvidenceRow | None:
    return incident.holds((incident.where, incident.signal, incident.subject)) or (
        incident.evidence[0] if incident.evidence else None
    )


def scope_of(where: Where, share: float | None) -> Scope:
    return Scope(
        model_version=where.version,
        stage=where.stage if where.stage != "live" else None,
        segment=where.segment,
        share_of_traffic=min(max(share, 0.0), 1.0) if share is not None else None,
    )


def title_of(incident: Incident) -> str:
    """One line: model, what, where."""
    words = NAMES.get(incident.signal, incident.signal)
    if incident.signal in DIRECTED:
        words = DIRECTED[incident.signal][0 if incident.value >= incident.reference else 1]
    if incident.signal == "traffic_share" and incident.value == 0:
        words = "no traffic any more"
    row = incident.holds((incident.where, incident.signal, incident.subject))
    detail = row.finding.detail if row is not None else ""
    if detail.startswith("renamed "):
        return f"{incident.model_id}: feature {detail} ({scope_of(incident.where, None)})"
    if incident.signal in NAMED_BY_DETAIL and detail:
        words = f"{detail}: {words}"
    subject = f"{incident.subject}: " if incident.subject else ""
    scope = str(scope_of(incident.where, None))
    return f"{incident.model_id}: {subject}{words} ({scope})"


def advice_of(incident: Incident, before: Sequence[ChangeNote]) -> tuple[str, ...]:
    """What to do: first about what people did just before, then about the signal."""
    found = []
    for change in before:
        version = incident.where.version
        if change.kind in UNDOABLE and (version is None or change.version in (None, version)):
            gap = format_duration(abs(incident.onset_at - change.timestamp))
            side = "before" if change.timestamp <= incident.onset_at else "after"
            which = f" of version {change.version}" if change.version else ""
            found.append(
                f"The {change.kind.replace('_', ' ')}{which} came {gap} {side} the onset: look there first, or take it back."
            )
            break
    if incident.signal in ADVICE:
        found.append(ADVICE[incident.signal])
    return tuple(found)


def changes_before(incident: Incident, changes: Sequence[Change]) -> tuple[ChangeNote, ...]:
    """Changes of the day before the onset, and up to the opening: the last three, latest first."""
    near = [
        change
        for change in changes
        if incident.onset_low - CHANGE_WINDOW_S <= float(change.timestamp) <= incident.opened_at
    ]
    return tuple(
        ChangeNote(kind=change.kind, timestamp=float(change.timestamp), version=change.version, note=change.note)
        for change in reversed(near[-3:])
    )


def _evidence(row: EvidenceRow) -> Evidence:
    finding = row.finding
    return Evidence(
        signal=finding.signal,
        subject=finding.subject,
        layer=finding.layer,
        value=_number(finding.value),
        reference=_number(finding.reference),
        n=finding.n,
        noise_floor=_number(finding.floor),
        threshold=_number(finding.threshold),
        log10_p=_number(finding.log10_p),
        design_effect=finding.design_effect,
        span_s=row.end - row.start,
        scope=scope_of(row.where, None),
        detail=finding.detail or None,
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
