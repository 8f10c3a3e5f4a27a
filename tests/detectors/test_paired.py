"""The confidence sequence covers at all times, finds real differences, and knows which way is better."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.paired import Interval, PairedSums, confidence_sequence, decide, start, update


def differences(kind: str, rng: np.random.Generator, shape: tuple[int, int], mean: float) -> np.ndarray:
    """Differences in [-1, 1] with the given mean."""
    if kind == "coin":
        return np.where(rng.random(shape) < (1 + mean) / 2, 1.0, -1.0)
    if kind == "seldom":
        apart = rng.random(shape) < 0.02
        return np.where(apart, np.where(rng.random(shape) < (1 + mean / 0.02) / 2, 1.0, -1.0), 0.0)
    return np.clip(mean, -0.9, 0.9) + 0.1 * (rng.random(shape) * 2 - 1)


def follow(rows: np.ndarray, batch: int) -> list[PairedSums]:
    state, seen = start(rows.shape[:1]), []
    for at in range(0, rows.shape[1], batch):
        part = rows[:, at : at + batch]
        state = update(state, part.shape[1], part.sum(1), (part**2).sum(1), -1.0, 1.0)
        seen.append(state)
    return seen


@pytest.mark.parametrize(("kind", "mean"), [("coin", 0.0), ("coin", 0.4), ("seldom", 0.01), ("narrow", -0.3)])
@pytest.mark.parametrize("batch", [1, 17])
def test_the_interval_holds_the_mean_at_all_looks_together(kind: str, mean: float, batch: int) -> None:
    rows = differences(kind, np.random.default_rng(1), (500, 600), mean)
    missed = np.zeros(500, dtype=bool)
    for state in follow(rows, batch):
        interval = confidence_sequence(state, -1.0, 1.0, alpha=0.1)
        missed |= (interval.lower > mean) | (interval.upper < mean)
    assert missed.mean() <= 0.1


def test_the_mean_and_spread_are_those_of_the_rows() -> None:
    rows = differences("coin", np.random.default_rng(2), (3, 100), 0.1)
    last = follow(rows, 1)[-1]
    assert last.total / last.n == pytest.approx(rows.mean(axis=1))
    before = np.concatenate([np.zeros((3, 1)), (np.cumsum(rows, axis=1) / np.arange(1, 101))[:, :-1]], axis=1)
    assert last.spread == pytest.approx(((rows - before) ** 2).sum(axis=1))


def test_it_shrinks_to_within_thrice_the_fixed_time_interval() -> None:
    rows = differences("seldom", np.random.default_rng(3), (1, 100_000), 0.0)
    interval = confidence_sequence(follow(rows, 1000)[-1], -1.0, 1.0)
    fixed = 1.96 * rows.std() / np.sqrt(rows.size)
    assert fixed < (interval.upper - interval.lower)[0] / 2 < 3 * fixed


def test_a_better_candidate_is_promoted_and_a_worse_one_rolled_back() -> None:
    rng = np.random.default_rng(4)
    rows = np.concatenate([differences("seldom", rng, (1, 20_000), mean) for mean in (-0.01, 0.01, 0.0)])
    interval = confidence_sequence(follow(rows, 500)[-1], -1.0, 1.0)
    assert decide(interval, "lower").tolist() == ["promote", "rollback", "hold"]
    assert decide(interval, "higher").tolist() == ["rollback", "promote", "hold"]


def test_equal_models_are_promoted_once_they_are_surely_within_tolerance() -> None:
    rows = np.zeros((1, 2000))
    late = confidence_sequence(follow(rows, 500)[-1], -1.0, 1.0)
    assert decide(late, "lower", tolerance=0.02).tolist() == ["promote"]
    assert decide(late, "higher", tolerance=0.02).tolist() == ["promote"]
    assert decide(late, "lower").tolist() == ["hold"]


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 0.5))
def test_the_two_directions_mirror_each_other(mean: float, radius: float, tolerance: float) -> None:
    one = Interval(*(np.array(part) for part in (mean, mean - radius, mean + radius)))
    other = Interval(*(np.array(part) for part in (-mean, -mean - radius, -mean + radius)))
    assert decide(one, "lower", tolerance) == decide(other, "higher", tolerance)


def test_units_do_not_matter() -> None:
    rows = differences("coin", np.random.default_rng(5), (1, 400), 0.2)
    ms = 250 * rows
    seconds = confidence_sequence(follow(rows, 400)[-1], -1.0, 1.0)
    state = update(start((1,)), 400, ms.sum(1), (ms**2).sum(1), -250.0, 250.0)
    scaled = confidence_sequence(state, -250.0, 250.0)
    assert scaled.lower == pytest.approx(250 * seconds.lower)


def test_nothing_known_is_held_and_nonsense_is_refused() -> None:
    empty = confidence_sequence(start(), -1.0, 1.0)
    assert (empty.lower, empty.upper) == (-1.0, 1.0)
    assert np.isnan(empty.mean)
    assert decide(empty, "lower") == "hold"
    for total, squares in ((11.0, 11.0), (np.nan, 1.0), (1.0, np.inf)):
        with pytest.raises(ValueError, match="outside"):
            update(start(), 10, total, squares, -1.0, 1.0)
