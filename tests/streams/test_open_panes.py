"""What came for a pane is added up once it ends: the same sums in any order, any parts, and after any restarts."""

from __future__ import annotations

import math
from itertools import groupby
from operator import itemgetter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.digest_cells import Named
from streams.judge.open_panes import MANY, OpenPanes, Part, added_up, together

SIZE = 6
_cell = st.tuples(
    st.sampled_from(["1", "2"]),
    st.sampled_from(["live", "shadow"]),
    st.sampled_from([None, "site=a", "site=b"]),
    st.integers(0, 4),
    st.integers(0, 1),
)
_counts = st.dictionaries(st.integers(0, SIZE - 1), st.integers(-3, 9), max_size=SIZE)
_digests = st.lists(st.lists(st.tuples(_cell, _counts), max_size=5), max_size=12)
Digests = list[list[tuple[Named, dict[int, int]]]]


def part(cells: list[tuple[Named, dict[int, int]]]) -> Part:
    entries = [(slot, float(counts[slot])) for _, counts in cells for slot in sorted(counts)]
    bounds = np.cumsum([0, *(len(counts) for _, counts in cells)])
    slots = np.array([slot for slot, _ in entries], dtype=np.int32)
    return Part([cell for cell, _ in cells], bounds, slots, np.array([value for _, value in entries]))


def keys(cell: Named) -> tuple[tuple[str | None, str | None], ...]:
    version, stage, segment = cell[:3]
    return ((version, segment),) if stage == "shadow" else ((None, segment), (version, segment))


def brute(digests: Digests, pane: int, closed: int = 0) -> dict[object, dict[int, float]]:
    found: dict[object, dict[int, float]] = {}
    for cells in digests:
        for cell, counts in cells:
            if max(cell[3], closed) == pane:
                for key in keys(cell):
                    sums = found.setdefault(key, {})
                    for slot, value in counts.items():
                        sums[slot] = sums.get(slot, 0.0) + value
    return {key: {slot: value for slot, value in sums.items() if value} for key, sums in found.items()}


def said(panes: OpenPanes) -> dict[int, dict[object, dict[int, float]]]:
    """All that is open, by pane; nothing is afterwards."""
    found: dict[int, dict[object, dict[int, float]]] = {}
    while panes:
        parts = panes.close_before(math.inf)
        for pane, of_pane in groupby(parts, key=itemgetter(0)):
            assert pane not in found
            found[pane] = summed([part for _, part in of_pane])
    return found


def summed(parts: list[Part]) -> dict[object, dict[int, float]]:
    found, whole = {}, together(parts)
    for key, slots, values in added_up(whole, [keys(cell) for cell in whole.cells], SIZE):
        assert (np.diff(slots) > 0).all()
        found[key] = dict(zip(slots.tolist(), values.tolist(), strict=True))
    return found


@settings(max_examples=150, deadline=None)
@given(_digests, st.integers(0, 3))
def test_a_pane_holds_the_sum_of_all_that_came_for_it(digests: Digests, closed: int) -> None:
    panes = OpenPanes(SIZE)
    for cells in digests:
        if cells:
            panes.add(part(cells), closed)
    expected = sorted({max(cell[3], closed) for cells in digests for cell, _ in cells})
    assert len(panes) == len(expected)
    assert panes.first() == (expected[0] if expected else None)
    found = said(panes)
    assert list(found) == expected
    assert found == {pane: brute(digests, pane, closed) for pane in expected}
    assert panes.first() is None
    assert not panes.close_before(math.inf)


@settings(max_examples=100, deadline=None)
@given(_digests, st.integers(0, 5), st.integers(1, 8))
def test_panes_close_in_order_up_to_a_pane_and_as_many_as_are_asked_for(
    digests: Digests, until: int, at_once: int
) -> None:
    panes = OpenPanes(SIZE)
    for cells in digests:
        if cells:
            panes.add(part(cells), 0)
    open_panes = sorted({cell[3] for cells in digests for cell, _ in cells})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streams.judge.open_panes.AT_ONCE", at_once)
        while parts := panes.close_before(until):
            closed = list(dict.fromkeys(pane for pane, _ in parts))
            assert closed == open_panes[: len(closed)]
            assert closed[-1] < until
            entries = [sum(len(part.slots) for at, part in parts if at == pane) for pane in closed]
            assert sum(entries[:-1]) < at_once
            del open_panes[: len(closed)]
    assert [pane for pane in open_panes if pane < until] == []
    assert panes.first() == (open_panes[0] if open_panes else None)


@settings(max_examples=100, deadline=None)
@given(_digests, st.integers(1, 3))
def test_rows_bring_everything_back_and_go_with_their_pane(digests: Digests, every: int) -> None:
    panes, table = OpenPanes(SIZE), {}
    for number, cells in enumerate(digests):
        if cells:
            panes.add(part(cells), 0)
        if number % every == 0:
            written, removed = panes.take_changes()
            for name in removed:
                del table[name]
            assert not table.keys() & written.keys()
            table |= written
            if number % 2:
                panes = OpenPanes(SIZE)
                panes.restore(table)
    table |= panes.take_changes()[0]
    again = OpenPanes(SIZE)
    again.restore(dict(reversed(table.items())))
    assert again.take_changes() == ({}, [])
    expected = {pane: brute(digests, pane) for pane in sorted({cell[3] for cells in digests for cell, _ in cells})}
    assert said(again) == said(panes) == expected
    written, removed = again.take_changes()
    assert not written
    assert set(removed) == set(table)


def test_a_long_pane_is_added_up_before_its_parts_are_many() -> None:
    cell: Named = ("1", "live", None, 0, 0)
    panes, table = OpenPanes(SIZE), {}
    for _ in range(5 * MANY):
        panes.add(part([(cell, {1: 1, 2: 2})]), 0)
        written, removed = panes.take_changes()
        for name in removed:
            del table[name]
        table |= written
        assert len(table) <= MANY
    again = OpenPanes(SIZE)
    again.restore(table)
    assert said(again)[0][None, None] == {1: 5 * MANY, 2: 10 * MANY}


@given(st.lists(st.tuples(_cell, _counts), min_size=1, max_size=5))
def test_in_another_layout_known_slots_move_and_others_go(cells: list[tuple[Named, dict[int, int]]]) -> None:
    target = np.array([-1, 4, 0, -1, 1, 5], dtype=np.int32)
    moved = part(cells).translated(target)
    of_cell = [
        dict(zip(moved.slots[begin:end].tolist(), moved.values[begin:end].tolist(), strict=True))
        for begin, end in zip(moved.bounds, moved.bounds[1:], strict=False)
    ]
    assert of_cell == [
        {int(target[slot]): float(value) for slot, value in counts.items() if target[slot] >= 0} for _, counts in cells
    ]
