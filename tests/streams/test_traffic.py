"""Shares of the traffic: cycles are no news, a segment that goes, halves or doubles is."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from leadline.config import Limits
from streams.judge.incidents import TRAFFIC_SHARE, Where
from streams.judge.spans import Spans
from streams.judge.traffic import ALL, Traffic, TrafficState

PANE_S = 900.0
PANES_A_DAY = 96
ALPHA = 1e-8
Shares = Callable[[int], dict[str, float]]
"""Hour since the beginning (a Monday, 00:00 UTC) to the share of each segment."""
MONDAY = 4 * PANES_A_DAY  # 1970-01-05


class Town:
    """A model's traffic, pane by pane, and what was found in it by day."""

    def __init__(self, seed: int, limits: Limits | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self.cells: dict[Where, Spans] = {}
        self.traffic = Traffic(self.cells, PANE_S, limits or Limits(warn=2.0, critical=4.0))
        self.pane = MONDAY

    def run(self, hours: int, shares: Shares, rows: float = 100.0) -> list[tuple[str, float, float]]:
        """(segment, hour, share) of everything that was found. `rows` an hour."""
        told = []
        for _ in range(round(hours * HOUR)):
            hour = (self.pane - MONDAY) // 4
            n = int(self.rng.poisson(rows / 4))
            self._take(None, n)
            for name, share in shares(hour).items():
                self._take(name, int(self.rng.binomial(n, share)))
            self.pane += 1
            for level in range(6):
                if self.pane % (1 << level) == 0:
                    for spans in self.cells.values() if level else ():
                        spans.close(level, (self.pane >> level) - 1)
                    told += [
                        (name, (self.pane - MONDAY) / 4, finding.value)
                        for name, finding in self.traffic.findings(level, 8, (self.pane >> level) - 1, ALPHA)
                    ]
        return told

    def _take(self, segment: str | None, rows: int) -> None:
        where = Where(None, "live", segment)
        spans = self.cells.setdefault(where, Spans(6, 2, 0, 1))
        if rows:
            spans.put(self.pane, np.array([0], dtype=np.int32), np.array([float(rows)]))
            self.traffic.count(segment, self.pane, rows)


HOUR = 4


def steady(hour: int) -> dict[str, float]:
    return {"site=a": 0.6, "site=b": 0.3, "site=c": 0.1}


def cycles(hour: int) -> dict[str, float]:
    """b is open from eight to six, c on workdays alone."""
    by_day, weekend = 8 <= hour % 24 < 18, hour // 24 % 7 >= 5
    b = 0.3 if by_day else 0.0
    c = 0.0 if weekend else 0.1
    return {"site=a": 1.0 - b - c, "site=b": b, "site=c": c}


def without(shares: Shares, segment: str) -> Shares:
    return lambda hour: {**shares(hour), segment: 0.0}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shares", [steady, cycles])
def test_daily_and_weekly_cycles_are_no_news(shares: Shares, seed: int) -> None:
    assert Town(seed).run(24 * 21, shares) == []


@pytest.mark.parametrize("shares", [steady, cycles])
@pytest.mark.parametrize("segment", ["site=b", "site=c"])
def test_a_segment_that_vanishes_is_told_within_hours(shares: Shares, segment: str) -> None:
    town = Town(5)
    assert town.run(24 * 8 + 9, shares) == []
    told = town.run(9, without(shares, segment))
    assert told
    assert {name for name, _, _ in told} == {segment}
    assert told[0][1] - (24 * 8 + 9) <= 5.0
    assert told[0][2] < 0.1


def test_a_segment_that_trebles_is_told() -> None:
    town = Town(6)
    town.run(24 * 3, steady)
    told = town.run(8, lambda hour: {"site=a": 0.5, "site=b": 0.2, "site=c": 0.3})
    assert {name for name, _, _ in told} == {"site=c"}


def test_a_share_that_moves_by_less_than_its_limit_is_not_told() -> None:
    town = Town(7)
    town.run(24 * 3, steady)
    assert town.run(24, lambda hour: {"site=a": 0.5, "site=b": 0.4, "site=c": 0.1}, rows=5000.0) == []


def test_a_segment_that_is_new_is_not_told() -> None:
    town = Town(8)
    town.run(24 * 3, steady)
    told = town.run(24, lambda hour: {"site=a": 0.5, "site=b": 0.2, "site=new": 0.2, "site=c": 0.1})
    assert told == []


def test_nothing_is_told_before_a_whole_day_has_been_seen() -> None:
    town = Town(9)
    town.run(20, steady)
    assert town.run(5, without(steady, "site=b")) == []


def test_the_first_weekend_is_not_compared_with_workdays() -> None:
    town = Town(10)
    town.run(24 * 5, steady)
    assert town.run(23, without(steady, "site=b")) == []


def test_the_return_after_a_day_without_it_is_no_news() -> None:
    town = Town(11)
    town.run(24 * 8, steady)
    assert town.run(12, without(steady, "site=b"))
    back = town.run(36, steady)
    # Spans that still hold the gap go on telling of it; nothing tells of a rise.
    assert all(share < 0.3 for _, _, share in back)


def test_a_fault_is_looked_at_again_against_the_time_before_it_alone() -> None:
    town = Town(12)
    town.run(24 * 8, steady)
    began = town.pane * PANE_S
    town.run(40, without(steady, "site=b"))
    block = (town.pane >> 2) - 1
    assert not list(town.traffic.findings(2, 8, block, ALPHA, only="site=b")), (
        "at this time yesterday it was gone as well"
    )
    again = list(town.traffic.findings(2, 8, block, ALPHA, only="site=b", before=began))
    assert [(name, finding.signal) for name, finding in again] == [("site=b", TRAFFIC_SHARE)]
    assert again[0][1].severity == "critical"


@pytest.mark.parametrize("hours", [0, 5, 24 * 9 + 5])
def test_what_was_saved_goes_on_as_if_nothing_had_happened(hours: int) -> None:
    whole, stopped = Town(13), Town(13)
    whole.run(hours, cycles)
    stopped.run(hours, cycles)
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(stopped.traffic.save()), type=TrafficState)
    stopped.traffic = Traffic(stopped.cells, PANE_S, stopped.traffic.limits)
    stopped.traffic.restore(state)
    assert stopped.run(12, without(steady, "site=a")) == whole.run(12, without(steady, "site=a"))
    assert stopped.traffic.save() == whole.traffic.save()


def test_all_traffic_is_not_a_segment_of_itself() -> None:
    town = Town(14)
    town.run(48, steady)
    assert ALL in town.cells
    assert all(name for name, _, _ in town.run(6, without(steady, "site=b")))


def test_segments_that_come_in_turns_are_no_fault() -> None:
    # A batch job sends one after another: shares of an hour are anything between nothing and all.
    for seed in range(3):
        town = Town(20 + seed)
        turn = {hour: ("a", "b", "c")[town.rng.integers(3)] for hour in range(-1, 24 * 14 // 3 + 1)}
        assert (
            town.run(24 * 14, lambda hour, turn=turn: {f"site={s}": float(turn[hour // 3] == s) for s in "abc"}) == []
        )
