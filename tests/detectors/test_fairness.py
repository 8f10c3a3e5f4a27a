"""Fairness gaps against rates computed row by row with scikit-learn, and their p-values against noise."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import confusion_matrix

from detectors.fairness import (
    calibration_difference,
    calibration_gaps,
    demographic_parity,
    equalised_odds,
    group_rates,
    largest_gap,
)

GROUPS = 4


def rows(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    group = rng.choice(GROUPS, n, p=[0.5, 0.3, 0.15, 0.05])
    label = rng.random(n) < 0.3
    return group, label, np.where(rng.random(n) < 0.2 + 0.05 * group, ~label, label)


def confusions(group: np.ndarray, label: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    tables = [confusion_matrix(label[group == g], chosen[group == g], labels=[False, True]) for g in range(GROUPS)]
    tn, fp, fn, tp = np.stack([table.ravel() for table in tables], axis=1)
    return np.stack([tp, fp, fn, tn])


def test_at_every_prefix_the_differences_are_those_of_the_rows() -> None:
    group, label, chosen = rows(np.random.default_rng(0), 4000)
    for stop in (40, 300, 4000):
        g, y, z = group[:stop], label[:stop], chosen[:stop]
        table = confusions(g, y, z)
        selected = [z[g == i].mean() for i in range(GROUPS)]
        tpr = [z[(g == i) & y].mean() if ((g == i) & y).any() else math.nan for i in range(GROUPS)]
        fpr = [z[(g == i) & ~y].mean() if ((g == i) & ~y).any() else math.nan for i in range(GROUPS)]
        rates = group_rates(*table)
        assert rates.selection_rate.value == pytest.approx(selected, abs=1e-9)
        assert rates.true_positive_rate.value == pytest.approx(tpr, abs=1e-9, nan_ok=True)
        assert rates.false_positive_rate.value == pytest.approx(fpr, abs=1e-9, nan_ok=True)
        assert demographic_parity(*table).value == pytest.approx(np.ptp(selected), abs=1e-9)
        odds = max(np.nanmax(tpr) - np.nanmin(tpr), np.nanmax(fpr) - np.nanmin(fpr))
        assert equalised_odds(*table).value == pytest.approx(odds, abs=1e-9)


def test_a_gap_names_its_groups_and_carries_their_errors() -> None:
    got = largest_gap([30, 60, 45], [100, 100, 100])
    assert (int(got.high), int(got.low)) == (1, 0)
    assert got.value == pytest.approx(0.3)
    assert got.se == pytest.approx(math.sqrt(0.6 * 0.4 / 100 + 0.3 * 0.7 / 100))
    chi2 = stats.chi2_contingency([[30, 70], [60, 40]], correction=False)
    assert math.exp(got.log_p) == pytest.approx(3 * chi2.pvalue)


def test_noise_between_many_groups_is_no_unfairness() -> None:
    rng = np.random.default_rng(1)
    sizes = np.array([20, 50, 100, 200, 400, 800, 1600, 3200])
    got = largest_gap(rng.binomial(sizes, 0.2, (5000, 8)), sizes)
    assert np.mean(got.value) > 0.1  # the gap itself is large
    assert np.mean(got.log_p <= math.log(0.01)) <= 0.013


def test_a_group_of_a_few_rows_makes_a_gap_but_no_evidence() -> None:
    got = largest_gap([2, 100, 98], [2, 1000, 1000])
    assert got.value == pytest.approx(0.902)
    assert got.log_p > math.log(0.5)


def test_real_unfairness_is_seen_at_any_budget() -> None:
    got = equalised_odds(tp=[700, 400], fp=[100, 100], fn=[300, 600], tn=[900, 900])
    assert got.value == pytest.approx(0.3)
    assert got.log_p < math.log(1e-12)
    assert (int(got.high), int(got.low)) == (0, 1)
    # two gaps were looked at: the better one pays double
    assert got.log_p == pytest.approx(float(largest_gap([700, 400], [1000, 1000]).log_p) + math.log(2))


def test_fewer_than_two_groups_have_no_gap() -> None:
    got = largest_gap([3, 0], [10, 0])
    assert np.isnan(got.value)
    assert np.isnan(got.log_p)
    assert (int(got.high), int(got.low)) == (-1, -1)
    assert np.isnan(largest_gap([3], [10]).value)
    only_false = equalised_odds([0, 0], [10, 40], [0, 0], [90, 60])
    assert only_false.value == pytest.approx(0.3)
    assert only_false.log_p < math.log(0.01)


def test_calibration_gaps_say_for_whom_the_score_lies() -> None:
    gaps = calibration_gaps([1000, 1000, 0], [300.0, 300.0, 0.0], [300, 200, 0])
    assert gaps.value == pytest.approx([0.0, 0.1, math.nan], nan_ok=True)
    assert gaps.se[0] == pytest.approx(math.sqrt(0.21 / 1000))
    got = calibration_difference(gaps)
    assert got.value == pytest.approx(0.1)
    assert math.exp(got.log_p) == pytest.approx(3 * 2 * stats.norm.sf(0.1 / math.hypot(*gaps.se[:2])))


def test_cells_are_reckoned_side_by_side() -> None:
    tables = np.random.default_rng(2).integers(5, 50, (4, 3, 5))
    together = equalised_odds(*tables)
    for i in range(3):
        alone = equalised_odds(*tables[:, i])
        assert [float(part[i]) for part in together] == pytest.approx([float(part) for part in alone])
