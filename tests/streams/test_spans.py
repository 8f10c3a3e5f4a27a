"""Spans hold what brute force adds up, at every level, after restarts and resolved incidents."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.judge.spans import BLOCKS, Spans

LEVELS, SIZE = 4, 6

_entries = st.lists(
    st.tuples(st.integers(0, 70), st.integers(0, SIZE - 1), st.integers(-3, 9)), min_size=1, max_size=60
)


def fill(spans: Spans, entries: list[tuple[int, int, int]], end: int) -> None:
    """Adds what came before each pane's end, closing blocks of every level as time passes; rows survive a restart."""
    for pane in range(end):
        put(spans, pane, {slot: brute(entries, pane, pane)[slot] for at, slot, _ in entries if at == pane})
        for level in range(LEVELS):
            if (pane + 1) % (1 << level) == 0:
                closed = pane in spans.blocks[0] if level == 0 else spans.close(level, pane >> level)
                if closed:
                    spans.drop_old(level, pane >> level)


def put(spans: Spans, pane: int, counts: dict[int, float]) -> None:
    if counts:
        spans.put(pane, np.array(sorted(counts), dtype=np.int32), np.array([counts[slot] for slot in sorted(counts)]))


def brute(entries: list[tuple[int, int, int]], first: int, last: int) -> np.ndarray:
    """The sum over panes first to last, both included."""
    total = np.zeros(SIZE)
    for at, slot, value in entries:
        if first <= at <= last:
            total[slot] += value
    return total


@settings(max_examples=60, deadline=None)
@given(_entries, st.integers(1, 72))
def test_each_span_is_the_sum_of_its_panes(entries: list[tuple[int, int, int]], end: int) -> None:
    spans = Spans(LEVELS, SIZE, 0, 1)
    fill(spans, entries, end)
    for level in range(LEVELS):
        block = (end >> level) - 1
        if block < 0:
            continue
        for count in range(1, BLOCKS + 1):
            found = spans.dense(spans.members(level, count, block))
            first = max(block - count + 1, 0) << level
            assert (found == brute(entries, first, ((block + 1) << level) - 1)).all()


@settings(max_examples=60, deadline=None)
@given(_entries, st.integers(1, 72), st.integers(0, 72))
def test_no_span_reaches_back_over_the_end_of_an_incident(
    entries: list[tuple[int, int, int]], end: int, since: int
) -> None:
    spans = Spans(LEVELS, SIZE, 0, 1)
    fill(spans, entries, end)
    spans.not_before = since
    for level in range(LEVELS):
        block = (end >> level) - 1
        found = spans.dense(spans.members(level, BLOCKS, block)) if block >= 0 else np.zeros(SIZE)
        first = max(max(block - BLOCKS + 1, 0), -(-since // (1 << level))) << level
        assert (found == brute(entries, first, ((block + 1) << level) - 1)).all()


@settings(max_examples=40, deadline=None)
@given(_entries, st.integers(1, 72), st.integers(1, 72))
def test_rows_bring_everything_back(entries: list[tuple[int, int, int]], end: int, middle: int) -> None:
    whole = Spans(LEVELS, SIZE, 0, 1)
    table: dict[str, bytes] = {}

    def commit(spans: Spans) -> None:
        written, removed = spans.take_changes()
        for name in removed:
            table.pop(name, None)
        table.update(written)

    first = min(middle, end)
    fill(whole, [entry for entry in entries if entry[0] < first], first)
    commit(whole)
    again = Spans(LEVELS, SIZE, 0, 1)
    again.restore(dict(reversed(table.items())))
    for level in range(LEVELS):
        assert set(again.blocks[level]) == set(whole.blocks[level])
        for number, block in whole.blocks[level].items():
            assert (again.dense([again.blocks[level][number]]) == whole.dense([block])).all()
            assert (again.blocks[level][number].rows, again.blocks[level][number].outcomes) == (
                block.rows,
                block.outcomes,
            )


def test_a_level_keeps_no_more_blocks_than_its_spans_need() -> None:
    spans = Spans(LEVELS, SIZE, 0, 1)
    fill(spans, [(at, 0, 1) for at in range(1000)], 1000)
    assert all(len(kept) <= BLOCKS + 2 for kept in spans.blocks)


@settings(max_examples=60, deadline=None)
@given(_entries, st.integers(1, 72), st.integers(1, 40))
def test_the_recent_span_is_the_sum_from_its_first_pane_on_and_holds_enough_rows(
    entries: list[tuple[int, int, int]], end: int, rows: int
) -> None:
    entries = [(at, slot, abs(value)) for at, slot, value in entries]
    spans = Spans(LEVELS, SIZE, 0, 1)
    fill(spans, entries, end)
    found = spans.recent(end, rows, 0)
    if found is None:
        assert brute(entries, max(end - BLOCKS, 0), end - 1)[0] < rows
    else:
        vector, start = found
        assert vector[0] >= rows
        # The last panes may lie in a block that has not closed yet.
        assert any(
            (vector == brute(entries, max(start, 0), last - 1)).all() for last in range(max(end - BLOCKS, 0), end + 1)
        )


@settings(max_examples=60, deadline=None)
@given(_entries, st.integers(1, 72), st.integers(1, 60), st.integers(0, 40))
def test_a_look_is_worth_it_when_its_span_holds_enough_and_more_than_a_shorter_one(
    entries: list[tuple[int, int, int]], end: int, least: int, since: int
) -> None:
    spans = Spans(LEVELS, SIZE, 0, 1)
    fill(spans, entries, end)
    spans.not_before = since
    for level in range(LEVELS):
        block = (end >> level) - 1
        if block < 0:
            continue
        looks = dict(spans.looks(level, block, least))
        assert set(looks) <= ({1, 2, 4, 8} if level == 0 else {8})
        held = 0
        for count in (1, 2, 4, 8) if level == 0 else (8,):
            members = spans.members(level, count, block)
            vector = spans.dense(members)
            enough = vector[0] >= least or vector[1] >= least
            longest = spans.dense(spans.members(level, BLOCKS, block))
            if enough and len(members) > held and (longest[0] >= least or longest[1] >= least):
                assert (spans.dense(looks[count]) == vector).all()
                held = len(members)
            else:
                assert count not in looks


def test_a_copy_goes_its_own_way_and_has_all_its_rows_to_write() -> None:
    spans = Spans(LEVELS, SIZE, 0, 1)
    fill(spans, [(at, 0, 1) for at in range(20)], 19)
    names = {f"{level}:{number}" for level, kept in enumerate(spans.blocks) for number in kept}
    spans.take_changes()
    other = spans.copy()
    assert set(other.take_changes()[0]) == names
    put(other, 19, {0: 6.0})
    assert other.blocks[0][19].rows == 6
    put(spans, 19, {0: 1.0})
    assert spans.blocks[0][19].rows == 1
    assert spans.looks(0, 19, 8)[0][0] == other.looks(0, 19, 13)[0][0] == 8


def test_changes_that_are_forgotten_are_not_written() -> None:
    spans = Spans(LEVELS, SIZE, 0, 1)
    fill(spans, [(at, 0, 1) for at in range(40)], 40)
    spans.forget_changes()
    assert spans.take_changes() == ({}, [])
