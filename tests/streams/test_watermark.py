"""Event time of a partition: bad stamps first, in the middle, of one service; and what they do not do to everybody else."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.events import Digest
from streams.core.stage import Record
from streams.core.watermark import SUPPORT, Watermark
from streams.judge.judge import Judge
from tests.streams.history import T0, Run, configuration, label, prediction, reference

JUMP, YEAR = 3600.0, 365 * 86_400.0
AHEAD = 5e5  # not ahead of the broker's clock in these logs, so that no event is rejected for it
KNOWN = reference()


def after(stamps: list[float], cut: int = 0) -> Watermark:
    """In one batch, or in two."""
    clock = Watermark(JUMP)
    clock.advance(stamps[:cut])
    clock.advance(stamps[cut:])
    return clock


@pytest.mark.parametrize("cut", range(6))
@pytest.mark.parametrize("at", range(5))
@pytest.mark.parametrize("wrong", [T0 + YEAR, T0 - YEAR, 0.0])
def test_one_bad_stamp_at_any_place_moves_the_clock_nowhere(at: int, wrong: float, cut: int) -> None:
    good = [T0 + number for number in range(6)]
    clock = after([*good[:at], wrong, *good[at:]], cut)
    assert clock.time == good[-1]
    assert clock.settled


def test_a_clock_is_settled_when_three_stamps_agree_and_not_before() -> None:
    clock = Watermark(JUMP)
    for number, settled in enumerate([False, False, True, True]):
        clock.advance([T0 + number])
        assert clock.settled == settled
    clock = Watermark(JUMP)
    for stamp in (T0 + YEAR, T0, T0 + YEAR, T0 + 1, T0 + YEAR):
        clock.advance([stamp])
        assert not clock.settled
    clock.advance([T0 + 2])
    assert clock.settled
    assert clock.time == T0 + 2


def test_a_partition_that_begins_far_in_the_past_is_where_its_traffic_is_after_three_events() -> None:
    assert after([0.0, T0, T0 + 1, T0 + 2]).time == T0
    assert after([0.0, T0, T0 + 1, T0 + 2]).settled


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 3000), min_size=SUPPORT + 1, max_size=60),
    st.sets(st.integers(0, 59)),
    st.sampled_from([YEAR, 10 * YEAR]),
    st.integers(0, 60),
)
def test_lonely_bad_stamps_change_nothing_and_cuts_change_nothing(
    offsets: list[float], where: set[int], wrong: float, cut: int
) -> None:
    good = sorted(T0 + offset for offset in offsets)
    mixed: list[float] = []
    for at, stamp in enumerate(good):
        if at in where:
            mixed.append(stamp + wrong)
        mixed.append(stamp)
    clock = after(mixed, min(cut, len(mixed)))
    assert clock.time == good[-1]


@settings(deadline=None)
@given(st.lists(st.floats(0, 5 * YEAR), max_size=60))
def test_once_settled_the_clock_never_goes_back(stamps: list[float]) -> None:
    clock = Watermark(JUMP)
    before = -math.inf
    for stamp in stamps:
        was_settled = clock.settled
        (visible,) = clock.advance([stamp])
        assert visible == clock.time
        assert not was_settled or clock.time >= before
        before = clock.time


@settings(deadline=None)
@given(st.lists(st.floats(0, 3 * JUMP), max_size=40), st.lists(st.integers(1, 7), max_size=40))
def test_batches_change_nothing(stamps: list[float], sizes: list[int]) -> None:
    whole = Watermark(JUMP)
    one = whole.advance(stamps)
    parts, at, many = Watermark(JUMP), 0, []
    for size in [*sizes, len(stamps)]:
        many.append(parts.advance(stamps[at : at + size]))
        at += size
    assert parts == whole
    assert np.array_equal(np.concatenate(many), one)


def judged(run: Run, offsets: list[float]) -> Judge:
    """A judge that reads what the observer of a fresh partition says, and beside it a healthy partition's clock."""
    config = run.config
    judge = Judge(0, config, run.book)
    sent: list[bytes] = []
    for number, offset in enumerate(offsets):
        event = prediction(number, T0 + offset, 2)
        effects = run.observer.fold({"predictions": [event.record(number)]}, {}, float(number))
        sent += [send.value for send in effects.sends if send.topic == config.kafka.topics.digests]
        other = Digest(7, number + 1, "", "", T0 + number, float(number), [])
        sent.append(msgspec.json.encode(other))
    judge.fold({"digests": [Record(at, b"", value, 0.0) for at, value in enumerate(sent)]}, {}, 0.0)
    return judge


@pytest.mark.parametrize("bad", [0, 1, 2, 5])
def test_one_bad_stamp_closes_no_windows_of_the_judge_even_as_the_first_record_of_a_fresh_partition(bad: int) -> None:
    offsets = [float(number) for number in range(10)]
    offsets.insert(bad, AHEAD)
    run = Run(configuration(max_jump=JUMP), KNOWN)
    judge = judged(run, offsets)
    assert judge.clock <= T0 + 10
    assert judge.clock >= T0 + 8
    assert judge.unreadable == 0
    assert run.observer.counts == {"predictions": len(offsets)}


def test_a_partition_that_has_told_no_clock_holds_nobody() -> None:
    assert judged(Run(configuration(max_jump=JUMP), KNOWN), [AHEAD, AHEAD]).clock == T0 + 1
    assert (
        judged(Run(configuration(max_jump=JUMP), KNOWN), [AHEAD, 1.2 * AHEAD, 1.4 * AHEAD, 1.6 * AHEAD]).clock == T0 + 3
    )


def test_requests_after_a_bad_first_stamp_are_joined_as_without_it() -> None:
    run = Run(configuration(max_jump=JUMP), KNOWN)
    run.batch({"predictions": [prediction(0, T0 + AHEAD, 2).record(0)]})
    for number in range(1, 9):
        run.batch({"predictions": [prediction(number, T0 + number, 2).record(number)]})
    run.start()  # another worker takes over
    for number in range(1, 9):
        run.batch({"labels": [label(number, T0 + number + 10, True).record(number)]})
    assert run.observer.counts["joined"] == 8
    assert run.observer.watermark.time == T0 + 18


def test_state_from_before_the_start_was_guarded_is_settled() -> None:
    run = Run(configuration(max_jump=JUMP), KNOWN)
    run.batch({"predictions": [prediction(0, T0, 2).record(0)]})
    old = msgspec.msgpack.decode(run.written)
    del old["agreed"]
    run.written = msgspec.msgpack.encode(old)
    run.start()
    assert run.observer.watermark.settled


@pytest.mark.parametrize("cut", range(7))
def test_a_log_that_ends_with_lone_stamps_has_come_as_far_as_the_last(cut: int) -> None:
    good = [T0, T0 + 1, T0 + 2]
    lone = [T0 + 2 * JUMP, T0 + 4 * JUMP, T0 + 7 * JUMP, T0 + 9 * JUMP]
    assert after([*good, *lone], cut).reached(10 * JUMP) == lone[-1]
    assert after([*good, *lone, lone[0] - 1], cut).reached(10 * JUMP) < lone[-1]  # an event after them says otherwise
    assert after([*good, T0 + YEAR], cut).reached(10 * JUMP) == good[-1]  # nobody waits a year for a label
    assert after(good, min(cut, 3)).reached(10 * JUMP) == good[-1]
