"""ECE against a direct reckoning per row, and its noise against simulated calibrated models."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.calibration import calibration_bins, calibration_sums, expected_calibration_error


def direct_ece(scores: np.ndarray, labels: np.ndarray, bins: int) -> float:
    total = 0.0
    for i in range(bins):
        inside = (scores >= i / bins) & ((scores < (i + 1) / bins) | (i == bins - 1))
        if inside.any():
            total += inside.sum() * abs(scores[inside].mean() - labels[inside].mean())
    return total / len(scores)


@pytest.mark.parametrize("kind", ["uniform", "near zero", "constant", "ends", "ties"])
def test_at_every_prefix_ece_is_the_direct_sum(kind: str) -> None:
    rng = np.random.default_rng(12)
    scores = {
        "uniform": rng.random(3000),
        "near zero": rng.beta(0.3, 20, 3000),
        "constant": np.full(3000, 0.37),
        "ends": rng.integers(0, 2, 3000).astype(float),
        "ties": rng.integers(0, 9, 3000) / 8,
    }[kind]
    labels = rng.random(3000) < scores**2
    for stop in (1, 10, 99, 800, 3000):
        got = expected_calibration_error(*calibration_sums(scores[:stop], labels[:stop], 16))
        assert got.ece == pytest.approx(direct_ece(scores[:stop], labels[:stop], 16), abs=1e-9)


def simulated(rng: np.random.Generator, models: int, rows: int, power: float = 1.0) -> tuple[np.ndarray, ...]:
    scores = rng.random((models, rows))
    labels = rng.random((models, rows)) < scores**power
    return tuple(np.stack(part) for part in zip(*map(calibration_sums, scores, labels), strict=True))


def test_a_calibrated_model_shows_four_hundredths_at_a_thousand_rows_and_debiased_none() -> None:
    got = expected_calibration_error(*simulated(np.random.default_rng(1), 1000, 1000))
    assert np.mean(got.ece) == pytest.approx(0.033, abs=0.005)
    assert np.mean(got.noise) == pytest.approx(np.mean(got.ece), rel=0.03)
    assert abs(np.mean(got.debiased)) < 0.001


@pytest.mark.parametrize("rows", [30, 300, 3000])
def test_a_calibrated_model_seldom_passes_the_floor(rows: int) -> None:
    sums = simulated(np.random.default_rng(rows), 2000, rows)
    got = expected_calibration_error(*sums, alpha=0.05)
    assert np.mean(got.ece > got.floor) <= 0.05
    assert np.all(expected_calibration_error(*sums, alpha=1e-8).floor > got.floor)


def test_a_miscalibrated_model_passes_the_floor_and_its_gaps_have_a_sign() -> None:
    count, promised, seen = simulated(np.random.default_rng(2), 20, 20_000, power=1.5)
    got = expected_calibration_error(count, promised, seen, alpha=1e-8)
    assert np.all(got.ece > got.floor)
    assert np.all(got.gap[:, 2:9] > 0)  # scores promise more than comes: over-confident
    assert got.debiased == pytest.approx(np.full(20, 0.1), abs=0.02)  # E(p - p^1.5) = 1/2 - 2/5


def test_the_standard_error_covers_repeated_samples() -> None:
    got = expected_calibration_error(*simulated(np.random.default_rng(3), 2000, 5000, power=1.5))
    assert np.std(got.ece) <= 1.05 * np.mean(got.se)
    assert np.std(got.ece) >= 0.7 * np.mean(got.se)


def test_no_rows_are_nan_and_empty_bins_cost_nothing() -> None:
    got = expected_calibration_error(np.zeros(10), np.zeros(10), np.zeros(10))
    assert all(np.all(np.isnan(part)) for part in got[:-1])
    one = expected_calibration_error([0, 4], [0.0, 3.0], [0, 3])
    assert one.ece == 0.0
    assert np.isnan(one.gap[0])


def test_bins_are_half_open_and_nonsense_has_none() -> None:
    assert calibration_bins([0.0, 0.1, 0.0999, 1.0, math.nan, -0.1, 1.5]).tolist() == [0, 1, 0, 9, -1, -1, -1]
    assert calibration_sums([math.nan, 0.2], [1, 1])[0].sum() == 1


@given(st.integers(0, 2**31), st.integers(1, 199))
def test_sums_merge_like_the_rows_they_hold(seed: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    scores, labels = rng.random(200), rng.integers(0, 2, 200)
    whole = calibration_sums(scores, labels)
    for total, a, b in zip(
        whole, calibration_sums(scores[:cut], labels[:cut]), calibration_sums(scores[cut:], labels[cut:]), strict=True
    ):
        assert a + b == pytest.approx(total, abs=1e-12)
