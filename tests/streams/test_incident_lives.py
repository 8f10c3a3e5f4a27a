"""Incidents from their opening to their end, on made-up minutes: one fault is one incident, and none hides the next."""

from __future__ import annotations

import pytest

from tests.streams.small_world import PANE_S, Play, flipped, moved, nulls, of_site, of_version, shift, slow, unsent

TWO = {"1": 0.6, "2": 0.4}
ONE = {"1": 1.0}


def test_one_fault_is_one_incident_that_ends_with_it() -> None:
    play = Play(1).panes(40).panes(40, shift("age", 15.0)).panes(60)
    (opened,) = play.lives("open")
    (resolved,) = play.lives("resolved")
    assert (opened.signal, opened.subject, str(opened.scope)) == ("psi", "age", "all traffic")
    assert resolved.incident_id == opened.incident_id
    assert "Back to normal" in resolved.summary
    assert not play.judge.incidents


def test_labels_that_turn_under_a_drift_that_stays_are_told() -> None:
    play = Play(2).panes(40).panes(90, shift("pulse", 25.0))
    assert [alert.subject for alert in play.lives("open")] == ["pulse"]
    play.panes(60, shift("pulse", 25.0), flipped(0.45))
    _, news = play.lives("open")
    assert news.layer == "outcome"
    play.panes(90, shift("pulse", 25.0))
    assert [alert.incident_id for alert in play.lives("resolved")] == [news.incident_id]
    assert [incident.subject for incident in play.judge.incidents] == ["pulse"]


def test_latency_that_rises_under_a_drift_that_stays_is_told() -> None:
    play = Play(3).panes(40).panes(60, shift("pulse", 25.0)).panes(20, shift("pulse", 25.0), slow(8.0))
    assert [alert.signal for alert in play.lives("open")] == ["psi", "latency_over_slo"]


def test_nulls_of_a_feature_that_has_drifted_long_ago_are_told() -> None:
    play = Play(4).panes(40).panes(60, shift("pulse", 25.0)).panes(40, shift("pulse", 25.0), nulls("pulse", 0.3))
    assert [(alert.signal, alert.subject) for alert in play.lives("open")][1:] == [("null_rate", "pulse")]


def test_a_drift_that_stays_is_told_again_when_it_is_much_stronger() -> None:
    play = Play(5).panes(40).panes(120, moved("ward", "d", 0.25))
    told = len(play.alerts)
    assert [alert.subject for alert in play.lives("open")] == ["ward"]
    play.panes(40, moved("ward", "d", 0.9))
    assert len(play.lives("open")) == 1
    # Once or twice: the new strength still fills the span when the first doubling is seen.
    assert [alert.life for alert in play.alerts[told:]].count("worse") in (1, 2)


@pytest.mark.parametrize("seed", range(3))
def test_a_drift_that_stays_the_same_says_nothing_more(seed: int) -> None:
    play = Play(10 + seed).panes(40).panes(50, shift("age", 14.0))
    told = len(play.alerts)
    play.panes(200, shift("age", 14.0))
    assert [alert.title for alert in play.alerts[told:]] == []


def test_outcomes_that_follow_from_a_drift_are_the_same_incident() -> None:
    # What the model sees is wrong, so its answers and their outcomes are: one fault, three layers.
    play = Play(6).panes(40).panes(60, shift("score", -0.25))
    assert len(play.lives("open")) == 1
    assert "outcome" in play.judge.incidents[0].layers


def test_a_version_that_nobody_serves_any_more_leaves_no_incident_open() -> None:
    play = Play(7, {"gone_after": 3600.0}).panes(40, versions=TWO)
    play.panes(30, of_version("2", shift("age", 20.0)), versions=TWO)
    (opened,) = play.lives("open")
    assert opened.scope.model_version == "2"
    last = play.now
    play.panes(50, versions=ONE)
    assert not play.lives("resolved")
    play.panes(20, versions=ONE)
    (resolved,) = play.lives("resolved")
    assert resolved.resolved_at == pytest.approx(last + 3600.0, abs=3 * PANE_S)
    assert "nothing is left to judge" in resolved.summary
    # The version comes back as it was: it is told again.
    play.panes(30, of_version("2", shift("age", 20.0)), versions=TWO)
    assert len(play.lives("open")) == 2


def test_an_incident_of_a_model_that_falls_silent_ends_at_its_own_time_whenever_that_is_noticed() -> None:
    ends = []
    for step in (1, 7, 500):
        play = Play(8, {"gone_after": 3600.0}).panes(40).panes(20, shift("age", 20.0))
        assert len(play.judge.incidents) == 1
        for pane in range(play.pane, play.pane + 600, step):
            if play.judge.due(pane):
                play.judge.advance(pane)
        ends += [alert.resolved_at for alert in play.judge.take_alerts() if alert.life == "resolved"]
    assert len(ends) == 3
    assert len(set(ends)) == 1


def test_traffic_that_pauses_for_less_than_the_configured_time_keeps_its_incident() -> None:
    play = Play(9, {"gone_after": None}).panes(40).panes(20, shift("age", 20.0))
    play.judge.advance(play.pane + 5000)
    assert len(play.judge.incidents) == 1


def test_the_next_fault_of_other_rows_is_another_incident() -> None:
    play = Play(11).panes(60).panes(80, of_site("north", shift("age", 25.0)))
    play.panes(60, of_site("north", shift("age", 25.0)), of_site("south", nulls("ward", 0.5)))
    assert [(alert.subject, alert.scope.segment) for alert in play.lives("open")] == [
        ("age", "site=north"),
        ("ward", "site=south"),
    ]


def test_a_site_that_vanishes_is_one_incident_of_that_site_until_it_is_back() -> None:
    play = Play(12, pane_s=900.0, longest_span_s=2 * 86_400.0).panes(2 * 96, rows=25)
    assert play.alerts == []
    play.panes(8 * 4, unsent("west"), rows=25)
    (opened,) = play.lives("open")
    assert (opened.signal, opened.layer, opened.scope.segment) == ("traffic_share", "operation", "site=west")
    assert opened.severity == "critical"
    assert opened.opened_at - play.now < 6 * 3600.0
    play.panes(8 * 4, rows=25)
    assert len(play.lives("open")) == 1
    assert [alert.incident_id for alert in play.lives("resolved")] == [opened.incident_id]


def test_alerts_are_for_the_channels_of_their_models_rules() -> None:
    play = Play(13, {"channels": ("night", "audit")}).panes(40).panes(10, slow(8.0))
    assert [alert.channels for alert in play.alerts] == [("night", "audit")]
