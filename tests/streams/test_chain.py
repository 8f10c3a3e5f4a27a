"""The chain of offsets as a plain object: holes, repeats, rewinds, and fairness between an owner's topics."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.records import Records
from streams.core.stage import Record
from streams.transport.chain import Chain, Lane, Place, count_until, share

A = Place("a", 0)


def records(*offsets: int, timestamp: float = 0.0) -> Records:
    return Records.of(Record(offset, b"k", b"v", timestamp) for offset in offsets)


def lane(*timestamps: float, topic: str = "a", handed: float | None = None) -> Lane:
    held = Records.of(Record(offset, None, None, timestamp) for offset, timestamp in enumerate(timestamps))
    return Lane(Place(topic, 0), 0, len(held), held, handed=handed)


def placed(offset: int) -> Chain:
    chain = Chain()
    chain.place({A: offset})
    return chain


def test_records_without_a_place_are_not_taken() -> None:
    chain = placed(0)
    chain.clear()
    assert chain.arrive(A, records(0, 1), 0.0)
    assert chain.lanes == {}


def test_a_part_begins_where_the_last_one_ended() -> None:
    chain = placed(5)
    assert chain.arrive(A, records(5, 6, 7), 0.0)
    first = chain.lanes[A].take(2)
    second = chain.lanes[A].take(9)
    assert (first.begin, first.end, len(first.records)) == (5, 7, 2)
    assert (second.begin, second.end, len(second.records)) == (7, 8, 1)


def test_records_below_the_place_are_cut() -> None:
    chain = placed(7)
    assert chain.arrive(A, records(5, 6, 7, 8), 0.0)
    assert [record.offset for record in chain.lanes[A].records] == [7, 8]
    assert chain.arrive(A, records(6, 7, 8), 0.0)
    assert len(chain.lanes[A].records) == 2


def test_a_hole_is_asked_about_before_it_is_believed() -> None:
    chain = placed(10)
    assert not chain.arrive(A, records(13, 14), 0.0)
    assert chain.positions() == {A: 10}
    assert chain.lanes[A].records == []
    assert chain.arrive(A, records(13, 14), 0.1)
    assert chain.lanes[A].holes == 3
    assert chain.lanes[A].take(9).begin == 10


def test_records_that_were_lost_on_the_way_come_back_by_asking() -> None:
    chain = placed(10)
    assert not chain.arrive(A, records(13, 14), 0.0)
    assert chain.arrive(A, records(10, 11, 12, 13, 14), 0.1)
    assert chain.lanes[A].holes == 0
    assert [record.offset for record in chain.lanes[A].records] == [10, 11, 12, 13, 14]


def test_a_hole_inside_a_fetch_is_asked_about_from_its_beginning() -> None:
    chain = placed(10)
    assert not chain.arrive(A, records(10, 11, 15), 0.0)
    assert chain.positions() == {A: 12}
    assert chain.arrive(A, records(15, 16), 0.1)
    part = chain.lanes[A].take(9)
    assert (part.begin, part.end, [record.offset for record in part.records]) == (10, 17, [10, 11, 15, 16])
    assert chain.lanes[A].holes == 3


def test_what_was_asked_about_says_nothing_of_a_later_reading() -> None:
    """The log has shown the missing record; the lane goes back, and the same record is lost once more."""
    chain = placed(0)
    assert not chain.arrive(A, records(0, 2), 0.0)
    assert chain.arrive(A, records(1, 2), 0.1)
    chain.place({A: 0})
    assert not chain.arrive(A, records(0, 2), 0.3)
    assert chain.arrive(A, records(1, 2), 0.4)
    assert [record.offset for record in chain.lanes[A].records] == [0, 1, 2]


def test_a_lane_that_has_shown_a_hole_twice_is_trusted_for_a_while_and_then_asked_again() -> None:
    chain = placed(0)
    chain.arrive(A, records(1), 0.0)
    assert chain.arrive(A, records(1), 0.1)
    assert chain.arrive(A, records(3, 5), 1.0)
    assert chain.lanes[A].holes == 3
    assert not chain.arrive(A, records(8), 100.0)


def test_another_hole_than_the_one_asked_about_is_asked_about_too() -> None:
    chain = placed(0)
    assert not chain.arrive(A, records(5), 0.0)
    assert not chain.arrive(A, records(3), 0.1)
    assert chain.lanes[A].records == []


def test_a_lane_is_at_its_end_when_the_log_ends_behind_what_came_and_until_more_comes() -> None:
    chain = placed(0)
    lane = chain.lanes[A]
    assert chain.arrive(A, records(0, 1, 2), 0.0)
    chain.end(A, 2)  # told before the last record came
    assert not lane.at_end
    chain.end(A, 5)  # two markers stand there
    assert lane.at_end
    assert chain.arrive(A, records(3), 0.0) or chain.arrive(A, records(3), 0.0)
    assert not lane.at_end
    chain.end(A, 4)
    chain.place({A: 4})
    assert not chain.lanes[A].at_end
    chain.end(Place("another", 0), 9)  # not ours any more


def test_a_part_from_before_the_last_placing_is_known_as_such() -> None:
    chain = placed(0)
    chain.arrive(A, records(0, 1, 2), 0.0)
    first, then = chain.lanes[A].take(1), chain.lanes[A].take(1)
    assert not chain.is_read_again(A, then)
    chain.place({A: first.begin})
    assert chain.is_read_again(A, then)
    chain.arrive(A, records(0, 1), 0.0)
    assert not chain.is_read_again(A, chain.lanes[A].take(2))
    assert not chain.is_read_again(Place("another", 0), then)


def test_silence_is_counted_while_one_listens_and_until_something_comes() -> None:
    chain = placed(0)
    chain.listened(0.5)
    chain.listened(0.25)
    assert chain.lanes[A].silent_s == 0.75
    chain.arrive(A, records(0), 1e6)
    assert chain.lanes[A].silent_s == 0.0


def test_placing_a_lane_anew_forgets_what_it_held() -> None:
    chain = placed(0)
    chain.arrive(A, records(0, 1, 2), 0.0)
    chain.place({A: 1})
    assert chain.lanes[A].records == []
    assert chain.positions() == {A: 1}


@given(st.lists(st.integers(1, 6), max_size=30), st.data())
def test_whatever_is_dropped_between_fetches_every_record_is_handed_over_once(
    sizes: list[int], data: st.DataObject
) -> None:
    """The log is read in pieces; some vanish, some come twice. A second asking is answered truly, as by librdkafka."""
    end = sum(sizes)
    chain, got, position = placed(0), [], 0
    asking = False
    while chain.positions()[A] < end:
        piece = list(range(position, min(end, position + data.draw(st.integers(1, 6)))))
        position += len(piece)
        fate = "deliver" if asking or position == end else data.draw(st.sampled_from(["deliver", "lose", "repeat"]))
        asking = False
        for _ in range({"lose": 0, "deliver": 1, "repeat": 2}[fate]):
            if not chain.arrive(A, records(*piece), 0.0):
                position, asking = chain.positions()[A], True
                break
        got += [record.offset for record in chain.lanes[A].take(data.draw(st.integers(1, 10))).records]
    got += [record.offset for record in chain.lanes[A].take(10_000).records]
    assert got == list(range(end))
    assert chain.lanes[A].holes == 0


def test_alone_a_lane_gives_all_it_has() -> None:
    assert share([lane(1, 2, 3)], [False], 10, 0.0) == [3]


def test_a_lane_that_is_behind_holds_the_other_at_its_own_time() -> None:
    fast, slow = lane(1, 2, 8, 9), lane(1, 2, 3, topic="b")
    assert share([fast, slow], [False, True], 10, 0.0) == [2, 3]
    assert share([fast, slow], [False, True], 10, 5.0) == [3, 3]


def test_a_lane_that_is_not_behind_holds_nobody() -> None:
    assert share([lane(1, 2, 8, 9), lane(1, topic="b")], [False, False], 10, 0.0) == [4, 1]


def test_a_lane_behind_from_which_nothing_has_come_holds_everything() -> None:
    assert share([lane(1, 2), lane(topic="b")], [False, True], 10, 2.0) == [0, 0]
    assert share([lane(1, 2), lane(topic="b", handed=0.5)], [False, True], 10, 1.0) == [1, 0]


def test_the_limit_cuts_both_lanes_at_one_time() -> None:
    a, b = lane(*range(100)), lane(*[number / 10 for number in range(100)], topic="b")
    taken = share([a, b], [False, False], 55, 0.0)
    assert sum(taken) == 55
    assert abs(a.records[taken[0] - 1].timestamp - b.records[taken[1] - 1].timestamp) <= 1


def test_the_limit_is_kept_when_all_records_are_of_one_time() -> None:
    assert sum(share([lane(*[1.0] * 50), lane(*[1.0] * 50, topic="b")], [False, False], 30, 0.0)) == 30


@given(
    st.lists(st.lists(st.floats(0, 100), max_size=40), min_size=1, max_size=3),
    st.integers(1, 50),
    st.floats(0, 10),
)
def test_something_moves_whenever_nobody_is_behind_with_nothing(
    times: list[list[float]], limit: int, slack: float
) -> None:
    lanes = [lane(*sorted(part), topic=str(index)) for index, part in enumerate(times)]
    behind = [bool(one.records) for one in lanes]
    counts = share(lanes, behind, limit, slack)
    assert sum(counts) <= limit
    assert all(0 <= count <= len(one.records) for count, one in zip(counts, lanes, strict=True))
    assert (sum(counts) > 0) == any(one.records for one in lanes)


@pytest.mark.parametrize(("until", "count"), [(0.5, 0), (1.0, 2), (2.0, 3), (9.0, 4)])
def test_records_are_counted_until_a_time_inclusively(until: float, count: int) -> None:
    assert count_until(lane(1, 1, 2, 3).records, until) == count
