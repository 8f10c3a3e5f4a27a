"""The observer against a dictionary oracle: any log, any batches, any restarts, any cache say the same."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.events import Digest, Label, Rejected
from streams.core.request_keys import request_key
from streams.observe.rows import time_of
from tests.streams.history import (
    DELAYS,
    LABELS,
    SPREAD,
    T0,
    TOLERANCE,
    WINDOW,
    Event,
    Oracle,
    Run,
    assert_same,
    assert_same_states,
    by_source,
    configuration,
    label,
    prediction,
    random_log,
    reference,
)

KNOWN = reference()


def stored_rows(run: Run) -> dict[bytes, bytes]:
    """Every row of the store; a request stands in one bucket only."""
    found: dict[bytes, bytes] = {}
    for table, rows in run.store.items():
        if table.startswith("b:"):
            for key, row in rows.items():
                assert key not in found, f"{key!r} stands in two buckets"
                assert run.observer.rows.bucket_of(time_of(row)) == int(table[2:])
                found[key] = row
    return found


def ran(events: list[Event], seed: int = 0, largest: int = 50, restart: float = 0.0, **join: Any) -> Run:
    run = Run(configuration(**join), KNOWN)
    run.feed(events, random.Random(seed), largest, restart)
    return run


# -- histories ----------------------------------------------------------------------------------------------------------


@st.composite
def _logs(draw: st.DrawFn) -> list[Event]:
    """Few requests, much said about each of them, in any order."""
    starts = draw(st.lists(st.floats(0, SPREAD).map(lambda x: round(x * 4) / 4), min_size=1, max_size=6))
    told = st.tuples(
        st.integers(0, len(starts) - 1),
        st.one_of(st.none(), st.tuples(st.sampled_from(DELAYS), st.sampled_from(LABELS))),
        st.integers(0, 200),
    )
    events = []
    for number, said, variant in draw(st.lists(told, max_size=30)):
        when = T0 + starts[number]
        events.append(prediction(number, when, variant) if said is None else label(number, when + said[0], said[1]))
    return events


@settings(max_examples=80, deadline=None)
@given(_logs(), st.integers(0, 2**32), st.sampled_from([1, 3, 40]), st.sampled_from([2, 5, 10**6]))
def test_any_history_in_any_batches_with_any_restarts_says_what_the_oracle_says(
    events: list[Event], seed: int, largest: int, cache: int
) -> None:
    run = ran(events, seed, largest, 0.3, cache_rows=cache)
    oracle = Oracle(KNOWN).read(events)
    assert_same(run, oracle)
    assert_same_states(stored_rows(run), oracle)


@settings(max_examples=60, deadline=None)
@given(_logs(), st.integers(0, 2**32), st.sampled_from([1, 5, 100]))
def test_a_batch_of_both_sources_says_what_single_events_say(events: list[Event], seed: int, largest: int) -> None:
    run = Run(configuration(), KNOWN)
    run.feed_mixed(events, random.Random(seed), largest)
    oracle = Oracle(KNOWN).read(events)
    assert_same(run, oracle)
    assert_same_states(run.observer.rows.rows, oracle)


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_a_long_log_is_counted_exactly_with_a_cache_of_few_rows_and_many_restarts(seed: int, shuffled: bool) -> None:
    events = random_log(seed, 900)
    if shuffled:
        random.Random(seed).shuffle(events)
    events = by_source(events, seed, 100)
    run = ran(events, seed, 120, 0.15, cache_rows=60)
    oracle = Oracle(KNOWN).read(events)
    assert_same(run, oracle)
    assert_same_states(stored_rows(run), oracle)
    assert run.reads > 500, "the cache answered everything: nothing was read back"
    assert all(
        oracle.counts[name] > 10
        for name in ("joined", "early", "late", "too_early", "revised", "duplicate_predictions")
    )
    assert oracle.states()["orphan"] > 10


@pytest.mark.parametrize("seed", range(3))
def test_each_count_falls_into_the_same_pane_whatever_the_batches(seed: int) -> None:
    events = random_log(seed, 500)
    whole, single, mixed = ran(events, 1, 1), ran(events, seed, 300), Run(configuration(), KNOWN)
    mixed.feed_mixed(events, random.Random(seed), 400)
    expected = whole.cells()
    for other in (single, mixed):
        found = other.cells()
        assert set(found) == set(expected)
        assert all(np.allclose(found[where], expected[where], rtol=1e-9, atol=1e-9) for where in expected)


# -- borders ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delay", "state"),
    [
        (WINDOW, "joined"),
        (np.nextafter(WINDOW, np.inf) - WINDOW + WINDOW + 0.001, "late"),
        (-TOLERANCE, "joined"),
        (-TOLERANCE - 0.001, "too_early"),
        (0.0, "joined"),
    ],
)
@pytest.mark.parametrize("label_first", [False, True])
def test_a_label_on_the_border_of_the_window_is_in_time_and_one_past_it_is_not(
    delay: float, state: str, label_first: bool
) -> None:
    events = [prediction(1, T0, 2), label(1, T0 + delay, True)]
    run = ran(events[::-1] if label_first else events, largest=1)
    states = {name: run.observer.counts.get(name, 0) for name in ("joined", "late", "too_early")}
    assert states == {"joined": 0, "late": 0, "too_early": 0, state: 1}


def test_a_label_that_comes_first_waits_for_its_prediction() -> None:
    run = ran([label(1, T0 + 5, True)])
    assert run.observer.counts == {"labels": 1, "label_first": 1}
    assert not run.vectors()
    run.batch({"predictions": [prediction(1, T0, 2).record(0)]})
    assert run.observer.counts["joined"] == run.observer.counts["early"] == 1


@pytest.mark.parametrize("label_first", [False, True])
def test_an_unusable_label_is_rejected_whether_or_not_it_had_to_wait(label_first: bool) -> None:
    events = [prediction(1, T0, 2), label(1, T0 + 5, "maybe")]
    run = Run(configuration(), KNOWN)
    sent = []
    for event in events[::-1] if label_first else events:
        effects = run.observer.fold({event.source: [event.record(7)]}, {}, 0.0)
        sent += [send for send in effects.sends if send.topic == run.config.kafka.topics.rejected]
    (told,) = sent
    rejected = msgspec.json.decode(told.value, type=Rejected)
    assert told.key == b"r1"
    assert (rejected.reason, rejected.source_topic, rejected.source_offset) == (
        "label_unusable",
        run.config.kafka.topics.labels,
        7,
    )
    assert msgspec.json.decode(rejected.original, type=Label).label == "maybe"
    assert run.observer.counts["label_unusable"] == 1


@pytest.mark.parametrize("model_id", ["m", "unreferenced"])
@pytest.mark.parametrize("literal", [str(2**63), "-" + "9" * 25])
def test_an_integer_beyond_64_bits_is_rejected_also_where_no_reference_knows_the_feature(
    model_id: str, literal: str
) -> None:
    good, bad = prediction(1, T0, 2), prediction(2, T0, 2)
    records = []
    for at, (event, number) in enumerate([(good, f"{literal}.0"), (bad, literal)]):
        body = event.body | {"model_id": model_id, "features": event.body["features"] | {"unheard_of": 12345.5}}
        raw = json.dumps(body).replace("12345.5", number).encode()
        records.append(event.record(at)._replace(value=raw))
    run = Run(configuration(), KNOWN)
    run.batch({"predictions": records})
    assert run.rejected == {"integer_too_large": 1}
    assert run.observer.counts == {"predictions": 1}
    assert set(run.observer.rows.rows) == {request_key("r1")}
    for digest in run.digests:
        msgspec.json.decode(msgspec.json.encode(digest), type=Digest)


def test_of_very_many_waiting_labels_the_last_one_counts() -> None:
    events = [label(1, T0 + at, at % 2 == 0) for at in range(20)]
    run = ran([*events, prediction(1, T0, 2)], largest=3)
    vector = run.vectors()["m", "1", "live", None]
    layout = KNOWN.layout
    assert (layout.part(vector, "positives").sum(), layout.part(vector, "negatives").sum()) == (0, 1)


def test_an_expired_row_is_dropped_and_its_label_waits_for_nobody() -> None:
    far = T0 + 3 * (WINDOW + RETENTION_AND_MORE)
    run = ran([prediction(1, T0, 2), *(prediction(n, far, 2) for n in (2, 3)), label(1, T0 + 1, True)], largest=1)
    assert run.observer.counts.get("joined", 0) == 0
    assert run.observer.counts["label_first"] == 1
    assert request_key("r1") not in run.observer.rows.rows


RETENTION_AND_MORE = 30_000.0


def test_a_full_cache_forgets_the_oldest_rows_and_reads_them_back() -> None:
    events = [prediction(number, T0 + number * 100.0, 2) for number in range(180)]
    run = ran(events, largest=10, cache_rows=20)
    assert len(run.observer.rows.rows) <= 20 + 30
    run.batch({"labels": [label(0, T0 + 1, True).record(0)]})
    assert run.observer.counts["joined"] == 1


def test_a_batch_that_comes_again_after_a_restart_is_all_duplicates() -> None:
    events = [prediction(number, T0 + number, number) for number in range(50)]
    run = ran(events)
    run.start()
    run.feed(events, random.Random(0), 50)
    assert run.observer.counts["predictions"] == 50
    assert run.observer.counts["duplicate_predictions"] == 50


def test_versions_and_segments_beyond_their_bounds_are_pooled_and_still_counted() -> None:
    events = []
    for number in range(150):
        event = prediction(number, T0 + number, 2)
        event.body["model_version"] = f"v{number}"
        event.body["segments"] = {"site": f"s{number}"}
        events.append(event)
    run = ran(events)
    vectors = run.vectors()
    rows = {where: KNOWN.layout.one(vector, "rows") for where, vector in vectors.items()}
    assert sum(n for where, n in rows.items() if where[3] is None) == 150
    assert sum(n for where, n in rows.items() if where[3] is not None) == 150
    assert {where[3] for where in rows if where[1] == "other"} >= {None, "site=other"}
    assert len({where[1] for where in rows}) == 101


def test_one_stamp_far_ahead_moves_no_clock_and_three_in_a_row_do() -> None:
    run = Run(configuration(max_jump=100.0), KNOWN)
    times = [T0, T0 + 1, T0 + 5000, T0 + 2, T0 + 5000, T0 + 5001, T0 + 5002]
    clocks = []
    for number, when in enumerate(times):
        run.batch({"predictions": [prediction(number, when, 2).record(number)]})
        clocks.append(run.observer.watermark.time)
    assert clocks == [T0, T0 + 1, T0 + 1, T0 + 2, T0 + 2, T0 + 2, T0 + 5000]


def test_a_row_that_the_cache_held_when_it_was_asked_is_still_there_when_the_batch_is_counted() -> None:
    events = [prediction(number, T0 + number * 3000.0, 2) for number in range(6)]
    run = Run(configuration(cache_rows=3), KNOWN)
    run.batch({"predictions": [event.record(offset) for offset, event in enumerate(events)]})
    run.batch({"predictions": [events[0].record(6)]})
    assert run.observer.counts == {"predictions": 6, "duplicate_predictions": 1}
