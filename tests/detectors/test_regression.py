"""Regression metrics against scikit-learn at many prefixes, and where naive sums cancel."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from detectors.regression import RegressionSums, regression_metrics, regression_sums

STOPS = (2, 9, 64, 500, 3000)


def data(kind: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    rng = np.random.default_rng(7)
    labels = rng.normal(3.0, 2.0, 3000)
    if kind == "heavy tail":
        labels = rng.standard_cauchy(3000)
    elif kind == "far from zero":
        labels = labels + 1e7
    elif kind == "ramp":
        labels = np.linspace(-5, 50, 3000)
    elif kind == "ties":
        labels = np.round(labels)
    return labels + rng.normal(0.3, 0.7, 3000), labels


@pytest.mark.parametrize("kind", ["normal", "heavy tail", "far from zero", "ramp", "ties"])
def test_at_every_prefix_the_figures_are_scikit_learns(kind: str) -> None:
    predictions, labels = data(kind)
    center = float(np.median(labels[:100]))
    for stop in STOPS:
        z, y = predictions[:stop], labels[:stop]
        got = regression_metrics(regression_sums(z, y, center))
        assert got.mae.value == pytest.approx(sk.mean_absolute_error(y, z), rel=1e-9)
        assert got.rmse.value == pytest.approx(sk.root_mean_squared_error(y, z), rel=1e-9)
        assert got.bias.value == pytest.approx(np.mean(z - y), rel=1e-9, abs=1e-9)
        assert got.r2.value == pytest.approx(sk.r2_score(y, z), abs=1e-9)


def test_a_center_saves_the_digits_that_plain_sums_lose() -> None:
    rng = np.random.default_rng(1)
    labels = 1e8 + rng.normal(0, 1, 1000)
    predictions = labels + rng.normal(0, 0.5, 1000)
    expected = sk.r2_score(labels, predictions)
    assert regression_metrics(regression_sums(predictions, labels, 1e8)).r2.value == pytest.approx(expected, abs=1e-9)
    # without one it says so, rather than a number made of rounding
    for rows in range(900, 1000):
        assert np.isnan(regression_metrics(regression_sums(predictions[:rows], labels[:rows])).r2.value)


def test_constant_labels_have_no_r2() -> None:
    got = regression_metrics(regression_sums([1.0, 2.0, 3.0], [5.1, 5.1, 5.1], 5.0))
    assert np.isnan(got.r2.value)
    assert got.mae.value == pytest.approx(3.1)


def test_no_rows_give_nan_and_one_row_has_no_error() -> None:
    empty = regression_metrics(regression_sums([], []))
    assert all(np.isnan(figure.value) for figure in empty)
    single = regression_metrics(regression_sums([2.0], [1.0]))
    assert single.mae.value == 1.0
    assert np.isnan(single.mae.se)


def test_a_perfect_model_has_no_error_and_r2_of_one() -> None:
    got = regression_metrics(regression_sums([1.0, 2.0, 4.0], [1.0, 2.0, 4.0]))
    assert (got.rmse.value, got.rmse.se, got.r2.value) == (0.0, 0.0, 1.0)


def test_cells_are_reckoned_side_by_side() -> None:
    predictions, labels = data("normal")
    parts = [regression_sums(predictions[i::3], labels[i::3], 3.0) for i in range(3)]
    together = regression_metrics(RegressionSums(*(np.stack(column) for column in zip(*parts, strict=True))))
    for i, part in enumerate(parts):
        assert together.r2.value[i] == pytest.approx(float(regression_metrics(part).r2.value), abs=1e-12)


@given(st.integers(0, 2**31), st.integers(1, 199))
def test_sums_merge_and_subtract_like_the_rows_they_hold(seed: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    z, y = rng.normal(0, 1, (2, 200))
    whole, head, tail = regression_sums(z, y), regression_sums(z[:cut], y[:cut]), regression_sums(z[cut:], y[cut:])
    for total, left, right in zip(whole, head, tail, strict=True):
        assert left + right == pytest.approx(total, abs=1e-9)
        assert total - left == pytest.approx(right, abs=1e-9)


def test_the_errors_describe_repeated_samples() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(0, 2, (4000, 300))
    error = rng.laplace(0.2, 1, (4000, 300))
    sums = RegressionSums(
        np.full(4000, 300.0),
        error.sum(1),
        np.abs(error).sum(1),
        (error**2).sum(1),
        y.sum(1),
        (y**2).sum(1),
        (error**4).sum(1),
    )
    got = regression_metrics(sums)
    for figure in (got.mae, got.rmse, got.bias):
        assert np.std(figure.value) == pytest.approx(np.mean(figure.se), rel=0.05)
    normal_theory = regression_metrics(sums._replace(e4=None))
    assert np.mean(normal_theory.rmse.se) < 0.8 * np.std(got.rmse.value)  # Laplace tails: the docstring's warning


def test_the_error_of_r2_is_never_too_small_for_normal_data() -> None:
    rng = np.random.default_rng(4)
    for noise in (0.3, 1.0, 3.0):
        fit = rng.normal(0, 1, (3000, 200))
        y = fit + rng.normal(0, noise, (3000, 200))
        error = fit - y
        zeros = np.zeros(3000)
        got = regression_metrics(
            RegressionSums(np.full(3000, 200.0), zeros, zeros, (error**2).sum(1), y.sum(1), (y**2).sum(1))
        )
        assert np.std(got.r2.value) < 1.05 * np.mean(got.r2.se)
        assert math.isclose(np.mean(got.r2.value), 1 / (1 + noise**2), abs_tol=0.03)
