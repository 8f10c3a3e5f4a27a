"""AUC and average precision against scikit-learn, at many prefixes and on adversarial data."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score

from detectors.auc import (
    INVALID_BIN,
    SCORE_BINS,
    auc_from_histograms,
    average_precision,
    delong_se,
    hanley_mcneil_se,
    score_bins,
    score_edges,
    score_histograms,
    worst_case_se,
)

Scores = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]
ROUNDING = 1e-12


def data(kind: str, rows: int = 4000) -> Scores:
    rng = np.random.default_rng(11)
    labels = (rng.random(rows) < 0.2).astype(np.int64)
    margin = rng.normal(labels * 1.2 - 1.5, 1.0)
    score = expit(margin)
    if kind == "constant":
        score = np.full(rows, 0.3)
    elif kind == "ties":
        score = np.round(score, 1)
    elif kind == "heavy tail":
        score = expit(rng.standard_cauchy(rows) * 5 + labels)
    elif kind == "crowded near zero":
        score = score * 1e-6
    elif kind == "step":
        score = labels.astype(np.float64)
    elif kind == "reversed":
        score = 1 - score
    elif kind == "ramp":
        score = np.linspace(0.0, 1.0, rows)
    return score, labels


KINDS = ["smooth", "constant", "ties", "heavy tail", "crowded near zero", "step", "reversed", "ramp"]


@pytest.mark.parametrize("kind", KINDS)
def test_at_every_prefix_the_exact_auc_lies_within_the_bound(kind: str) -> None:
    scores, labels = data(kind)
    for stop in (20, 57, 133, 400, 1111, 4000):
        neg, pos = score_histograms(scores[:stop], labels[:stop])
        got = auc_from_histograms(pos, neg)
        assert abs(got.value - roc_auc_score(labels[:stop], scores[:stop])) <= got.bound + ROUNDING


@pytest.mark.parametrize("kind", KINDS)
def test_over_the_binned_scores_auc_and_average_precision_are_scikit_learns(kind: str) -> None:
    scores, labels = data(kind)
    for stop in (20, 57, 133, 400, 1111, 4000):
        binned = score_bins(scores[:stop])
        neg, pos = score_histograms(scores[:stop], labels[:stop])
        assert auc_from_histograms(pos, neg).value == pytest.approx(roc_auc_score(labels[:stop], binned), abs=1e-9)
        expected = average_precision_score(labels[:stop], binned)
        assert average_precision(pos, neg).value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_at_every_prefix_the_exact_average_precision_lies_in_its_interval(kind: str) -> None:
    scores, labels = data(kind)
    for stop in (20, 57, 133, 400, 1111, 4000):
        neg, pos = score_histograms(scores[:stop], labels[:stop])
        got = average_precision(pos, neg)
        assert got.low - ROUNDING <= average_precision_score(labels[:stop], scores[:stop]) <= got.high + ROUNDING
        assert got.low <= got.value <= got.high


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=2, max_size=60), st.integers(1, 9))
def test_no_order_within_the_bins_escapes_the_bounds(rows: list[tuple[int, bool]], width: int) -> None:
    scores = np.array([score for score, _ in rows])
    labels = np.array([label for _, label in rows])
    if not 0 < labels.sum() < len(labels):
        return
    bins = scores // width
    pos = np.bincount(bins[labels], minlength=41)
    neg = np.bincount(bins[~labels], minlength=41)
    auc, precision = auc_from_histograms(pos, neg), average_precision(pos, neg)
    assert abs(auc.value - roc_auc_score(labels, scores)) <= auc.bound + ROUNDING
    assert precision.low - 1e-9 <= average_precision_score(labels, scores) <= precision.high + 1e-9


def test_the_bound_is_tight() -> None:
    got = auc_from_histograms([3, 0], [5, 0])
    assert (got.value, got.bound) == (0.5, 0.5)
    ranked = average_precision([3], [5])
    assert ranked.high == 1.0
    assert ranked.low == pytest.approx((1 / 6 + 2 / 7 + 3 / 8) / 3)


def test_one_class_has_no_auc() -> None:
    got = auc_from_histograms(np.zeros((2, 8)), np.ones((2, 8)))
    assert np.all(np.isnan(got.value))
    assert np.all(np.isnan(got.bound))
    assert np.isnan(average_precision(np.zeros(8), np.ones(8)).value)
    assert np.isnan(hanley_mcneil_se(0.8, 0, 10))
    assert np.isnan(worst_case_se(0.8, 0, 10))
    assert np.isnan(delong_se([1], [4]))


def test_a_row_corrected_before_it_arrived_counts_as_none() -> None:
    got = auc_from_histograms([-1, 0, 4], [2, 1, -1])
    assert got.value == auc_from_histograms([0, 0, 4], [2, 1, 0]).value == 1.0


def test_cells_are_reckoned_side_by_side() -> None:
    rng = np.random.default_rng(2)
    pos, neg = rng.integers(0, 9, (2, 3, 4, 64))
    got, ranked, errors = auc_from_histograms(pos, neg), average_precision(pos, neg), delong_se(pos, neg)
    for cell in np.ndindex(3, 4):
        assert got.value[cell] == auc_from_histograms(pos[cell], neg[cell]).value
        assert ranked.low[cell] == average_precision(pos[cell], neg[cell]).low
        assert errors[cell] == pytest.approx(float(delong_se(pos[cell], neg[cell])))


@given(st.integers(0, 2**31), st.integers(1, 300))
def test_histograms_merge_like_the_rows_they_hold(seed: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    scores, labels = rng.beta(0.3, 0.5, 300), rng.integers(0, 2, 300)
    merged = score_histograms(scores[:cut], labels[:cut]) + score_histograms(scores[cut:], labels[cut:])
    assert np.array_equal(merged, score_histograms(scores, labels))


def test_delongs_error_is_that_of_the_structural_components() -> None:
    rng = np.random.default_rng(5)
    pos, neg = rng.integers(0, 4, (2, 32))
    x, y = np.repeat(np.arange(32), pos), np.repeat(np.arange(32), neg)
    wins = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    variance = wins.mean(axis=1).var(ddof=1) / len(x) + wins.mean(axis=0).var(ddof=1) / len(y)
    assert delong_se(pos, neg) == pytest.approx(math.sqrt(variance), abs=1e-12)


def test_hanley_and_mcneil_with_ten_positives_in_fifty_is_eight_hundredths() -> None:
    assert hanley_mcneil_se(0.8, 10, 40) == pytest.approx(0.08, abs=0.015)
    # worked by hand: Q1 = 0.8 / 1.2, Q2 = 1.28 / 1.8
    variance = (0.16 + 9 * (0.8 / 1.2 - 0.64) + 39 * (1.28 / 1.8 - 0.64)) / 400
    assert hanley_mcneil_se(0.8, 10, 40) == pytest.approx(math.sqrt(variance))


def test_the_errors_describe_repeated_samples() -> None:
    rng = np.random.default_rng(8)
    values, errors = [], []
    for _ in range(1500):
        scores = np.concatenate([rng.normal(1.2, 1, 40), rng.normal(0, 1, 160)])
        neg, pos = score_histograms(expit(scores), np.arange(200) < 40)
        values.append(auc_from_histograms(pos, neg).value)
        errors.append(delong_se(pos, neg))
    assert np.std(values) == pytest.approx(np.mean(errors), rel=0.08)
    # Hanley and McNeil assume exponential tails: for normal scores they are some 15 % too careful
    hanley = hanley_mcneil_se(np.mean(values), 40, 160)
    assert np.std(values) < hanley < 1.2 * np.std(values)
    assert hanley < worst_case_se(np.mean(values), 40, 160)


def test_the_ends_of_the_score_have_bins_and_nonsense_has_none() -> None:
    got = score_bins([0.0, 1.0, 1e-300, 1 - 1e-16, math.nan, -0.1, 1.1, math.inf])
    assert got.tolist() == [0, SCORE_BINS - 1, 0, SCORE_BINS - 1] + [INVALID_BIN] * 4
    assert score_histograms([0.2, math.nan, 7.0], [1, 1, 0]).sum() == 1


def test_the_edges_belong_to_the_bin_above_and_one_half_is_an_edge() -> None:
    edges = score_edges()
    assert edges[SCORE_BINS // 2 - 1] == 0.5
    assert np.array_equal(score_bins(edges), np.arange(1, SCORE_BINS))
    assert np.array_equal(score_bins(np.nextafter(edges, 0)), np.arange(SCORE_BINS - 1))
    inside = (edges[:-1] + edges[1:]) / 2
    assert np.array_equal(score_bins(inside), np.arange(1, SCORE_BINS - 1))
