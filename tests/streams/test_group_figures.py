import numpy as np
import pytest

from streams.counting.layout import Layout
from streams.counting.measure import Columns
from streams.counting.references import Reference
from streams.counting.tally import Tally
from streams.counting.tally_outcomes import JoinedRows, tally_outcomes
from streams.counting.tally_predictions import tally_predictions
from streams.figures.group_figures import group_figures

LAYOUT = Layout("binary")


def vector(score: np.ndarray, label: np.ndarray) -> np.ndarray:
    n = len(score)
    nothing = np.zeros((n, 0))
    columns = Columns(
        score=score,
        predicted=(score >= 0.5).astype(float),
        codes=nothing.astype(np.uint8),
        score_codes=None,
        z=nothing,
        furthest=np.zeros(n),
        absent=nothing.astype(bool),
        extra=np.zeros(n, bool),
        class_scores=None,
    )
    tally, rows = Tally(LAYOUT), np.arange(n)
    tally_predictions(tally, columns, rows)
    joined = JoinedRows(score, columns.predicted, label, np.full(n, -1))
    tally_outcomes(tally, rows, joined, Reference(task="binary", features=(), score=None))
    (sparse,) = tally.fold(np.zeros((n, 1), dtype=np.int64), 1)
    found = np.zeros(LAYOUT.size)
    found[sparse.indices], found[sparse.sum_indices] = sparse.counts, sparse.sums
    return found


def test_gaps_between_groups_are_those_of_the_rows() -> None:
    rng = np.random.default_rng(3)
    groups, tables = {}, {}
    for name, lift in (("site=a", 0.0), ("site=b", 0.15), ("site=c", 0.3)):
        score = np.clip(rng.random(4000) * 0.7 + lift, 0, 1)
        label = (rng.random(4000) < score - lift / 2).astype(float)
        groups[name], tables[name] = vector(score, label), (score >= 0.5, label, score)
    found = {figure.signal: figure for figure in group_figures(LAYOUT, groups)}
    selection = [chosen.mean() for chosen, _, _ in tables.values()]
    recall = [chosen[label == 1].mean() for chosen, label, _ in tables.values()]
    alarm = [chosen[label == 0].mean() for chosen, label, _ in tables.values()]
    promise = [score.mean() - label.mean() for _, label, score in tables.values()]
    assert found["demographic_parity_difference"].value == pytest.approx(max(selection) - min(selection), abs=1e-12)
    assert found["true_positive_rate_difference"].value == pytest.approx(max(recall) - min(recall), abs=1e-12)
    assert found["false_positive_rate_difference"].value == pytest.approx(max(alarm) - min(alarm), abs=1e-12)
    assert found["calibration_difference"].value == pytest.approx(max(promise) - min(promise), abs=1e-9)
    assert {figure.subject for figure in found.values()} == {"site"}
    assert found["demographic_parity_difference"].n == 12_000


def test_one_group_has_nobody_to_be_compared_with() -> None:
    assert list(group_figures(LAYOUT, {"site=a": vector(np.array([0.2, 0.8]), np.array([0.0, 1.0]))})) == []


def test_a_regression_selects_nobody() -> None:
    layout = Layout("regression")
    assert list(group_figures(layout, {"site=a": np.zeros(layout.size), "site=b": np.zeros(layout.size)})) == []
