"""Multiple testing against brute force, scipy and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from detectors.base import BadParameter, BadValues
from detectors.ebh import adjusted_p_values, benjamini_hochberg, e_bh


@given(st.lists(st.floats(0.0, 1e6), max_size=12), st.sampled_from([0.01, 0.1, 0.5]))
def test_e_bh_keeps_the_largest_k_that_pass(e_values: list[float], alpha: float) -> None:
    ordered = sorted(e_values, reverse=True)
    best = max((k for k in range(1, len(ordered) + 1) if k * ordered[k - 1] * alpha >= len(ordered)), default=0)
    with np.errstate(divide="ignore"):
        kept = e_bh(np.log(np.array(e_values, dtype=float)), alpha)
    close = any(abs(k * e * alpha - len(ordered)) < 1e-9 for k, e in enumerate(ordered, 1))
    assert close or kept.sum() == best
    if 0 < kept.sum() < len(e_values):
        assert np.array(e_values)[kept].min() >= np.array(e_values)[~kept].max()


def test_a_single_huge_e_value_among_a_thousand_is_found_without_overflow() -> None:
    log_e = np.full(1_000, -np.inf)
    log_e[17] = 5_000.0
    assert np.flatnonzero(e_bh(log_e, 0.001)).tolist() == [17]
    assert not e_bh(np.zeros(1_000), 0.5).any()


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20), st.sampled_from([0.01, 0.1, 0.5]))
def test_benjamini_hochberg_agrees_with_scipy(p_values: list[float], alpha: float) -> None:
    oracle = stats.false_discovery_control(p_values)
    np.testing.assert_allclose(adjusted_p_values(p_values), oracle, rtol=1e-12)
    np.testing.assert_array_equal(benjamini_hochberg(p_values, alpha), adjusted_p_values(p_values) <= alpha)


def test_e_bh_holds_its_rate_under_full_dependence() -> None:
    rng = np.random.default_rng(1)
    # one shared draw makes all 50 e-values equal: the worst dependence; each has mean 1
    e_values = np.where(rng.random(20_000) < 0.01, 100.0, 0.0)
    with np.errstate(divide="ignore"):
        any_false = np.mean([e_bh(np.full(50, np.log(e)), 0.02).any() for e in e_values])
    assert any_false <= 0.02


def test_values_outside_their_range_are_refused() -> None:
    for bad in ([np.nan], [[0.1]]):
        with pytest.raises(BadValues):
            e_bh(bad, 0.1)
    for bad in ([1.5], [-0.1], [np.nan]):
        with pytest.raises(BadValues):
            benjamini_hochberg(bad, 0.1)
    for alpha in (0.0, 1.0, np.nan):
        with pytest.raises(BadParameter):
            e_bh([1.0], alpha)
    assert e_bh([], 0.1).size == 0
    assert adjusted_p_values([]).size == 0
