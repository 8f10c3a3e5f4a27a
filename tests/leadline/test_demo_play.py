"""The demo's play, fed to the core without a broker: what a person sees in two minutes, in seconds."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml

pytest.importorskip("sklearn", reason="the demo extra is not installed")

from leadline.alert import Alert
from leadline.config import parse_config
from leadline.demo import model as models
from leadline.demo.hospital import Rows, Service
from leadline.demo.scenario import Act, acts, configuration, judge, length_s
from streams.backtest.backtest import Backtest
from streams.core.stage import Record

BEGAN = 1_700_000_000.0
Played = tuple[tuple[Act, ...], list[Alert]]


def in_order(rows: Rows) -> Iterator[tuple[str, Record]]:
    encode = msgspec.json.encode
    predictions = (
        (row.timestamp, "predictions", Record(at, None, encode(row), BEGAN + 1000))
        for at, row in enumerate(rows.predictions)
    )
    labels = (
        (row.timestamp, "labels", Record(at, None, encode(row), BEGAN + 1000)) for at, row in enumerate(rows.labels)
    )
    for _, source, record in heapq.merge(predictions, labels, key=lambda item: float(item[0])):
        yield source, record


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    model = models.train(7)
    path: Path = tmp_path_factory.mktemp("demo") / "reference.csv"
    models.write_reference(path, models.reference(model, 7))
    service = Service(model, BEGAN, rate=300.0)
    play = acts(service, BEGAN)
    backtest = Backtest(parse_config(yaml.safe_dump(configuration(str(path), "none:1", "redis://127.0.0.1"))))
    backtest.feed(in_order(service.rows(BEGAN, BEGAN + length_s(play, BEGAN), [act.failure for act in play])))
    return play, backtest.alerts


def test_every_failure_is_told_before_the_next_and_nothing_before_the_first(played: Played) -> None:
    play, alerts = played
    outcomes, before = judge(play, alerts)
    assert [outcome.act.failure.title for outcome in outcomes if outcome.alert is None] == []
    assert before == []


def test_a_person_is_told_of_an_incident_a_few_times_not_at_every_tick(played: Played) -> None:
    _, alerts = played
    messages: dict[str, int] = {}
    for alert in alerts:
        messages[alert.incident_id] = messages.get(alert.incident_id, 0) + 1
    assert max(messages.values()) <= 5


def test_a_failure_that_is_over_is_reported_as_resolved(played: Played) -> None:
    play, alerts = played
    outcomes, _ = judge(play, alerts)
    ended = {alert.incident_id for alert in alerts if alert.life == "resolved"}
    assert {outcome.alert.incident_id for outcome in outcomes[:3] if outcome.alert is not None} <= ended


def test_an_alert_that_says_something_else_does_not_count(played: Played) -> None:
    play, alerts = played
    outcomes, _ = judge(play, [alert.model_copy(update={"layer": "operation"}) for alert in alerts])
    assert all(outcome.alert is None for outcome in outcomes)
    late = [alert.model_copy(update={"raised_at": alert.raised_at - 60}) for alert in alerts]
    assert judge(play, late)[1] != []
