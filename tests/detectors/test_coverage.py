"""Coverage and same-age figures against rows with simulated delays."""

import math

import numpy as np
import pytest
from scipy import stats

from detectors.coverage import (
    Delays,
    baseline_at_age,
    coverage_shift,
    coverage_weighted,
    delay_quantiles,
    delays,
    expected_coverage,
    label_coverage,
    same_age_baseline,
    share_by_age,
)

EDGES = np.array([0.0, 60, 300, 900, 3600, 7200, 14400, 86400])
NEVER = 0.3


def wait(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Seconds to the label; infinite where none comes. Edge values are hit exactly too."""
    delay = np.minimum(rng.exponential(2400, rows), 86_000)
    delay[: rows // 50] = 900.0
    return np.where(rng.random(rows) < NEVER, np.inf, delay)


def reference(delay: np.ndarray) -> Delays:
    return delays(EDGES, np.histogram(delay[np.isfinite(delay)], EDGES)[0], len(delay))


def test_at_the_edges_the_share_by_age_is_that_of_the_rows() -> None:
    delay = wait(np.random.default_rng(0), 5000)
    got = share_by_age(reference(delay), EDGES)
    assert got == pytest.approx([(delay < edge).mean() for edge in EDGES], abs=1e-12)
    assert share_by_age(reference(delay), 1e9) == pytest.approx(np.isfinite(delay).mean())


def test_between_the_edges_it_rises_and_stays_between() -> None:
    delay = wait(np.random.default_rng(1), 5000)
    ages = np.linspace(-10, 90_000, 5000)
    got = share_by_age(reference(delay), ages)
    assert np.all(np.diff(got) >= 0)
    right = np.clip(np.searchsorted(EDGES, ages), 0, len(EDGES) - 1)
    assert np.all(got <= share_by_age(reference(delay), EDGES[right]) + 1e-12)


def test_quantiles_of_the_delay_lie_in_the_bin_of_the_true_one() -> None:
    delay = wait(np.random.default_rng(2), 5000)
    known = delay[np.isfinite(delay)]
    for q in (0.1, 0.5, 0.9, 0.99):
        got, true = float(delay_quantiles(reference(delay), q)), np.quantile(known, q)
        assert np.searchsorted(EDGES, got) == np.searchsorted(EDGES, true)
    got = delay_quantiles(Delays(np.array([0.0, 10, 20, 30]), np.array([0.0, 4, 0]), 9), [0.0, 0.25, 1.0])
    assert got == pytest.approx([0.0, 12.5, 20.0])
    assert np.isnan(delay_quantiles(Delays(EDGES, np.zeros(7), 5), 0.5))


def test_the_expected_coverage_of_panes_is_their_weighted_share() -> None:
    ref = reference(wait(np.random.default_rng(3), 5000))
    got = expected_coverage(ref, [300.0, 3600.0], [[10, 30], [0, 0]])
    a, b = share_by_age(ref, [300.0, 3600.0])
    assert got[0] == pytest.approx((10 * a + 30 * b) / 40)
    assert np.isnan(got[1])


def test_young_panes_in_good_health_raise_nothing() -> None:
    rng = np.random.default_rng(4)
    ages, rows = np.linspace(30, 7200, 40), np.full(40, 25)
    alarms = 0
    for _ in range(400):
        ref = reference(wait(rng, 2000))
        joined = sum((wait(rng, 50)[25:] < age).sum() for age in ages)  # past the row of exactly 900 s
        alarms += coverage_shift(ref, joined, ages, rows, alpha=0.01).log_p <= math.log(0.05)
    assert alarms / 400 <= 0.05


def test_lost_labels_are_seen_while_the_cohort_is_young() -> None:
    ref = reference(wait(np.random.default_rng(5), 20_000))
    ages, rows = np.array([3600.0, 1800.0, 900.0]), np.array([1000, 1000, 1000])
    normal = expected_coverage(ref, ages, rows) * 3000
    got = coverage_shift(ref, [normal, 0.6 * normal, 0], ages, rows)
    assert got.log_p[0] == 0.0
    assert got.log_p[1] < math.log(1e-8)
    assert got.delta[1] == pytest.approx(-0.4 * normal / 3000)
    band = math.sqrt(math.log(1e4) / 40_000)
    assert got.log_p[2] == pytest.approx(3000 * math.log1p(band - normal / 3000))


def test_nothing_due_has_no_coverage() -> None:
    ref = reference(wait(np.random.default_rng(6), 100))
    got = coverage_shift(ref, 0, [60.0], [0])
    assert np.isnan(got.coverage.value)
    assert np.isnan(got.log_p)
    assert np.isnan(coverage_shift(delays([0, 1], [0], 0), 0, [60.0], [5]).log_p)
    assert label_coverage(3, 4).value == 0.75


def biased(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Late labels go with errors: 5 % wrong at once, 45 % after hours."""
    delay = wait(rng, rows)
    return delay, rng.random(rows) < 0.05 + 0.4 * np.minimum(np.nan_to_num(delay, posinf=0.0) / 7200, 1.0)


def by_delay(delay: np.ndarray, wrong: np.ndarray, age: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
    come = np.isfinite(delay) & (delay < age)
    return np.histogram(delay[come], EDGES)[0], np.histogram(delay[come & wrong], EDGES)[0]


def test_the_baseline_at_an_age_is_that_of_the_labels_that_had_come() -> None:
    delay, wrong = biased(np.random.default_rng(7), 20_000)
    n, k = by_delay(delay, wrong)
    got = baseline_at_age(EDGES, n, k, k, EDGES[1:])
    expected = [wrong[delay < edge].mean() for edge in EDGES[1:]]
    assert got.value == pytest.approx(expected, abs=1e-9)
    assert got.se == pytest.approx([stats.sem(wrong[delay < edge]) for edge in EDGES[1:]], rel=1e-9)
    assert np.isnan(baseline_at_age(EDGES, n, k, k, 0.0).value)


def test_a_young_cohort_is_no_better_than_the_reference_at_its_age() -> None:
    rng = np.random.default_rng(8)
    n, k = by_delay(*biased(rng, 200_000))
    ages = np.array([0.0, 900.0, 3600.0])
    cohorts = [by_delay(*biased(rng, 40_000), age) for age in ages]
    joined = np.array([c[0].sum() for c in cohorts])
    live = sum(c[1].sum() for c in cohorts) / joined.sum()
    baseline = same_age_baseline(baseline_at_age(EDGES, n, k, k, ages), joined)
    error = math.hypot(baseline.se, math.sqrt(live * (1 - live) / joined.sum()))
    assert abs(live - baseline.value) < 4 * error
    assert k.sum() / n.sum() - live > 8 * error  # against the whole reference it would look far better than it is


def test_weights_restore_what_thinned_labels_hide() -> None:
    rng = np.random.default_rng(9)
    ref_delay, ref_wrong = biased(rng, 200_000)
    ref = reference(ref_delay)
    delay, wrong = biased(rng, 60_000)
    kept = rng.random(60_000) < np.where(delay > 3600, 0.2, 1.0)  # late labels mostly lost
    n, k = by_delay(delay[kept], wrong[kept])
    got = coverage_weighted(n, k, k, ref)
    truth = ref_wrong[np.isfinite(ref_delay)].mean()
    assert got.covered == 1.0
    assert abs(got.estimate.value - truth) < 4 * got.estimate.se
    assert truth - k.sum() / n.sum() > 8 * got.estimate.se


def test_delays_not_seen_yet_are_not_covered() -> None:
    rng = np.random.default_rng(10)
    ref = reference(wait(rng, 10_000))
    n, k = by_delay(*biased(rng, 10_000), 900.0)
    got = coverage_weighted([n, 0 * n], [k, 0 * k], [k, 0 * k], ref)
    assert got.covered[0] == pytest.approx(ref.labelled[:3].sum() / ref.labelled.sum())
    assert got.covered[1] == 0.0
    assert np.isnan(got.estimate.value[1])


def test_impossible_delays_are_refused() -> None:
    with pytest.raises(ValueError, match="increase"):
        delays([0, 5, 5], [1, 1], 9)
    with pytest.raises(ValueError, match="increase"):
        delays([0, 5], [1, 1], 9)
    with pytest.raises(ValueError, match="cannot come"):
        delays([0, 5], [10], 9)
