"""Rows hold what they were given, in the sizes that Redis rounds up least."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.request_keys import KEY_BYTES, key_hashes, request_key, request_keys
from streams.observe.rows import (
    EARLY,
    JOINED,
    LATE_SEEN,
    MOST_COMBINATIONS,
    PENDING,
    REVISED,
    TOO_EARLY_SEEN,
    WaitingLabel,
    age_of,
    class_scores,
    codes_at,
    combination_of,
    flag_row,
    has_flag,
    heads,
    join_pending,
    join_row,
    kind_of,
    label_of,
    pack_predictions,
    pack_waiting,
    pane_of,
    tail_bytes,
    time_of,
    unpack_waiting,
    values_of,
    whole_ticks,
)

_times = st.floats(0, 4e9).map(lambda when: round(when * 1e6) / 1e6)
_scores = st.floats(allow_nan=False)
_classes = st.one_of(st.just(math.nan), st.integers(0, 254).map(float))
_rows = st.lists(st.tuples(_times, _scores, st.integers(0, MOST_COMBINATIONS - 1)), min_size=1, max_size=5)


def packed(rows: list[tuple[float, float, int]], predicted: list[float], features: int = 10) -> list[bytes]:
    times, scores, combinations = (np.array(column) for column in zip(*rows, strict=True))
    codes = np.arange(len(rows) * features, dtype=np.uint8).reshape(len(rows), features)
    return pack_predictions(
        times, scores.astype(float), np.array(predicted), combinations.astype(np.int64), codes, None
    )


@given(_rows, st.data())
def test_a_pending_row_gives_back_what_it_was_given(rows: list[tuple[float, float, int]], data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["class", "score", "value"]))
    of = {"class": _classes, "value": st.floats(allow_infinity=False)}
    predicted = [score if kind == "score" else data.draw(of[kind]) for _, score, _ in rows]
    made = packed(rows, predicted)
    head = heads(made)
    assert head.time.tolist() == [time_of(row) for row in made] == [when for when, _, _ in rows]
    assert head.score.tolist() == [score for _, score, _ in rows]
    assert np.array_equal(head.predicted, np.array(predicted), equal_nan=True)
    assert head.combination.tolist() == [combination_of(row) for row in made] == [number for _, _, number in rows]
    assert set(map(kind_of, made)) == {PENDING}
    assert [row[codes_at(row) :] for row in made] == [bytes(range(10 * at, 10 * at + 10)) for at in range(len(rows))]


@given(_rows, st.data())
def test_a_joined_row_gives_back_its_label_and_the_pending_one_in_it(
    rows: list[tuple[float, float, int]], data: st.DataObject
) -> None:
    pending = packed(rows, [data.draw(st.one_of(_classes, st.floats(-1e9, 1e9))) for _ in rows])
    n = len(rows)
    labels = np.array(data.draw(st.lists(st.floats(-1e9, 1e9), min_size=n, max_size=n)))
    ages = np.array(data.draw(st.lists(st.integers(-1, 16), min_size=n, max_size=n)))
    panes = np.array(data.draw(st.lists(st.integers(0, 2**40 - 1), min_size=n, max_size=n)))
    joined = join_pending(pending, labels, ages, panes)
    single = zip(pending, labels.tolist(), ages.tolist(), panes.tolist(), strict=True)
    assert joined == [join_row(*columns) for columns in single]
    assert [label_of(row) for row in joined] == labels.tolist()
    assert [age_of(row) for row in joined] == ages.tolist()
    assert [pane_of(row) for row in joined] == panes.tolist()
    assert {kind_of(row) for row in joined} == {JOINED}
    assert all(map(np.array_equal, heads(joined)[1:3], heads(pending)[1:3]))
    assert [row[1 : len(row) - tail_bytes(row)] for row in joined] == [row[1:] for row in pending]


def test_a_corrected_row_keeps_its_values_its_age_and_its_pane() -> None:
    (row,) = packed([(1.7e9, 0.5, 3)], [1.0])
    first = join_row(flag_row(row, LATE_SEEN | TOO_EARLY_SEEN), 1.0, 4, 170_000_000, (2.5, math.nan))
    assert not has_flag(first, LATE_SEEN)
    assert has_flag(first, TOO_EARLY_SEEN)
    assert values_of(first)[0] == 2.5
    second = join_row(first, 0.0, age_of(first), pane_of(first), (3.0, 4.0), revised=True)
    assert has_flag(second, REVISED)
    assert (label_of(second), age_of(second), pane_of(second), values_of(second)) == (0.0, 4, 170_000_000, (3.0, 4.0))
    third = join_row(second, 1.0, age_of(second), pane_of(second))
    assert values_of(third) == ()
    assert len(third) == len(row) + tail_bytes(third)


def test_scores_of_classes_stand_behind_the_codes_also_once_there_is_a_label() -> None:
    shares = np.array([[0.25, 0.5, 0.25], [1.0, 0.0, 0.0]], dtype=np.float32)
    codes = np.zeros((2, 4), dtype=np.uint8)
    rows = pack_predictions(
        np.full(2, 1.7e9), np.array([0.5, 1.0]), np.array([1.0, 0.0]), np.zeros(2, np.int64), codes, shares
    )
    assert np.array_equal(class_scores(rows, 3), shares)
    assert np.array_equal(class_scores([join_row(row, 1.0, -1, 0, (7.0,)) for row in rows], 3), shares)


def test_labels_that_wait_keep_the_first_and_the_last() -> None:
    labels = [WaitingLabel(float(at), at % 2 == 0, {"cost": 1.5}, "v1", at) for at in range(12)]
    row = pack_waiting(labels)
    assert kind_of(row) == EARLY
    assert [label.time for label in unpack_waiting(row)] == [0.0, *range(5, 12)]
    assert time_of(row) == 0.0


@pytest.mark.parametrize(("features", "pending", "joined"), [(10, 30, 44), (0, 20, 34)])
def test_rows_have_the_sizes_that_memory_is_planned_with(features: int, pending: int, joined: int) -> None:
    (row,) = packed([(1.7e9, 0.5, 3)], [1.0], features)
    assert len(row) == pending
    assert len(join_row(row, 1.0, 0, 0)) == joined


def test_times_are_kept_to_the_microsecond() -> None:
    times = np.array([1.7e9 + 0.123456, 1.7e9 + 1e-7, 0.0])
    assert whole_ticks(times).tolist() == [1.7e9 + 0.123456, 1.7e9, 0.0]


def test_keys_are_of_one_length_and_spread_evenly() -> None:
    ids = [f"r{at}" for at in range(20_000)] + ["x" * 512, "é"]
    keys = request_keys(ids)
    assert len(set(keys)) == len(ids)
    assert {len(key) for key in keys} == {KEY_BYTES}
    assert keys == [request_key(name) for name in ids]
    low = np.count_nonzero(key_hashes(keys) < 2**31)
    assert abs(low - len(ids) / 2) < 5 * (len(ids) / 4) ** 0.5
