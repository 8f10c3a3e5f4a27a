"""The committable offset is the first that is not done."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sinks.progress import Progress, Ticket


def begun(progress: Progress, offset: int, partition: int = 0) -> Ticket:
    ticket = progress.begin(partition, offset)
    assert ticket is not None
    return ticket


def started() -> Progress:
    progress = Progress()
    progress.assigned([0, 1])
    return progress


def test_an_offset_waits_for_all_before_it() -> None:
    progress = started()
    first, second = begun(progress, 5), begun(progress, 6)
    progress.finish(second)
    assert progress.take() == {}
    progress.finish(first)
    assert progress.take() == {0: 7}
    assert progress.take() == {}


def test_an_offset_waits_for_each_of_its_sinks() -> None:
    progress = started()
    ticket = begun(progress, 0)
    ticket.open = 2
    progress.finish(ticket)
    assert progress.take() == {}
    progress.finish(ticket)
    assert progress.take() == {0: 1}


def test_holes_in_the_offsets_are_no_hindrance() -> None:
    progress = started()
    for offset in (3, 10, 11):
        progress.finish(begun(progress, offset))
    assert progress.take() == {0: 12}


def test_partitions_do_not_wait_for_each_other() -> None:
    progress = started()
    begun(progress, 0, partition=0)
    progress.finish(begun(progress, 8, partition=1))
    assert progress.take() == {1: 9}


def test_what_was_begun_before_a_revocation_commits_nothing_after_it() -> None:
    progress = started()
    old = begun(progress, 4)
    progress.revoked([0])
    assert progress.begin(0, 5) is None
    progress.assigned([0])
    assert not progress.holds(old)
    again = begun(progress, 4)
    progress.finish(old)
    assert progress.take() == {}
    progress.finish(again)
    assert progress.take() == {0: 5}


@given(st.data())
def test_the_committable_offset_follows_any_order_of_finishing(data: st.DataObject) -> None:
    offsets = sorted(data.draw(st.sets(st.integers(0, 50), min_size=1)))
    progress = started()
    tickets = [begun(progress, offset) for offset in offsets]
    done: set[int] = set()
    committed = None
    for ticket in data.draw(st.permutations(tickets)):
        progress.finish(ticket)
        done.add(ticket.offset)
        expected = None
        for offset in offsets:
            if offset not in done:
                break
            expected = offset + 1
        committed = progress.take().get(0, committed)
        assert committed == expected
    assert progress.under_way == 0
