"""Quantiles within the promised relative error, whatever was merged."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from detectors.base import BadParameter, BadValues, UnequalConfigurations
from detectors.sketch import LogMapping, QuantileSketch
from tests.detectors.data import DATA_SETS, PREFIXES

MAPPING = LogMapping()
LEVELS = np.array([0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0])
MAGNITUDE = st.floats(MAPPING.smallest, MAPPING.largest)
VALUES = hnp.arrays(
    np.float64, st.integers(0, 60), elements=st.one_of(MAGNITUDE, MAGNITUDE.map(lambda x: -x), st.just(0.0))
)


def assert_guarantee(mapping: LogMapping, estimate: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> None:
    truth = np.quantile(values, LEVELS, method="lower")
    bound = mapping.relative_error * np.abs(truth) * (1 + 1e-9) + mapping.smallest
    assert (np.abs(estimate - truth) <= bound).all()


@pytest.mark.parametrize("name", DATA_SETS)
@pytest.mark.parametrize("error", [0.01, 0.05])
def test_the_guarantee_holds_at_many_prefixes(name: str, error: float) -> None:
    mapping, values = LogMapping(relative_error=error), DATA_SETS[name]()
    for n in PREFIXES:
        assert_guarantee(mapping, mapping.quantile(mapping.count(values[:n]), LEVELS), values[:n])
        assert_guarantee(mapping, mapping.sketch(values[:n]).quantile(LEVELS), values[:n])


@given(VALUES.filter(len))
def test_the_guarantee_holds_for_any_values_of_its_range(values: npt.NDArray[np.float64]) -> None:
    assert_guarantee(MAPPING, MAPPING.sketch(values).quantile(LEVELS), values)


@given(MAGNITUDE, st.floats(1e-4, 0.4))
def test_every_value_is_answered_within_the_relative_error(value: float, error: float) -> None:
    mapping = LogMapping(relative_error=error)
    for signed in (value, -value):
        answer = mapping.value_of(mapping.assign(np.array([signed])))[0]
        assert abs(answer - signed) <= error * value * (1 + 1e-9)


@given(VALUES, VALUES)
def test_merging_is_sketching_everything_and_subtracting_undoes_it(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]
) -> None:
    one, two, both = MAPPING.sketch(a), MAPPING.sketch(b), MAPPING.sketch(np.concatenate([a, b]))
    for got, wanted in [
        (one.merge(two), both),
        (two.merge(one), both),
        (both.subtract(two), one),
        (one.merge(MAPPING.empty()), one),
        (one.subtract(one), MAPPING.empty()),
    ]:
        np.testing.assert_array_equal(got.bins, wanted.bins)
        np.testing.assert_array_equal(got.counts, wanted.counts)


@given(VALUES)
def test_bin_numbers_follow_the_order_of_values(values: npt.NDArray[np.float64]) -> None:
    bins = MAPPING.assign(np.sort(values))
    assert (np.diff(bins) >= 0).all()
    assert ((bins >= 0) & (bins < MAPPING.size)).all()


def test_values_beyond_the_range_saturate_or_count_as_zero() -> None:
    values = np.array([-1e300, -1e-12, 0.0, 1e-300, 1e12])
    estimate = MAPPING.sketch(values).quantile([0.0, 0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(estimate, [-1e9, 0.0, 0.0, 0.0, 1e9], rtol=0.01)
    assert MAPPING.saturated(values) == 2


def test_many_cells_at_once_give_what_each_gives() -> None:
    rng = np.random.default_rng(2)
    counts = np.stack([MAPPING.count(rng.lognormal(3, 1, 100 * n)) for n in range(3)])
    whole = MAPPING.quantile(counts, [0.5, 0.99])
    assert whole.shape == (3, 2)
    assert np.isnan(whole[0]).all()
    for row in (1, 2):
        assert MAPPING.quantile(counts[row], 0.99) == whole[row, 1]


def test_an_empty_sketch_answers_nan() -> None:
    assert np.isnan(MAPPING.empty().quantile(0.5))
    assert np.isnan(MAPPING.empty().quantile([0.1, 0.9])).all()
    assert np.isnan(MAPPING.empty().share_above(1.0))


def test_the_share_above_a_limit_is_that_of_numpy_but_for_the_limits_own_bin() -> None:
    values = np.random.default_rng(4).lognormal(4, 1, 20_000)
    share = MAPPING.sketch(values).share_above(100.0)
    assert (values > 100.0 * 1.03).mean() <= share <= (values > 100.0 / 1.03).mean()


def test_sketches_of_different_mappings_do_not_add() -> None:
    with pytest.raises(UnequalConfigurations):
        MAPPING.empty().merge(LogMapping(relative_error=0.02).empty())
    assert MAPPING.fingerprint == LogMapping().fingerprint != LogMapping(relative_error=0.02).fingerprint


def test_nan_infinity_and_senseless_parameters_are_refused() -> None:
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(BadValues):
            MAPPING.assign(np.array([1.0, bad]))
    with pytest.raises(BadValues):
        MAPPING.quantile(MAPPING.count(np.ones(3)), 1.5)
    for parameters in ({"relative_error": 0.0}, {"smallest": 0.0}, {"smallest": 2.0, "largest": 1.0}):
        with pytest.raises(BadParameter):
            LogMapping(**parameters)
    with pytest.raises(BadValues):
        QuantileSketch(MAPPING, np.array([3, 2], dtype=np.int32), np.array([1, 1]))
