"""A broken schema in words: what was renamed, what came as text, whose pipeline and which library."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from leadline.alert import Alert
from streams.baselines.reference_book import ReferenceBook
from streams.core.stage import Record
from streams.counting.references import Reference
from streams.judge.judge import Judge
from streams.observe.observe import Observer
from tests.streams.rich import START, Played, configuration, events_of, known, rows_of

N, FROM = 2400, 1600


@pytest.fixture(scope="module")
def reference() -> Reference:
    return known()


def last(played: Played) -> Alert:
    return max(played.alerts, key=lambda alert: alert.raised_at)


def test_a_missing_feature_whose_values_come_under_another_name_was_renamed(reference: Reference) -> None:
    def change(frame: pd.DataFrame, rng: np.random.Generator) -> None:
        frame["more"] = [
            {"rate_per_minute": value, "shoe_size": float(size)} if at >= FROM else {}
            for at, (value, size) in enumerate(zip(frame["rate"], rng.normal(42, 2, len(frame)), strict=True))
        ]
        frame["rate"] = frame["rate"].astype(object)
        frame.loc[FROM:, "rate"] = None

    played = Played(configuration(), reference, events_of(rows_of(41, N, change)))
    [incident] = played.incidents
    assert (incident.signal, incident.subject) == ("absent_rate", "rate")
    opened = played.alerts[0]
    assert opened.title == "m: feature renamed rate -> rate_per_minute (all traffic)"
    assert "renamed rate -> rate_per_minute" in opened.summary
    details = {item.signal: item.detail for item in last(played).evidence}
    assert details["absent_rate"] == "renamed rate -> rate_per_minute"
    assert details["extra_feature_rate"] == "unknown: rate_per_minute, shoe_size"


def test_a_missing_feature_is_not_said_to_be_renamed_to_one_of_other_values(reference: Reference) -> None:
    def change(frame: pd.DataFrame, rng: np.random.Generator) -> None:
        frame["more"] = [
            {"shoe_size": float(size)} if at >= FROM else {} for at, size in enumerate(rng.normal(42, 2, len(frame)))
        ]
        frame["rate"] = frame["rate"].astype(object)
        frame.loc[FROM:, "rate"] = None

    played = Played(configuration(), reference, events_of(rows_of(42, N, change)))
    assert [(incident.signal, incident.subject) for incident in played.incidents] == [("absent_rate", "rate")]
    assert "renamed" not in last(played).title


def test_a_number_that_comes_as_text_is_said_to(reference: Reference) -> None:
    def change(frame: pd.DataFrame, rng: np.random.Generator) -> None:
        frame["age"] = [f"{value}" if at >= FROM else value for at, value in enumerate(frame["age"])]

    played = Played(configuration(), reference, events_of(rows_of(43, N, change)))
    [incident] = played.incidents
    assert (incident.signal, incident.subject) == ("invalid_rate", "age")
    assert "comes as text" in last(played).summary


def test_an_unknown_pipeline_and_library_are_named_with_the_version_that_runs_them(reference: Reference) -> None:
    def change(frame: pd.DataFrame, rng: np.random.Generator) -> None:
        second = (frame.index >= FROM) & (frame["version"] == "2")
        frame.loc[second, "pipeline"] = "p-2026-11"
        frame.loc[second, "numpy"] = "3.0.1"

    played = Played(configuration(), reference, events_of(rows_of(44, N, change)))
    [incident] = played.incidents
    assert (incident.signal, incident.where.version) == ("pipeline_fingerprint", "2")
    assert "p-2026-11" in last(played).title
    details = {item.signal: item.detail for item in last(played).evidence if item.scope.model_version == "2"}
    assert details["runtime_version"] == "numpy=3.0.1"


def test_a_new_library_becomes_usual_where_the_baseline_was_learned() -> None:
    def change(frame: pd.DataFrame, rng: np.random.Generator) -> None:
        frame.loc[FROM:, "numpy"] = "3.0.1"

    config = configuration(learn_rows=400)
    played = Played(config, known(optional=False), events_of(rows_of(45, N + 1000, change)))
    [incident] = played.incidents
    assert incident.signal == "runtime_version"
    assert incident.resolved_at is not None
    assert incident.peak == "warn"


def test_what_was_learned_of_optional_fields_outlives_a_restart() -> None:
    played = Played(configuration(learn_rows=400), known(optional=False), events_of(rows_of(46, 1000)))
    live = played.judge.live
    assert live.done >= {"embedding_rows", "latency_rows", "runtime_rows"}
    again = type(live)(live.reference, live.wanted)
    again.restore(live.pack())
    for segment in (None, "site=north"):
        one, other = live.vector(segment), again.vector(segment)
        assert one is not None
        assert other is not None
        assert one.tolist() == other.tolist()


def test_a_judge_that_takes_over_knows_what_was_learned_of_optional_fields() -> None:
    config = configuration(learn_rows=400)
    book = ReferenceBook(config, {"m": known(optional=False).keeping(["dense"], ["cpu_s", "ram_mb"])})
    observer = Observer(0, config, book)
    log = [record for _, record in events_of(rows_of(47, 1200))]
    tables: dict[str, dict[bytes, bytes]] = {}
    judge, checkpoint = Judge(0, config, book), b""
    for at in range(0, len(log), 300):
        sends = observer.fold({"predictions": log[at : at + 300]}, {}, START).sends
        digests = [
            Record(place, send.key, send.value, START) for place, send in enumerate(sends) if "digests" in send.topic
        ]
        effects = judge.fold({"digests": digests}, {}, START)
        for table, rows in effects.writes.items():
            tables.setdefault(table, {}).update(rows)
        for table, names in effects.removes.items():
            for name in names:
                tables[table].pop(name, None)
        checkpoint = effects.checkpoint
        one = judge.models["m"].live.vector(None)
        judge = Judge(0, config, book, checkpoint, tables)
        other = judge.models["m"].live.vector(None)
        assert one is not None
        assert other is not None
        assert one.tolist() == other.tolist()
    assert judge.models["m"].live.done >= {"embedding_rows", "latency_rows", "resource_rows:cpu_s", "pipeline_rows"}
