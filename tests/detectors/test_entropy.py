"""Entropy, confidence and collapse against scipy.stats and counting by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from detectors.entropy import (
    answers,
    binary_confidence,
    binary_entropy,
    class_confidence,
    class_entropy,
    collapse,
    most_frequent,
    spread_from_sums,
    spread_ratio,
)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_binary_entropy_is_scipys(scores: list[float]) -> None:
    expected = [stats.entropy([p, 1 - p]) for p in scores]
    assert binary_entropy(scores) == pytest.approx(expected, abs=1e-9)


def test_class_entropy_is_scipys_row_by_row() -> None:
    chances = np.random.default_rng(0).dirichlet([0.1, 1, 5, 0.01], (20, 30))
    assert class_entropy(chances) == pytest.approx(stats.entropy(chances, axis=-1), abs=1e-9)
    assert class_entropy([1.0, 0.0, 0.0]) == 0.0
    assert class_entropy(np.full(4, 0.25)) == pytest.approx(math.log(4))


def test_what_is_no_probability_has_no_entropy() -> None:
    assert np.all(np.isnan(binary_entropy([-0.1, 1.1, math.nan])))
    assert np.all(np.isnan(binary_confidence([-0.1, 1.1, math.nan])))
    assert np.isnan(class_entropy([1.5, -0.5]))


def test_confidence_is_the_chance_of_the_likelier_class() -> None:
    assert binary_confidence([0.1, 0.5, 0.7]) == pytest.approx([0.9, 0.5, 0.7])
    assert class_confidence([[0.2, 0.5, 0.3]]) == pytest.approx([0.5])


def test_at_every_prefix_the_spread_is_numpys() -> None:
    values = binary_entropy(np.random.default_rng(1).random(3000))
    for stop in (1, 5, 60, 3000):
        part = values[:stop]
        got = spread_from_sums(stop, part.sum(), (part**2).sum(), math.log(2))
        assert got.value == pytest.approx(part.std(), abs=1e-7)
    assert np.isnan(spread_from_sums(0, 0, 0, 1.0).value)


def test_the_error_of_a_spread_is_never_too_small() -> None:
    rng = np.random.default_rng(2)
    for values in (rng.random((3000, 200)), rng.random((3000, 200)) < 0.03, rng.beta(0.2, 3, (3000, 200))):
        got = spread_from_sums(200, values.sum(axis=1), (values**2).sum(axis=1), 1.0)
        assert np.std(got.value) <= 1.05 * np.mean(got.se)


def test_a_ratio_of_spreads_carries_both_errors() -> None:
    live, ref = spread_from_sums(100, 50, 30, 1.0), spread_from_sums(1000, 500, 260, 1.0)
    got = spread_ratio(live, ref)
    assert got.value == pytest.approx(math.sqrt(0.05 / 0.01))
    assert got.se == pytest.approx(got.value * math.hypot(live.se / live.value, ref.se / ref.value))
    assert np.isnan(spread_ratio(live, spread_from_sums(9, 0, 0, 1.0)).value)


def test_answers_that_agree_to_a_millionth_are_one() -> None:
    assert most_frequent(answers([0.25, 0.2500000001, 0.7, 0.25])) == (250_000, 3)
    assert most_frequent([5, 4, 5, 4]) == (4, 2)
    with pytest.raises(ValueError, match="no answers"):
        most_frequent([])


def test_a_few_equal_answers_are_no_collapse_and_many_are() -> None:
    got = collapse([5, 200, 160], [5, 200, 200], alpha=1e-3)
    assert got.share.value == pytest.approx([1.0, 1.0, 0.8])
    assert got.floor[0] > 1.0
    assert got.log_p[0] == pytest.approx(5 * math.log(0.8))
    assert got.log_p[1] < math.log(1e-12)
    assert got.log_p[2] > math.log(0.4)


def test_the_floor_is_the_least_share_that_convinces() -> None:
    got = collapse(0, 200, alpha=1e-3)
    needed = round(float(got.floor) * 200)
    assert stats.binom.sf(needed - 1, 200, 0.8) <= 1e-3 < stats.binom.sf(needed - 2, 200, 0.8)


def test_a_rare_event_model_in_good_health_has_not_collapsed() -> None:
    got = collapse(990, 1000, reference_top=9_900, reference_n=10_000)
    assert got.limit > 0.99
    assert got.log_p > math.log(0.05)
    assert collapse(990, 1000).log_p < math.log(1e-12)
    assert np.isnan(collapse(0, 0).share.value)
