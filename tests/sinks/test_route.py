"""Who is told: a decision for each sink, with the first filter that said no."""

from __future__ import annotations

from typing import Any

import pytest

from sinks.base import SinkConfig
from sinks.console import ConsoleConfig
from sinks.route import plan
from tests.sinks.samples import alert


def sink(name: str, **changes: Any) -> SinkConfig:
    return ConsoleConfig(name=name, **changes)


def reasons(what: Any, *sinks: SinkConfig) -> dict[str, str]:
    return {decision.sink: decision.reason for decision in plan(what, sinks)}


def routed(what: Any, *sinks: SinkConfig) -> list[str]:
    return [decision.sink for decision in plan(what, sinks) if decision.send]


def test_an_alert_without_channels_goes_where_no_channel_is_configured() -> None:
    assert reasons(alert(), sink("a"), sink("b", channels=("night",))) == {"a": "routed", "b": "channel"}


def test_an_alert_with_channels_goes_to_those_alone() -> None:
    told = alert(channels=("night", "audit"))
    sinks = [sink("a"), sink("b", channels=("night",)), sink("c", channels=("day", "audit"))]
    assert routed(told, *sinks) == ["b", "c"]


def test_the_name_of_a_sink_is_a_channel() -> None:
    assert routed(alert(channels=("pager",)), sink("a"), sink("pager", channels=("other",))) == ["pager"]


def test_a_star_takes_every_channel() -> None:
    archive = sink("archive", channels=("*",))
    assert routed(alert(channels=("night",)), archive, sink("n", channels=("night",))) == ["archive", "n"]
    assert routed(alert(), archive) == ["archive"]


def test_a_channel_that_nobody_knows_falls_back_to_default_instead_of_into_silence() -> None:
    assert reasons(alert(channels=("nihgt",)), sink("a"), sink("n", channels=("night",))) == {
        "a": "fallback",
        "n": "channel",
    }


def test_one_known_channel_is_enough_for_no_fallback() -> None:
    assert routed(alert(channels=("nihgt", "night")), sink("a"), sink("n", channels=("night",))) == ["n"]


@pytest.mark.parametrize(
    ("severity", "minimum", "send"),
    [
        ("info", "info", True),
        ("info", "warn", False),
        ("warn", "warn", True),
        ("warn", "critical", False),
        ("critical", "critical", True),
        ("critical", "info", True),
    ],
)
def test_the_minimum_severity(severity: str, minimum: str, send: bool) -> None:
    expected = "routed" if send else "severity"
    assert reasons(alert(severity=severity), sink("a", minimum_severity=minimum)) == {"a": expected}


@pytest.mark.parametrize("life", ["better", "resolved"])
def test_who_heard_of_the_worst_also_hears_of_the_end(life: str) -> None:
    pager = sink("pager", minimum_severity="critical")
    assert routed(alert(life=life, severity="warn", peak_severity="critical"), pager) == ["pager"]
    assert routed(alert(life=life, severity="warn"), pager) == []
    assert routed(alert(life="worse", severity="warn", peak_severity="critical"), pager) == []


@pytest.mark.parametrize(
    ("models", "send"),
    [(("*",), True), (("read*",), True), (("x", "readmission"), True), (("Read*",), False), ((), False)],
)
def test_models_are_globs_with_case(models: tuple[str, ...], send: bool) -> None:
    assert reasons(alert(), sink("a", models=models)) == {"a": "routed" if send else "model"}


def test_lives_can_be_left_out() -> None:
    quiet = sink("a", lives=("open", "resolved"))
    assert [routed(alert(life=life), quiet) for life in ("open", "worse", "better", "resolved")] == [
        ["a"],
        [],
        [],
        ["a"],
    ]


def test_the_plan_is_pure() -> None:
    sinks = (sink("a"), sink("b", minimum_severity="critical"))
    assert plan(alert(), sinks) == plan(alert(), sinks)
