"""Classification metrics against scikit-learn at many prefixes, and their errors against repeated samples."""

import math
import warnings

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from detectors.auc import score_histograms
from detectors.classification import (
    binary_metrics,
    brier_rows,
    confusion,
    log_loss_of_true,
    log_loss_rows,
    mean_from_sums,
    multiclass_metrics,
    one_vs_rest_auc,
)

STOPS = (1, 2, 7, 50, 333, 2000)


def binary_data(kind: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    rng = np.random.default_rng(4)
    labels = (rng.random(2000) < 0.3).astype(np.int64)
    predictions = np.where(rng.random(2000) < 0.2, 1 - labels, labels)
    if kind == "one class":
        labels = np.zeros(2000, dtype=np.int64)
    elif kind == "constant":
        predictions = np.ones(2000, dtype=np.int64)
    elif kind == "never positive":
        predictions = np.zeros(2000, dtype=np.int64)
    elif kind == "step":
        labels[1000:] = 1 - labels[1000:]
    return labels, predictions


@pytest.mark.parametrize("kind", ["plain", "one class", "constant", "never positive", "step"])
def test_at_every_prefix_binary_metrics_are_scikit_learns(kind: str) -> None:
    labels, predictions = binary_data(kind)
    for stop in STOPS:
        y, z = labels[:stop], predictions[:stop]
        tn, fp, fn, tp = sk.confusion_matrix(y, z, labels=[0, 1]).ravel()
        got = binary_metrics(tp, fp, fn, tn)
        assert got.accuracy.value == pytest.approx(sk.accuracy_score(y, z), abs=1e-9)
        expected = {
            "precision": sk.precision_score(y, z, zero_division=math.nan),
            "recall": sk.recall_score(y, z, zero_division=math.nan),
            "f1": sk.f1_score(y, z, zero_division=math.nan),
            "false_negative_rate": 1 - sk.recall_score(y, z, zero_division=math.nan),
            "false_positive_rate": 1 - sk.recall_score(y, z, pos_label=0, zero_division=math.nan),
        }
        for name, value in expected.items():
            assert getattr(got, name).value == pytest.approx(value, abs=1e-9, nan_ok=True), name


def test_each_figure_names_the_rows_that_bear_on_it() -> None:
    got = binary_metrics(tp=30, fp=10, fn=20, tn=940)
    rows = (got.accuracy.n, got.precision.n, got.recall.n, got.f1.n)
    assert tuple(map(int, rows)) == (1000, 40, 50, 60)
    assert (int(got.false_negative_rate.n), int(got.false_positive_rate.n)) == (50, 950)


def test_without_rows_every_figure_is_nan() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in (*binary_metrics(0, 0, 0, 0), *multiclass_metrics(np.zeros((3, 3)))):
            assert np.all(np.isnan(figure.value))
            assert np.all(np.isnan(figure.se))
        assert np.isnan(mean_from_sums(0, 0, 0).value)


def test_the_errors_describe_repeated_samples() -> None:
    rng = np.random.default_rng(6)
    shares = np.array([0.2, 0.1, 0.08, 0.62])
    draws = rng.multinomial(500, shares, size=20_000)
    got = binary_metrics(*draws.T)
    for figure in got:
        assert np.nanstd(figure.value) == pytest.approx(np.nanmean(figure.se), rel=0.03)


@pytest.mark.parametrize("right", [0.75, 0.95])
def test_the_errors_of_many_classes_describe_repeated_samples(right: float) -> None:
    cells = np.array([[0.0, 0.3, 0.1], [0.2, 0.0, 0.2], [0.05, 0.15, 0.0]]) * (1 - right)
    cells += np.diag([0.5, 0.35, 0.15]) * right
    draws = np.random.default_rng(6).multinomial(600, cells.ravel(), size=20_000).reshape(-1, 3, 3)
    for figure in multiclass_metrics(draws):
        assert np.std(figure.value, axis=0) == pytest.approx(np.mean(figure.se, axis=0), rel=0.04)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_at_every_prefix_multiclass_metrics_are_scikit_learns(classes: int) -> None:
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, classes, 2000)
    predictions = np.where(rng.random(2000) < 0.3, rng.integers(0, classes, 2000), labels)
    for stop in STOPS:
        y, z = labels[:stop], predictions[:stop]
        got = multiclass_metrics(confusion(y, z, classes))
        assert got.accuracy.value == pytest.approx(sk.accuracy_score(y, z), abs=1e-9)
        assert got.macro_f1.value == pytest.approx(sk.f1_score(y, z, average="macro"), abs=1e-9)
        each = sk.precision_recall_fscore_support(y, z, labels=range(classes), zero_division=math.nan)
        for name, values in zip(("precision", "recall", "f1"), each, strict=False):
            assert getattr(got, name).value == pytest.approx(values, abs=1e-9, nan_ok=True)


def test_cells_are_reckoned_side_by_side() -> None:
    tables = np.random.default_rng(1).integers(0, 9, (4, 5, 3, 3))
    together = multiclass_metrics(tables)
    assert together.recall.value.shape == (4, 5, 3)
    assert together.macro_f1.value[2, 3] == multiclass_metrics(tables[2, 3]).macro_f1.value


def test_a_class_outside_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        confusion([0, 3], [0, 1], 3)
    assert confusion([], [], 2).sum() == 0


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50))
def test_log_loss_and_brier_are_scikit_learns_on_any_scores(rows: list[tuple[float, bool]]) -> None:
    scores = np.array([score for score, _ in rows])
    labels = np.array([int(label) for _, label in rows])
    assert log_loss_rows(scores, labels).mean() == pytest.approx(
        sk.log_loss(labels, scores, labels=[0, 1]), rel=1e-9, abs=1e-9
    )
    assert brier_rows(scores, labels).mean() == pytest.approx(sk.brier_score_loss(labels, scores, pos_label=1))


def test_certainty_that_was_wrong_costs_a_bounded_price() -> None:
    assert log_loss_rows([0.0, 1.0], [1, 0]) == pytest.approx([36.0437, 36.0437], abs=1e-4)
    assert log_loss_rows([0.0], [1], eps=1e-3) == pytest.approx([math.log(1000)])


def test_multiclass_log_loss_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    chances, labels = rng.dirichlet([0.4, 1, 2], 500), rng.integers(0, 3, 500)
    rows = log_loss_of_true(chances[np.arange(500), labels])
    assert rows.mean() == pytest.approx(sk.log_loss(labels, chances), rel=1e-9)


def test_a_mean_from_sums_has_the_error_of_the_mean() -> None:
    losses = np.random.default_rng(2).exponential(1.0, 400)
    for stop in (2, 9, 77, 400):
        part = losses[:stop]
        got = mean_from_sums(stop, part.sum(), (part**2).sum())
        assert got.value == pytest.approx(part.mean(), abs=1e-9)
        assert got.se == pytest.approx(part.std(ddof=1) / math.sqrt(stop), rel=1e-9)
    assert np.isnan(mean_from_sums(1, 2.0, 4.0).se)


def test_one_vs_rest_auc_holds_scikit_learns_within_its_bound() -> None:
    rng = np.random.default_rng(9)
    labels = rng.integers(0, 3, 1500)
    chances = rng.dirichlet([1, 1, 1], 1500) + 0.4 * np.eye(3)[labels]
    chances /= chances.sum(axis=1, keepdims=True)
    for stop in (30, 200, 1500):
        tables = [score_histograms(chances[:stop, c], labels[:stop] == c) for c in range(3)]
        got = one_vs_rest_auc([t[1] for t in tables], [t[0] for t in tables])
        expected = sk.roc_auc_score(labels[:stop], chances[:stop], multi_class="ovr", average="macro")
        assert abs(got.value - expected) <= got.bound + 1e-12
        assert got.bound < 0.01


def test_a_class_that_never_came_is_left_out_of_the_mean() -> None:
    members, others = np.array([[0, 3], [0, 0]]), np.array([[4, 0], [3, 4]])
    assert one_vs_rest_auc(members, others).value == 1.0
    assert np.isnan(one_vs_rest_auc(np.zeros((2, 4)), np.ones((2, 4))).value)
