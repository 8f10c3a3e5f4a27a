"""The demo's play: which failure comes when, and which alert tells of it. Pure; time is a value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from leadline.alert import Alert
from leadline.demo.failures import ConceptDrift, CovariateShift, Failure, NullSpike, RefittedScaler
from leadline.demo.hospital import MODEL_ID, Service

HEALTHY_S = 12.0  # nothing fails: whatever is reported here is a false alarm
FAILURE_S = 9.0
PAUSE_S = 11.0
TAIL_S = 3.0


@dataclass(frozen=True)
class Act:
    """One failure and what an alert must say to count as its report: the layer it is in and, where known, who and what."""

    failure: Failure
    layers: frozenset[str]
    subject: str | None = None
    version: str | None = None

    def told_by(self, alert: Alert) -> bool:
        """Whether the alert is about this failure, by its evidence: in time, layer, subject and version."""
        return (
            alert.life == "open"
            and alert.raised_at > self.failure.start
            and alert.layer in self.layers
            and (self.subject is None or alert.subject == self.subject)
            and (self.version is None or alert.scope.model_version == self.version)
        )


@dataclass(frozen=True)
class Outcome:
    """What became of one act. `delay_s` counts from the failure's first wrong row to the alert, in event time."""

    act: Act
    alert: Alert | None

    @property
    def delay_s(self) -> float | None:
        return self.alert.raised_at - self.act.failure.start if self.alert is not None else None


def acts(service: Service, began: float) -> tuple[Act, ...]:
    """Four failures, one after another, each over before the next begins."""

    starts = [began + HEALTHY_S + number * (FAILURE_S + PAUSE_S) for number in range(4)]
    first, second, third, fourth = ((start, start + FAILURE_S) for start in starts)
    seen = service.patients(began, began + HEALTHY_S)
    return (
        Act(CovariateShift(start=first[0], stop=first[1]), frozenset({"data"}), subject="age"),
        Act(
            RefittedScaler.fitted_on(seen, version="3.1.0", start=second[0], stop=second[1]),
            frozenset({"data", "schema"}),
            version="3.1.0",
        ),
        Act(NullSpike(start=third[0], stop=third[1]), frozenset({"data"}), subject="creatinine"),
        Act(ConceptDrift(start=fourth[0], stop=fourth[1]), frozenset({"outcome"})),
    )


def length_s(played: Sequence[Act], began: float) -> float:
    return played[-1].failure.stop + TAIL_S - began


def judge(played: Sequence[Act], alerts: Iterable[Alert]) -> tuple[list[Outcome], list[Alert]]:
    """The outcome of each act, and the alerts that opened an incident before the first failure."""
    opened = sorted((alert for alert in alerts if alert.life == "open"), key=lambda alert: alert.raised_at)
    outcomes = []
    for number, act in enumerate(played):
        until = played[number + 1].failure.start if number + 1 < len(played) else float("inf")
        told = next((alert for alert in opened if act.told_by(alert) and alert.raised_at <= until), None)
        outcomes.append(Outcome(act, told))
    return outcomes, [alert for alert in opened if alert.raised_at <= played[0].failure.start]


def configuration(reference: str, bootstrap_servers: str, redis_url: str) -> dict[str, Any]:
    """`leadline.yaml` of the demo: production's defaults on a clock that is sixty times faster."""
    return {
        "kafka": {"bootstrap_servers": bootstrap_servers, "session_timeout": "10s", "partitions": 2},
        "redis": {"url": redis_url},
        "join": {"delay_window": "60s", "early_tolerance": "1s"},
        "panes": {"pane": "1s", "longest_span": "64s", "idle_after": "5s"},
        "models": {MODEL_ID: {"reference": reference}},
    }
