"""Blocks close in order of time, then level, then announcement; each once."""

from __future__ import annotations

from streams.judge.closings import Closings
from streams.judge.incidents import Where

ONE, TWO = Where(None, "live", None), Where(None, "live", "site=north")


def test_the_earliest_end_comes_first_with_its_cells_by_level_and_in_order_of_announcement() -> None:
    closings = Closings()
    for end, level, where in ((8, 1, TWO), (3, 0, ONE), (8, 0, TWO), (8, 0, ONE), (8, 0, TWO)):
        closings.announce(end, level, where)
    assert closings.first() == 3
    assert list(closings.take()) == [(0, ONE)]
    assert closings.first() == 8
    assert list(closings.take()) == [(0, TWO), (0, ONE), (1, TWO)]
    assert closings.first() is None


def test_a_parent_that_ends_with_its_child_closes_in_the_same_turn() -> None:
    closings = Closings()
    closings.announce(8, 0, ONE)
    taken = []
    for level, where in closings.take():
        taken.append((level, where))
        if level < 3:
            closings.announce(8, level + 1, where)
            closings.announce(16, level + 1, where)
    assert taken == [(level, ONE) for level in range(4)]
    assert closings.first() == 16
    assert list(closings.take()) == [(1, ONE), (2, ONE), (3, ONE)]


def test_cleared_it_knows_nothing() -> None:
    closings = Closings()
    closings.announce(4, 0, ONE)
    closings.clear()
    assert closings.first() is None
    closings.announce(5, 0, TWO)
    assert (closings.first(), list(closings.take())) == (5, [(0, TWO)])
