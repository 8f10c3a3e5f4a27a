"""Fields that a service may leave out: one that stops coming is told, one that was never promised is not."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pandas as pd
import pytest

from leadline.config import Rules
from streams.baselines.stored_reference import dump_reference, load_reference
from streams.counting.layout import Layout
from streams.counting.stated import baseline_stated, stated_fields
from streams.judge.incidents import Where
from streams.rules.evaluate import Evaluator
from tests.streams.rich import START, Played, configuration, events_of, known, rows_of

N, FROM = 3000, 2000
FIELDS = {
    "latency_ms": "latency_ms",
    "confidence": "confidence",
    "embedding": "embedding",
    "resources.cpu_s": "resource.cpu_s",
    "pipeline_fingerprint": "pipeline_fingerprint",
    "runtime": "runtime",
}
Rows = Callable[[pd.DataFrame], "pd.Series[bool]"]


def rows_without(path: str, rows: Rows, seed: int = 3, n: int = N) -> pd.DataFrame:
    frame = rows_of(seed, n)
    frame["without"] = [(path,) if gone else () for gone in rows(frame)]
    return frame


def late(frame: pd.DataFrame) -> pd.Series[bool]:
    return pd.Series(frame.index >= FROM)


@pytest.mark.parametrize("optional", [True, False], ids=["known", "learned"])
@pytest.mark.parametrize("path", FIELDS)
def test_a_field_that_stops_coming_is_one_incident_that_names_it(path: str, optional: bool) -> None:
    played = Played(configuration(), known(optional=optional), events_of(rows_without(path, late)))
    [incident] = played.incidents
    assert (incident.signal, incident.subject, incident.layer) == ("missing_rate", FIELDS[path], "schema")
    assert incident.where == Where(None, "live", None)
    begin = START + FROM * 0.5
    assert begin <= incident.opened_at <= begin + 100
    assert begin - 20 <= incident.onset_at <= begin + 20
    assert incident.peak == "critical"
    assert incident.reference == 0.0
    [row] = [row for row in incident.evidence if row.key == (incident.where, incident.signal, incident.subject)]
    assert 0 < row.finding.floor < 0.02
    assert row.finding.n >= 30
    opened = played.alerts[0]
    assert f"{FIELDS[path]}: is no longer stated" in opened.title
    assert "of the rows do not state it, 0% in the baseline" in opened.summary


def test_a_layer_that_is_no_longer_probed_is_one_incident_of_both_its_figures() -> None:
    played = Played(configuration(), known(), events_of(rows_without("probes", late)))
    [incident] = played.incidents
    assert {row.finding.key for row in incident.evidence} == {
        ("missing_rate", "layer.dense.mean"),
        ("missing_rate", "layer.dense.std"),
    }


def test_a_version_that_does_not_state_it_is_the_scope() -> None:
    def of_version(frame: pd.DataFrame) -> pd.Series[bool]:
        return late(frame) & (frame["version"] == "2")

    played = Played(configuration(), known(), events_of(rows_without("confidence", of_version)))
    [incident] = played.incidents
    assert (incident.signal, incident.where) == ("missing_rate", Where("2", "live", None))


def test_it_is_over_when_the_field_comes_again() -> None:
    def for_a_while(frame: pd.DataFrame) -> pd.Series[bool]:
        return pd.Series((frame.index >= FROM) & (frame.index < FROM + 500))

    played = Played(configuration(), known(), events_of(rows_without("confidence", for_a_while, n=6000)))
    assert played.incidents[0].signal == "missing_rate"
    assert played.incidents[0].ended == "recovered"
    assert played.incidents[0].resolved_at is not None


@pytest.mark.parametrize("optional", [True, False], ids=["known", "learned"])
def test_nothing_is_told_of_a_field_that_the_baseline_itself_often_lacks(optional: bool) -> None:
    def often(frame: pd.DataFrame) -> pd.Series[bool]:
        rare = np.random.default_rng(7).random(len(frame)) < 0.4
        return pd.Series(rare | (frame.index >= 2500))

    reference = known(optional=optional)
    if optional:
        layout = reference.layout
        for vector in reference.cells.values():
            vector[layout.offset("confidence_rows")] = np.floor(0.6 * layout.one(vector, "confidence_rows"))
    played = Played(configuration(), reference, events_of(rows_without("confidence", often)))
    assert ("missing_rate", "confidence") not in played.fired()


def test_nothing_is_told_where_neither_the_reference_nor_any_live_row_states_a_field() -> None:
    for reference in (known(optional=False), None):
        frame = rows_of(5, 2000)
        frame["without"] = [tuple(sorted({path.partition(".")[0] for path in (*FIELDS, "probes")}))] * len(frame)
        played = Played(configuration(), reference, events_of(frame))
        assert played.incidents == []
        assert not any(signal == "missing_rate" for signal, _ in played.figures())


def test_a_rise_below_the_limit_is_no_finding_and_disabling_it_costs_no_budget() -> None:
    reference = known()
    layout, rules = reference.layout, Rules()
    everything = reference.cell(None)
    assert everything is not None

    def told(share: float, rules: Rules) -> list[tuple[str, str | None]]:
        evaluator = Evaluator(reference, rules)
        base = evaluator.baseline(None)
        assert base is not None
        vector = everything.copy()
        vector[layout.offset("confidence_rows")] *= 1 - share
        found = evaluator.findings(vector, base, 1e-8)
        return [finding.key for finding in found if finding.signal == "missing_rate"]

    assert told(0.09, rules) == []
    assert told(0.11, rules) == [("missing_rate", "confidence")]
    without = rules.model_copy(update={"disabled": ("missing_rate",)})
    assert told(0.5, without) == []
    assert Evaluator(reference, rules).tests - Evaluator(reference, without).tests == len(stated_fields(layout))
    bare = known(optional=False)
    assert Evaluator(bare, rules).tests == Evaluator(bare, without).tests


@pytest.mark.parametrize("optional", [True, False], ids=["known", "learned"])
def test_the_figure_is_the_share_of_rows_and_of_the_baseline(optional: bool) -> None:
    def some(frame: pd.DataFrame) -> pd.Series[bool]:
        return pd.Series(frame.index % 50 == 0)

    frame = rows_without("latency_ms", some)
    played = Played(configuration(), known(optional=optional), events_of(frame))
    figure = played.figures()["missing_rate", "latency_ms"]
    assert (figure.value, figure.n) == (pytest.approx(0.02), N)
    assert figure.reference == pytest.approx(0.0 if optional else 0.02, abs=0.001)
    north = played.figures("site=north")["missing_rate", "latency_ms"]
    of_north = frame["site"] == "north"
    assert north.value == pytest.approx(np.mean(frame["without"][of_north].map(len)), rel=1e-9)


def test_the_layout_counts_every_field_that_it_names() -> None:
    layout = Layout("binary", probes=("a_b",), resources=("gpu:0",))
    assert stated_fields(layout)[5:] == ("layer.a_b.mean", "layer.a_b.std", "resource.gpu:0")
    vector = np.zeros(layout.size)
    vector[layout.offset("rows")] = 9.0
    vector[layout.offset("resource_rows:gpu:0")] = 8.0
    assert [part.tolist()[-1] for part in baseline_stated(layout, vector)] == [8.0, 9.0]
    vector[layout.offset("baseline_stated:resource_rows:gpu:0")] = 4.0
    vector[layout.offset("baseline_asked:resource_rows:gpu:0")] = 5.0
    assert [part.tolist()[-1] for part in baseline_stated(layout, vector)] == [4.0, 5.0]


@pytest.mark.parametrize("version", [1, 2])
def test_reference_files_of_earlier_layouts_are_still_read(version: int) -> None:
    reference = known(n=300)
    file = msgspec.json.decode(dump_reference(reference))
    file["version"], file["fingerprint"] = version, "of another layout"
    again = load_reference(msgspec.json.encode(file))
    assert again.fingerprint == reference.fingerprint
