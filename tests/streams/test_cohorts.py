"""A day's counts are the sum of all that came for it, however it came, through restarts, new versions and new references."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.baselines.reference_files import build_reference
from streams.counting.references import Reference
from streams.judge.cohorts import INCREMENTS, PARTS, Cohorts
from streams.judge.incidents import Where

SIZE = 7
ALL, NORTH, OTHER = Where(None, "live", None), Where(None, "live", "site=north"), Where("2", "live", None)

_added = st.lists(
    st.tuples(
        st.sampled_from([ALL, NORTH, OTHER]),
        st.integers(3, 5),
        st.dictionaries(st.integers(0, SIZE - 1), st.integers(-4, 9), max_size=SIZE),
    ),
    max_size=3 * PARTS,
)
Added = list[tuple[Where, int, dict[int, int]]]


def filled(added: Added) -> Cohorts:
    cohorts = Cohorts(SIZE)
    for where, day, counts in added:
        slots = np.array(sorted(counts), dtype=np.int32)
        cohorts.add(where, day, slots, np.array([float(counts[slot]) for slot in sorted(counts)]))
    return cohorts


def brute(added: Added, where: Where, days: set[int]) -> list[int]:
    return [
        sum(counts.get(slot, 0) for cell, day, counts in added if cell == where and day in days) for slot in range(SIZE)
    ]


@settings(max_examples=60, deadline=None)
@given(_added)
def test_days_and_totals_are_the_sums_of_what_was_added(added: Added) -> None:
    cohorts = filled(added)
    for where in (ALL, NORTH, OTHER):
        for day in range(2, 7):
            assert cohorts.day(where, day).tolist() == brute(added, where, {day})
        assert cohorts.total(where).tolist() == brute(added, where, set(range(10)))
    assert set(cohorts.cells()) == {(where, day) for where, day, _ in added}


@settings(max_examples=40, deadline=None)
@given(_added, st.integers(0, 3 * PARTS))
def test_rows_written_when_they_changed_bring_everything_back(added: Added, at: int) -> None:
    cohorts = Cohorts(SIZE)
    table: dict[tuple[Where, str], bytes] = {}
    for number, (where, day, counts) in enumerate(added):
        slots = np.array(sorted(counts), dtype=np.int32)
        cohorts.add(where, day, slots, np.array([float(counts[slot]) for slot in sorted(counts)]))
        if number % (1 + at) == 0:
            commit(cohorts, table)
    commit(cohorts, table)
    again = restored(table)
    assert again.cells() == cohorts.cells()
    assert again.take_changes() == ({}, [])
    for key in cohorts.cells():
        assert (again.day(*key) == cohorts.day(*key)).all()


def commit(cohorts: Cohorts, table: dict[tuple[Where, str], bytes]) -> None:
    written, removed = cohorts.take_changes()
    for name in removed:
        del table[name]
    table |= written


def restored(table: dict[tuple[Where, str], bytes]) -> Cohorts:
    again = Cohorts(SIZE)
    for where in {where for where, _ in table}:
        again.restore(where, {name: row for (cell, name), row in table.items() if cell == where})
    return again


def test_a_day_is_written_whole_after_so_many_rows_that_add_to_it_also_by_a_successor() -> None:
    table: dict[tuple[Where, str], bytes] = {}
    cohorts = Cohorts(SIZE)
    for turn in range(3 * INCREMENTS):
        cohorts.add(ALL, 3, np.array([1], dtype=np.int32), np.array([1.0]))
        commit(cohorts, table)
        assert len(table) <= INCREMENTS + 1
        cohorts = restored(table)
        assert cohorts.day(ALL, 3)[1] == turn + 1
    assert (ALL, "3") in table


def test_parts_are_summed_before_they_are_many() -> None:
    cohorts = filled([(ALL, 3, {1: 1})] * (10 * PARTS))
    assert all(len(parts) < PARTS for parts in cohorts._parts.values())
    assert cohorts.day(ALL, 3)[1] == 10 * PARTS


@settings(max_examples=60, deadline=None)
@given(_added, st.integers(2, 7), st.integers(0, 3 * PARTS), st.integers(1, 5))
def test_days_that_are_dropped_leave_no_row_and_take_nothing_more(
    added: Added, first: int, at: int, every: int
) -> None:
    cohorts = Cohorts(SIZE)
    table: dict[tuple[Where, str], bytes] = {}
    for number, (where, day, counts) in enumerate(added):
        if number == at:
            cohorts.drop_before(first)
        slots = np.array(sorted(counts), dtype=np.int32)
        cohorts.add(where, day, slots, np.array([float(counts[slot]) for slot in sorted(counts)]))
        if number % every == 0:
            commit(cohorts, table)
            if number % (3 * every) == 0:
                cohorts = restored(table)
    cohorts.drop_before(first)
    cohorts.drop_before(first - 1)
    commit(cohorts, table)
    assert {int(name.split("+")[0]) for _, name in table} == {day for _, day, _ in added if day >= first}
    for where in (ALL, NORTH, OTHER):
        for day in range(first, 7):
            assert restored(table).day(where, day).tolist() == brute(added, where, {day})
        assert cohorts.total(where).tolist() == brute(added, where, set(range(first, 7)))


def test_the_first_version_gets_what_was_all_traffic_and_both_go_on_apart() -> None:
    cohorts = filled([(ALL, 3, {0: 2}), (NORTH, 4, {1: 5})])
    cohorts.take_changes()
    cohorts.split("1")
    first, north = ALL._replace(version="1"), NORTH._replace(version="1")
    assert set(cohorts.take_changes()[0]) == {(first, "3"), (north, "4")}
    cohorts.add(first, 3, np.array([0], dtype=np.int32), np.array([1.0]))
    assert (cohorts.day(first, 3)[0], cohorts.day(ALL, 3)[0], cohorts.day(north, 4)[1]) == (3, 2, 5)


def reference(shift: float, features: tuple[str, ...], business: tuple[str, ...] = ("euro",)) -> Reference:
    rng = np.random.default_rng(2)
    table = {name: (rng.normal(size=60) + shift).tolist() for name in features}
    score = rng.random(60)
    return build_reference(
        {**table, "score": score.tolist(), "label": (score > 0.4).astype(float).tolist()}, business=business
    )


def test_under_a_new_reference_counts_over_its_edges_go_and_all_others_stay() -> None:
    old, new = reference(0.0, ("age", "gone")), reference(5.0, ("extra", "age", "stay"))
    cohorts = Cohorts(old.layout.size)
    whole = old.cell(None)
    assert whole is not None
    slots = np.flatnonzero(whole).astype(np.int32)
    cohorts.add(ALL, 3, slots, whole[slots])
    cohorts.take_changes()
    cohorts.remap(old.layout.sections, new.layout)
    assert set(cohorts.take_changes()[0]) == {(ALL, "3")}
    moved = cohorts.day(ALL, 3)
    assert moved.shape == (new.layout.size,)
    for name in ("rows", "outcomes", "positives", "negatives", "confusion", "score_sum", "calibration_rows"):
        assert (new.layout.part(moved, name) == old.layout.part(whole, name)).all()
        assert new.layout.part(moved, name).any()
    for name in ("feature:age", "feature:stay", "feature:extra", "z:age", "score", "labelled"):
        assert not new.layout.part(moved, name).any()
    assert moved.sum() < whole.sum()
