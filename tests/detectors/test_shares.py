"""Shares against exact rational arithmetic and scipy.stats."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from detectors.shares import (
    binomial_log_tail,
    clopper_pearson,
    lower_limit,
    normal_log_p,
    share,
    share_shift,
    two_proportions,
    upper_limit,
)


def rational_log_tail(k: int, n: int, p: Fraction) -> float:
    """ln P(X >= k), summed in rationals."""
    total = sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))
    return math.log(total.numerator) - math.log(total.denominator)


@pytest.mark.parametrize(("k", "n", "p"), [(1, 5, 0.25), (30, 40, 0.125), (150, 200, 0.0625), (7, 300, 0.0078125)])
def test_the_upper_tail_is_the_rational_sum(k: int, n: int, p: float) -> None:
    assert binomial_log_tail(k, n, p) == pytest.approx(rational_log_tail(k, n, Fraction(p)), abs=1e-9)


@pytest.mark.parametrize(("k", "n", "p"), [(0, 50, 0.25), (3, 400, 0.125), (390, 400, 0.9990234375)])
def test_the_lower_tail_mirrors_the_upper_one(k: int, n: int, p: float) -> None:
    expected = rational_log_tail(n - k, n, 1 - Fraction(p))
    assert binomial_log_tail(k, n, p, "lower") == pytest.approx(expected, abs=1e-9)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(1e-12, 1.0))
def test_one_tail_asked_alone_is_the_same_number_as_in_an_array(kn: tuple[int, int], p: float) -> None:
    k, n = float(kn[0]), float(kn[1])
    for side in ("upper", "lower"):
        assert float(binomial_log_tail(k, n, p, side)) == binomial_log_tail([k, k], n, p, side)[1]  # type: ignore[arg-type]


def test_beyond_the_doubles_the_tail_is_a_close_upper_bound() -> None:
    exact = rational_log_tail(700, 800, Fraction(1, 64))
    got = float(binomial_log_tail(700, 800, 1 / 64))
    assert exact < -2000.0
    assert exact - 1e-6 <= got <= exact + 0.1


def test_extreme_tails_stay_in_order() -> None:
    tails = binomial_log_tail(np.arange(100, 20_000, 50), 20_000, 0.001)
    assert np.all(np.isfinite(tails))
    assert np.all(np.diff(tails) < 0.0)


def test_the_edges_of_the_tail() -> None:
    assert binomial_log_tail(0, 0, 0.3) == 0.0
    assert binomial_log_tail(0, 10, 0.0) == 0.0
    assert binomial_log_tail(1, 10, 0.0) == -np.inf
    assert binomial_log_tail(10, 10, 1.0) == 0.0
    assert binomial_log_tail(9, 10, 1.0, "lower") == -np.inf
    assert binomial_log_tail(0, 10, 0.0, "lower") == 0.0
    assert binomial_log_tail(11, 10, 0.5) == -np.inf
    assert np.isnan(binomial_log_tail(1, 10, np.nan))


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.001, 0.999))
def test_the_tails_agree_with_scipy(kn: tuple[int, int], p: float) -> None:
    k, n = kn
    assert math.exp(binomial_log_tail(k, n, p)) == pytest.approx(stats.binom.sf(k - 1, n, p), rel=1e-8)
    assert math.exp(binomial_log_tail(k, n, p, "lower")) == pytest.approx(stats.binom.cdf(k, n, p), rel=1e-8)


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(1e-8, 0.4))
def test_clopper_pearson_is_scipys_exact_interval(kn: tuple[int, int], alpha: float) -> None:
    k, n = kn
    expected = stats.binomtest(k, n).proportion_ci(1 - alpha, method="exact")
    low, high = clopper_pearson(k, n, alpha)
    assert low == pytest.approx(expected.low, rel=1e-6, abs=1e-12)
    assert high == pytest.approx(expected.high, rel=1e-6, abs=1e-12)


def test_none_of_m_rows_is_the_rule_of_three() -> None:
    m = np.array([30, 300, 3000])
    assert upper_limit(0, m, 0.05) == pytest.approx(1 - 0.05 ** (1 / m), rel=1e-10)
    assert upper_limit(0, 3000, 0.05) == pytest.approx(3 / 3000, rel=2e-3)


def test_an_empty_reference_limits_nothing() -> None:
    assert upper_limit(0, 0) == 1.0
    assert lower_limit(0, 0) == 0.0
    shift = share_shift(5, 10, 0, 0)
    assert shift.log_p == 0.0
    assert np.isnan(shift.reference)


def test_a_share_shift_is_the_tail_against_the_limit() -> None:
    shift = share_shift([60, 1], [1000, 1000], [300, 300], [10_000, 10_000], alpha=1e-3)
    up, down = upper_limit(300, 10_000, 1e-3), lower_limit(300, 10_000, 1e-3)
    assert shift.limit == pytest.approx(np.array([up, down]))
    assert shift.log_p[0] == pytest.approx(math.log(2 * stats.binom.sf(59, 1000, up)), abs=1e-9)
    assert shift.log_p[1] == pytest.approx(math.log(2 * stats.binom.cdf(1, 1000, down)), abs=1e-9)
    assert shift.delta == pytest.approx([0.03, -0.029])


def test_one_null_after_a_small_clean_reference_is_no_evidence() -> None:
    assert share_shift(1, 1000, 0, 200).log_p > math.log(0.05)
    assert share_shift(300, 1000, 0, 200).log_p < math.log(1e-12)


def test_sides_look_one_way_only() -> None:
    assert share_shift(1, 1000, 300, 1000, side="upper").log_p > -0.01
    assert share_shift(1, 1000, 300, 1000, side="lower").log_p < math.log(1e-12)


def test_clean_shares_stay_within_the_budget() -> None:
    rng = np.random.default_rng(3)
    p = rng.uniform(0.0, 0.2, 200_000)
    shift = share_shift(rng.binomial(400, p), 400, rng.binomial(2000, p), 2000, alpha=1e-4)
    assert np.mean(shift.log_p <= math.log(1e-3)) <= 1e-3 + 2e-4


def test_two_proportions_match_the_chi_square_test() -> None:
    k, n, j, m = 40, 300, 90, 400
    expected = stats.chi2_contingency([[k, n - k], [j, m - j]], correction=False)
    got = two_proportions(k, n, j, m)
    assert got.z**2 == pytest.approx(expected.statistic)
    assert math.exp(got.log_p) == pytest.approx(expected.pvalue)
    assert got.delta == pytest.approx(k / n - j / m)


def test_agreement_is_no_difference_and_an_empty_group_is_nan() -> None:
    assert two_proportions(0, 10, 0, 20).z == 0.0
    assert two_proportions(0, 10, 0, 20).log_p == 0.0
    assert np.isnan(two_proportions(0, 0, 1, 20).z)


def test_normal_tails_hold_at_any_distance() -> None:
    z = np.array([0.0, 1.0, -5.0, 40.0])
    assert normal_log_p(z) == pytest.approx(np.log(2.0) + stats.norm.logsf(np.abs(z)))
    assert normal_log_p(z, "upper") == pytest.approx(stats.norm.logsf(z))
    assert normal_log_p(z, "lower") == pytest.approx(stats.norm.logcdf(z))


def test_a_share_carries_its_error_and_knows_nothing_without_rows() -> None:
    got = share([3, 0, -1], [12, 0, 10])
    assert got.value[0] == 0.25
    assert got.se[0] == pytest.approx(math.sqrt(0.25 * 0.75 / 12))
    assert np.isnan(got.value[1])
    assert np.isnan(got.se[1])
    assert got.value[2] == 0.0
