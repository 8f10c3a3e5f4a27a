"""A seeded log of predictions and labels with everything that a log can hold, and what a dictionary says about it.

The oracle knows nothing of the product's code. It reads the log as it stands in the topics (each request's events lie in one
partition, so in order) and says what every count must be, whatever order the two topics were read in.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

DELAY_WINDOW_S = 3600.0
EARLY_TOLERANCE_S = 300.0
STEP_S = 0.5  # event time between two predictions
MODELS = ("alpha", "beta", "gamma")
SITES = ("north", "south")


class Event(NamedTuple):
    """One message to send. `source` is predictions or labels; `reason` what it must be rejected for, empty if it must not."""

    source: str
    key: bytes
    value: bytes | None
    reason: str


@dataclass
class Plan:
    """Events in order of sending, and by their bytes why a message must be rejected."""

    events: list[Event]
    reasons: dict[tuple[str, bytes | None], str]


def plan(seed: int, requests: int, begin: float) -> Plan:
    """About 1.9 events a request. `begin`: event time of the first, epoch seconds, some days before now."""
    dice = random.Random(seed)
    placed: list[tuple[float, int, Event]] = []

    def put(place: float, source: str, key: str, value: bytes | None, reason: str = "") -> None:
        placed.append((place, len(placed), Event(source, key.encode(), value, reason)))

    for number in range(requests):
        name = f"r{seed}-{number}"
        time = begin + number * STEP_S
        score = dice.betavariate(2, 3)
        truth = int(dice.random() < score)
        if dice.random() < 0.97:
            put(number, "predictions", name, prediction(dice, name, number / requests, time, score))
        if dice.random() < 0.04:
            again = time if dice.random() < 0.5 else time + 1.0
            put(
                number + dice.uniform(0, 2000),
                "predictions",
                name,
                prediction(dice, name, number / requests, again, score),
            )
        for place, delay, label in labels(dice, number, truth):
            put(place, "labels", name, text(request_id=name, label=label, timestamp=time + delay))
        if dice.random() < 0.015:
            source = dice.choice(["predictions", "labels"])
            value, reason = bad(dice, f"bad{seed}-{number}", time)
            put(number, source, f"bad{seed}-{number}", value, reason)
    placed.sort()
    events = [event for _, _, event in placed]
    return Plan(events, {(event.source, event.value): event.reason for event in events if event.reason})


def text(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def prediction(dice: random.Random, name: str, progress: float, time: float, score: float) -> bytes:
    model = dice.choice(MODELS)
    broken = model == "alpha" and 0.25 < progress < 0.55  # an incident, so that there are alerts to lose
    return text(
        request_id=name,
        model_id=model,
        model_version="1.0" if progress < 0.5 or dice.random() < 0.5 else "1.1",
        timestamp=time,
        score=score,
        features={"age": None if broken and dice.random() < 0.6 else dice.gauss(50, 10), "ward": dice.choice("abc")},
        segments={"site": dice.choice(SITES)},
    )


def labels(dice: random.Random, number: int, truth: int) -> Iterable[tuple[float, float, int]]:
    """(place in the log, seconds after the prediction, label) of one request's labels, in their order."""
    kind = dice.random()
    if kind < 0.15:
        return
    if kind < 0.20:  # before its prediction in the log
        place, delay = number - dice.uniform(1, 300), dice.uniform(-EARLY_TOLERANCE_S + 5, 100)
    elif kind < 0.24:
        place, delay = number + dice.uniform(1, 800), DELAY_WINDOW_S + dice.uniform(10, 900)
    elif kind < 0.27:
        place, delay = number + dice.uniform(1, 800), -EARLY_TOLERANCE_S - dice.uniform(10, 200)
    else:
        place, delay = number + dice.uniform(1, 800), dice.uniform(1, DELAY_WINDOW_S - 600)
    yield place, delay, truth
    while dice.random() < 0.12:  # comes again: the same, another one, or too late
        place += dice.uniform(1, 400)
        delay = max(delay, 0) + dice.uniform(1, 200) if dice.random() < 0.8 else DELAY_WINDOW_S + 50
        yield place, delay, truth if dice.random() < 0.4 else 1 - truth


def bad(dice: random.Random, name: str, time: float) -> tuple[bytes | None, str]:
    """A message that must be rejected, with its reason; its text is its own, so that the log shows which one it is."""
    good = {
        "request_id": name,
        "model_id": "alpha",
        "model_version": "1.0",
        "score": 0.5,
        "label": 1,
        "timestamp": time,
    }
    broken: list[tuple[bytes | None, str]] = [
        (b'{"request_id": "%s", ' % name.encode(), "malformed_json"),
        (b'"%s"' % name.encode(), "not_an_object"),
        (b'{"request_id": "%s\xff"}' % name.encode(), "invalid_utf8"),
        (json.dumps({**good, "timestamp": int(time * 1e3)}).encode(), "timestamp_in_milliseconds"),
        (json.dumps({**good, "timestamp": -time}).encode(), "timestamp_negative"),
        (json.dumps({**good, "request_id": ""}).encode() + name.encode(), "malformed_json"),
        (json.dumps({"note": name}).encode(), "missing_field"),
        (json.dumps({**good, "score": float("nan"), "label": float("nan")}).encode(), "not_finite"),
    ]
    return dice.choice(broken)


@dataclass
class Truth:
    """What the log says. `counts` and `rejected` over everything, `models` by model."""

    counts: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    models: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in MODELS})


def count(
    log: Mapping[str, Iterable[tuple[bytes, bytes | None]]], reasons: Mapping[tuple[str, bytes | None], str]
) -> Truth:
    """The dictionary oracle over (key, value) of each source, every request's in order."""
    truth = Truth()
    first: dict[str, dict[str, Any]] = {}
    told: dict[str, list[dict[str, Any]]] = {}
    for source, messages in log.items():
        for _, value in messages:
            reason = reasons.get((source, value))
            if reason is not None:
                truth.rejected[reason] += 1
                continue
            event = json.loads(value or b"")
            if source == "labels":
                told.setdefault(event["request_id"], []).append(event)
                truth.counts["labels"] += 1
            elif event["request_id"] in first:
                truth.counts["duplicate_predictions"] += 1
                truth.models[event["model_id"]]["duplicate"] += 1
            else:
                first[event["request_id"]] = event
    for name, event in first.items():
        of_request = one(event, told.get(name, ()))
        truth.models[event["model_id"]] += of_request
    for of_model in truth.models.values():
        for name in ("joined", "late", "revised", "too_early"):
            truth.counts[name] += of_model[name]
        truth.counts["predictions"] += of_model["rows"]
        truth.counts["repeated_labels"] += of_model["repeated"]
        truth.counts["late_labels"] += of_model["late_labels"]
    truth.counts["orphan"] = sum(name not in first for name in told)
    return truth


def one(event: Mapping[str, Any], labels: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """A request's counts."""
    counts: Counter[str] = Counter(rows=1)
    current: int | None = None
    for label in labels:
        delay = label["timestamp"] - event["timestamp"]
        if delay > DELAY_WINDOW_S:
            counts["late_labels"] += 1
            counts["late"] = 1 if current is None else 0
        elif delay < -EARLY_TOLERANCE_S:
            counts["too_early"] = 1
        elif current == label["label"]:
            counts["repeated"] += 1
        else:
            if current is not None:
                counts["revised"] = 1
            current = label["label"]
            counts["late"] = 0
    if current is not None:
        counts["joined"] = 1
        counts[f"confusion{current}{int(event['score'] >= 0.5)}"] = 1
        counts["positive"] = current
    return counts
