"""Which statistic each signal rests on: PSI, KS and the mean of a feature on its histogram, recall on the hits among the positives."""

from __future__ import annotations

from streams.counting.layout import Task
from streams.counting.tracked import Key
from streams.rules.finding import Finding

OF_VALUES = frozenset(
    {"psi", "js_divergence", "ks", "l_infinity", "mean_shift", "adwin", "edetector", "page_hinkley", "output_collapse"}
)
RESTS_ON = {
    "macro_f1": "accuracy",
    "brier": "squared_loss",
    "ece": "squared_loss",
    "log_loss": "log_loss",
    "mae": "absolute_error",
    "rmse": "squared_error",
    "r2": "squared_error",
    "bias": "error",
    "latency_shift": "latency_over_slo",
    "entropy_spread": "entropy",
    "business_lift": "value",
}
"""Signals that rest on a statistic of another name."""


def rests_on(finding: Finding, task: Task) -> Key:
    """The key of the statistic; one that nobody follows where nothing that is followed could say how far the signal varies."""
    signal, subject = finding.signal, finding.subject
    if signal in OF_VALUES and subject == "loss":
        return ("absolute_error", None) if task == "regression" else ("accuracy", None)
    if signal in OF_VALUES:
        return ("values", subject)
    if signal == "realised_minus_estimated":
        return {"label": ("label_rate", "label"), "accuracy": ("accuracy", None)}.get(str(subject), ("auc", None))
    if signal == "auc" and subject is not None:
        return ("accuracy", None)
    if signal == "predicted_share":
        return ("predicted_share", None)
    if signal == "business_lift":
        return ("value", subject)
    name = RESTS_ON.get(signal, signal)
    return (name, subject if name in (signal, "latency_over_slo") else None)
