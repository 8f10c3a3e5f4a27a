"""The e-detector against its recursion done slowly in exact fractions, and against its budget."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from detectors.base import BadParameter
from detectors.edetector import EDetectorConfig
from tests.detectors.data import DATA_SETS, step, uniform


def slow_log_e(config: EDetectorConfig, values: list[float]) -> float:
    """M = (M_prev + 1) L for each bet, in exact rational arithmetic."""
    bets, means = config.wagers()
    total = Fraction(0)
    for bet, mean in zip(bets.tolist(), means.tolist(), strict=True):
        m = Fraction(0)
        for value in values:
            x = min(max((value - config.low) / (config.high - config.low), 0.0), 1.0)
            m = (m + 1) * (1 + Fraction(bet) * (Fraction(x) - Fraction(mean)))
        total += m
    return math.log(total.numerator) - math.log(total.denominator) - math.log(len(bets))


@pytest.mark.parametrize("name", DATA_SETS)
def test_log_e_agrees_with_exact_fractions_at_many_prefixes(name: str) -> None:
    values = DATA_SETS[name](60)
    config = EDetectorConfig(low=-2.0, high=3.0, baseline=0.4, tolerance=0.05, alpha=1e-300, bets=3)
    for n in (1, 2, 3, 7, 60):
        detector = config.build()
        for part in np.array_split(values[:n], 3):
            detector.update_many(part)
        assert detector.log_e == pytest.approx(slow_log_e(config, values[:n].tolist()), abs=1e-9)
        assert detector.log_e_value == pytest.approx(detector.log_e - math.log(n))


def test_it_never_overflows_and_takes_the_slow_road_where_sums_span_too_far() -> None:
    config = EDetectorConfig(baseline=0.0, alpha=1e-300, bets=3)
    detector = config.build()
    found = detector.update_many(np.tile([0.0, 1.0], 2_000))
    assert found
    assert all(math.isfinite(one.after) for one in found)
    quiet = EDetectorConfig(baseline=1.0, alpha=1e-300, bets=3).build()
    quiet.update_many(np.ones(100_000))
    assert math.isfinite(quiet.log_e)


def test_how_a_stream_is_cut_into_batches_changes_no_alarm() -> None:
    values = step(6_000)
    config = EDetectorConfig(baseline=0.4, alpha=1e-4)
    whole = config.build().update_many(values)
    for size in (1, 7, 256, 1_000):
        detector, found = config.build(), []
        for start in range(0, values.size, size):
            for one in detector.update_many(values[start : start + size]):
                found.append((start + one.index, one.onset))  # noqa: PERF401 - the detector must run in order
        assert found == [(one.index, one.onset) for one in whole]


def test_what_comes_after_an_alarm_in_the_same_block_does_not_move_its_onset() -> None:
    values = np.concatenate([np.full(100, 0.4), np.full(20, 0.95), np.zeros(120)])
    first = EDetectorConfig(baseline=0.4, alpha=1e-3).build().update_many(values)[0]
    assert 100 <= first.index < 120
    assert first.index + 1 - first.onset == 100
    assert first.after == pytest.approx(0.95)


@pytest.mark.parametrize("make", ["bernoulli", "beta", "two_point"])
def test_without_a_change_alarms_are_no_more_frequent_than_the_budget(make: str) -> None:
    rng = np.random.default_rng(8)
    draws = {
        "bernoulli": lambda n: (rng.random(n) < 0.3).astype(float),
        "beta": lambda n: rng.beta(3.0, 7.0, n),
        "two_point": lambda n: np.where(rng.random(n) < 0.01, 1.0, 0.29293) * 1.0,
    }
    baseline = {"bernoulli": 0.3, "beta": 0.3, "two_point": 0.01 + 0.99 * 0.29293}[make]
    alpha, n, runs = 0.01, 4_000, 60
    alarms = sum(
        len(EDetectorConfig(baseline=baseline, alpha=alpha).build().update_many(draws[make](n))) for _ in range(runs)
    )
    # on average at most one in 100 values: 2,400 in all; a fifth above it is beyond chance
    assert alarms <= 1.2 * alpha * n * runs


def test_a_step_is_found_soon_with_its_onset_and_its_means() -> None:
    found = EDetectorConfig(baseline=0.4, alpha=1e-8).build().update_many(step(4_000))
    first = found[0]
    assert 2_000 <= first.index < 2_100
    assert abs(first.index + 1 - first.onset - 2_000) <= 20
    assert first.before == pytest.approx(0.4, abs=0.02)
    assert first.after == pytest.approx(0.6, abs=0.05)


@pytest.mark.parametrize("level", [0.1, 0.9])
def test_both_directions_are_seen(level: float) -> None:
    (first, *_) = EDetectorConfig(baseline=0.5, alpha=1e-6).build().update_many(np.full(500, level))
    assert first.onset == first.index + 1
    assert first.after == pytest.approx(level)


def test_a_baseline_within_its_tolerance_raises_no_alarm_for_long() -> None:
    values = np.clip(0.3 + 0.05 * uniform(50_000), 0.0, 1.0)  # mean 0.325
    assert EDetectorConfig(baseline=0.3, alpha=1e-6).build().update_many(values)
    assert not EDetectorConfig(baseline=0.3, tolerance=0.03, alpha=1e-6).build().update_many(values)


def test_values_outside_the_range_are_clipped_and_counted() -> None:
    detector = EDetectorConfig(baseline=0.5).build()
    detector.update_many([-1.0, 0.5, 2.0])
    assert detector.clipped == 2
    assert detector.estimate == pytest.approx(0.5)


def test_senseless_parameters_are_refused() -> None:
    for parameters in (
        {"baseline": 2.0},
        {"baseline": math.nan},
        {"baseline": 0.5, "alpha": 0.0},
        {"baseline": 0.5, "bets": 0},
        {"baseline": 0.5, "low": 1.0, "high": 0.0},
        {"baseline": 0.5, "tolerance": -0.1},
    ):
        with pytest.raises(BadParameter):
            EDetectorConfig(**parameters)
