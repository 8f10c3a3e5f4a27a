"""Which sink gets which alert: a pure function that says why.

An alert that names no channel is for the channel `default`. A sink takes the channels of its configuration and its own
name. A channel that no sink knows would lose the alert in silence, so an alert that names only such channels goes to
`default`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from leadline.alert import Alert, Severity
from sinks.base import SinkConfig

RouteReason = Literal["routed", "fallback", "channel", "severity", "model", "life"]
DEFAULT = "default"
EVERY = "*"
RANK: dict[Severity, int] = {"info": 0, "warn": 1, "critical": 2}


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether `sink` gets the alert. The reason of a no is the first filter that said it."""

    sink: str
    send: bool
    reason: RouteReason


def weight(alert: Alert) -> Severity:
    """The severity that counts for routing: whoever was told of an incident at its worst is also told that it eases or
    ends.
    """
    return alert.severity if alert.life in ("open", "worse") else alert.peak_severity or alert.severity


def wanted_channels(alert: Alert, sinks: Sequence[SinkConfig]) -> tuple[frozenset[str], bool]:
    """The alert's channels, and whether they are the fallback for channels that nobody knows."""
    named = frozenset(alert.channels) or frozenset({DEFAULT})
    known = {channel for sink in sinks for channel in (*sink.channels, sink.label)}
    if EVERY in known or named & (known | {DEFAULT}):
        return named, False
    return frozenset({DEFAULT}), True


def decide(alert: Alert, sink: SinkConfig, channels: frozenset[str], *, fallback: bool = False) -> Decision:
    """One sink's decision about one alert."""

    def no(reason: RouteReason) -> Decision:
        return Decision(sink.label, False, reason)

    if EVERY not in sink.channels and not channels & {*sink.channels, sink.label}:
        return no("channel")
    if RANK[weight(alert)] < RANK[sink.minimum_severity]:
        return no("severity")
    if not any(fnmatchcase(alert.model_id, pattern) for pattern in sink.models):
        return no("model")
    if alert.life not in sink.lives:
        return no("life")
    return Decision(sink.label, True, "fallback" if fallback else "routed")


def plan(alert: Alert, sinks: Sequence[SinkConfig]) -> tuple[Decision, ...]:
    """A decision for every sink, in the order of the configuration."""
    channels, fallback = wanted_channels(alert, sinks)
    return tuple(decide(alert, sink, channels, fallback=fallback) for sink in sinks)
