"""Ratios of sums and lifts against numpy over the rows and against repeated samples."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from detectors.ratios import RatioSums, lift, per_request, ratio, ratio_sums
from detectors.shares import Estimate


def clicks(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    shown = rng.integers(1, 30, shape)
    taste = rng.beta(2, 30, shape)  # requests differ: the naive binomial error would be too small
    return rng.binomial(shown, taste), shown


def test_at_every_prefix_a_ratio_is_numpys() -> None:
    y, x = clicks(np.random.default_rng(0), (2000,))
    for stop in (2, 10, 99, 2000):
        got = ratio(ratio_sums(y[:stop], x[:stop]))
        r = y[:stop].sum() / x[:stop].sum()
        residual = y[:stop] - r * x[:stop]
        assert got.value == pytest.approx(r, abs=1e-9)
        assert got.se == pytest.approx(residual.std(ddof=1) * math.sqrt(stop) / x[:stop].sum(), abs=1e-9)


def test_per_request_is_the_mean_and_its_error() -> None:
    revenue = np.random.default_rng(1).lognormal(0, 1, 500)
    got = ratio(ratio_sums(revenue))
    assert got.value == pytest.approx(revenue.mean())
    assert got.se == pytest.approx(stats.sem(revenue))
    again = ratio(per_request(500, revenue.sum(), (revenue**2).sum()))
    assert again.se == pytest.approx(float(got.se), rel=1e-9)


def test_the_errors_describe_repeated_samples() -> None:
    rng = np.random.default_rng(2)
    y, x = clicks(rng, (4000, 200))
    sums = RatioSums(np.full(4000, 200.0), y.sum(1), x.sum(1), (y * y).sum(1), (x * x).sum(1), (x * y).sum(1))
    got = ratio(sums)
    assert np.std(got.value) == pytest.approx(np.mean(got.se), rel=0.04)
    naive = np.sqrt(got.value * (1 - got.value) / sums.x)
    assert np.mean(naive) < 0.9 * np.std(got.value)
    half = 2000
    live, control = (Estimate(*(part[cut] for part in got)) for cut in (slice(half), slice(half, None)))
    lifts = lift(live, control)
    assert np.std(lifts.value) == pytest.approx(np.mean(lifts.se), rel=0.06)
    assert np.std(lifts.z) == pytest.approx(1.0, abs=0.06)


def test_a_lift_is_relative_and_tested_on_the_difference() -> None:
    got = lift(
        Estimate(np.array(0.09), np.array(0.003), np.array(9)), Estimate(np.array(0.1), np.array(0.004), np.array(9))
    )
    assert got.value == pytest.approx(-0.1)
    assert got.z == pytest.approx(-2.0)
    assert math.exp(got.log_p) == pytest.approx(2 * stats.norm.sf(2.0))
    assert got.se == pytest.approx(0.9 * math.hypot(0.003 / 0.09, 0.004 / 0.1))


def test_no_denominator_is_nan_and_no_difference_is_no_evidence() -> None:
    assert np.isnan(ratio(ratio_sums([0.0, 0.0], [0.0, 0.0])).value)
    assert np.isnan(ratio(ratio_sums([])).value)
    assert np.isnan(ratio(ratio_sums([3.0])).se)
    flat = ratio(ratio_sums([1.0, 1.0]))
    assert (flat.se, lift(flat, flat).z, lift(flat, flat).log_p) == (0.0, 0.0, 0.0)


@given(st.integers(0, 2**31), st.integers(1, 99))
def test_sums_merge_like_the_rows_they_hold(seed: int, cut: int) -> None:
    y, x = clicks(np.random.default_rng(seed), (100,))
    for total, a, b in zip(ratio_sums(y, x), ratio_sums(y[:cut], x[:cut]), ratio_sums(y[cut:], x[cut:]), strict=True):
        assert a + b == total
