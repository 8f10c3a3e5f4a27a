"""Estimates before labels against the truth of simulated models, and the isotonic fit against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import accuracy_score, f1_score, recall_score, roc_auc_score

from detectors.auc import SCORE_BINS, score_bins, score_histograms
from detectors.cbpe import (
    CalibrationMap,
    accuracy_departure,
    auc_departure,
    calibration_map,
    estimated_auc,
    estimated_metrics,
    expected_confusion,
    isotonic,
    positives_departure,
)

Rows = tuple[np.ndarray, np.ndarray]


def sample(rng: np.random.Generator, rows: int, shift: float = 0.0, flip: float = 0.0) -> Rows:
    """Scores that are over-confident (the truth is their square root's odds), and labels; `flip` is concept drift."""
    score = 1 / (1 + np.exp(-rng.normal(-1 + shift, 1.5, rows)))
    truth = score**1.4
    return score, rng.random(rows) < truth * (1 - flip) + (1 - truth) * flip


def counted(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    where, yes = score_bins(score), score >= 0.5
    return np.bincount(where[yes], minlength=SCORE_BINS), np.bincount(where[~yes], minlength=SCORE_BINS)


@pytest.fixture(scope="module")
def mu() -> CalibrationMap:
    neg, pos = score_histograms(*sample(np.random.default_rng(0), 200_000))
    return calibration_map(pos, neg)


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(0.01, 50)), min_size=1, max_size=60))
def test_the_isotonic_fit_is_scikit_learns(points: list[tuple[float, float]]) -> None:
    values, weights = np.array(points).T
    fit, block = isotonic(values, weights)
    expected = IsotonicRegression().fit_transform(np.arange(len(values)), values, sample_weight=weights)
    assert fit == pytest.approx(expected, abs=1e-9)
    assert np.all(np.diff(fit) >= 0)
    assert np.array_equal(np.diff(block) > 0, np.diff(fit) > 0)


def test_bins_that_the_reference_never_saw_lie_between_their_neighbours() -> None:
    got = calibration_map([0, 1, 0, 0, 3, 0], [0, 3, 0, 0, 1, 0])
    assert got.share == pytest.approx([0.25, 0.25, 0.25 + 0.5 / 3, 0.25 + 1 / 3, 0.75, 0.75])
    assert got.weight.tolist() == [4.0] * 6
    assert np.all(np.isnan(calibration_map(np.zeros(4), np.zeros(4)).share))


@pytest.mark.parametrize("shift", [0.0, 0.7, -0.7])
def test_the_estimate_follows_covariate_drift(mu: CalibrationMap, shift: float) -> None:
    score, label = sample(np.random.default_rng(1), 200_000, shift)
    yes, no = counted(score)
    got = estimated_metrics(yes, no, mu)
    assert got.accuracy.value == pytest.approx(accuracy_score(label, score >= 0.5), abs=0.005)
    assert got.recall.value == pytest.approx(recall_score(label, score >= 0.5), abs=0.01)
    assert got.f1.value == pytest.approx(f1_score(label, score >= 0.5), abs=0.01)
    assert estimated_auc(yes + no, mu).value == pytest.approx(roc_auc_score(label, score), abs=0.005)


def test_the_expected_counts_sum_to_the_rows(mu: CalibrationMap) -> None:
    yes, no = counted(sample(np.random.default_rng(2), 1000)[0])
    expected = expected_confusion(yes, no, mu)
    assert sum(expected) == pytest.approx(1000)
    assert expected.tp + expected.fp == pytest.approx(yes.sum())


def departures(mu: CalibrationMap, rng: np.random.Generator, rows: int, shift: float, flip: float) -> np.ndarray:
    score, label = sample(rng, rows, shift, flip)
    yes, no = counted(score)
    neg, pos = score_histograms(score, label)
    return np.array(
        [
            accuracy_departure(np.sum((score >= 0.5) == label), yes, no, mu).z,
            positives_departure(label.sum(), yes + no, mu).z,
            auc_departure(pos, neg, mu).z,
        ]
    )


def test_covariate_drift_is_no_departure() -> None:
    rng = np.random.default_rng(3)
    scores = []
    for _ in range(300):  # a fresh reference each time: its error must be in the standard error
        neg, pos = score_histograms(*sample(rng, 5000))
        scores.append(departures(calibration_map(pos, neg), rng, 3000, 0.5, 0.0))
    accuracy, positives, auc = np.array(scores).T
    assert 0.75 < np.std(accuracy) < 1.25
    assert 0.75 < np.std(positives) < 1.25
    assert np.std(auc) < 1.3
    assert np.all(np.abs(np.mean(scores, axis=0)) < 0.5)


def test_concept_drift_departs(mu: CalibrationMap) -> None:
    accuracy, positives, auc = departures(mu, np.random.default_rng(4), 3000, 0.0, 0.15)
    assert accuracy < -6
    assert positives > 6
    assert auc < -6


def test_cells_are_reckoned_side_by_side_and_empty_ones_are_nan(mu: CalibrationMap) -> None:
    yes, no = counted(sample(np.random.default_rng(5), 500)[0])
    got = accuracy_departure([400, 0], np.stack([yes, 0 * yes]), np.stack([no, 0 * no]), mu)
    assert got.delta[0] == pytest.approx(float(accuracy_departure(400, yes, no, mu).delta))
    assert np.isnan(got.z[1])
    assert np.isnan(got.log_p[1])


def test_a_reference_without_one_label_still_admits_error() -> None:
    clean = calibration_map(np.zeros(4), np.full(4, 5.0))
    got = positives_departure(1, [0, 2, 0, 0], clean)
    assert got.estimated == 0.0
    assert got.se > 0.0
    assert got.log_p > math.log(0.01)
