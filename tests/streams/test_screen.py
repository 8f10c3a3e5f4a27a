"""Screens remove nothing that the full test would find, and the pooled PSI is the full test."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from detectors.auc import average_precision, tied_precision
from detectors.calibration import expected_calibration_error
from detectors.cbpe import calibration_map, positives_departure
from detectors.divergence import compare
from streams.rules.screen import (
    PooledPsi,
    PrecisionAtShare,
    calibration_floors,
    departures_are_likely,
    precision_at_most,
    share_is_likely,
    shifts,
)

alphas = st.floats(1e-12, 0.5)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 3000), st.floats(0, 1), st.floats(1e-6, 1 - 1e-6), alphas)
def test_a_share_that_is_screened_out_would_not_have_passed_either_tail(
    n: int, part: float, p: float, alpha: float
) -> None:
    k = round(part * n)
    if share_is_likely(k, n, p, math.log(alpha)):
        assert stats.binom.sf(k - 1, n, p) > alpha
        assert stats.binom.cdf(k, n, p) > alpha


def test_the_share_screen_does_screen() -> None:
    assert share_is_likely(30, 100, 0.3, math.log(1e-8))
    assert not share_is_likely(90, 100, 0.3, math.log(1e-8))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 400), st.integers(0, 400)), min_size=2, max_size=10),
    alphas,
)
def test_a_departure_that_is_screened_out_would_not_have_passed(bins: list[tuple[int, int, int]], alpha: float) -> None:
    hits = np.array([min(hit, rows) for hit, rows, _ in bins], dtype=np.float64)
    rows = np.array([rows for _, rows, _ in bins], dtype=np.float64)
    live = np.array([count for _, _, count in bins], dtype=np.float64)
    if live.sum() == 0:
        return
    usual = calibration_map(hits, rows - hits)
    steady = (usual.share * usual.weight + 0.5) / (usual.weight + 1.0)
    noise = float(live @ (steady * (1.0 - steady)))
    for found in (0.0, float(live.sum()) / 2, float(live.sum())):
        miss = abs(found - float(live @ usual.share))
        if departures_are_likely(np.array([miss]), np.array([noise]), math.log(alpha))[0]:
            assert float(positives_departure(found, live, usual).log_p) > math.log(alpha)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=10), alphas)
def test_the_floor_of_calibration_is_the_detectors(bins: list[tuple[int, float, float]], alpha: float) -> None:
    rows = np.array([n for n, _, _ in bins], dtype=np.float64)
    if rows.sum() == 0:
        return
    scores = rows * np.array([score for _, score, _ in bins])
    positives = np.round(rows * np.array([share for _, _, share in bins]))
    full = expected_calibration_error(rows, scores, positives, alpha)
    # Beyond 1 the detector's floor stops: no error of calibration reaches it either way.
    stacked = calibration_floors(np.stack([rows, rows]), np.stack([scores, scores * 0.0]), alpha)
    assert min(float(stacked[0]), 1.0) == pytest.approx(float(full.floor), rel=1e-9)


counts = st.integers(2, 9).flatmap(
    lambda bins: st.lists(
        st.tuples(
            st.lists(st.integers(0, 300), min_size=bins, max_size=bins),
            st.lists(st.integers(0, 3000), min_size=bins, max_size=bins),
        ),
        min_size=1,
        max_size=4,
    )
)


@settings(max_examples=200, deadline=None)
@given(counts, st.floats(1e-10, 0.4))
def test_the_pooled_psi_is_the_comparison_of_each_subject(
    subjects: list[tuple[list[int], list[int]]], alpha: float
) -> None:
    reference = np.array([before for _, before in subjects])
    live = np.array([now for now, _ in subjects])
    n = int(live.sum(axis=1).max())
    if n == 0 or (reference.sum(axis=1) == 0).any():
        return
    live[:, 0] += n - live.sum(axis=1)  # a row counts once for every subject
    other = live[:, ::-1] * 3  # another look, against another baseline, of other rows: each is as if it were alone
    pooled = [PooledPsi(reference), PooledPsi(np.ascontiguousarray(reference[:, ::-1]))]
    shift = shifts(np.stack([live, other]), np.array([n, 3 * n]), pooled, alpha)
    for at, (look, known) in enumerate(((live, reference), (other, reference[:, ::-1]))):
        full = compare(look, known, alpha=alpha)
        compared = full.bins >= 2
        assert shift.psi[at, compared] == pytest.approx(full.psi[compared], rel=1e-9, abs=1e-12)
        assert shift.debiased[at, compared] == pytest.approx(full.psi_debiased[compared], rel=1e-9, abs=1e-12)
        assert shift.floor[at, compared] == pytest.approx(full.psi_floor[compared], rel=1e-9)
        assert not (shift.psi > shift.floor)[at, ~compared].any(), "one bin tells nothing"


def test_the_pooled_psis_p_is_that_of_its_law() -> None:
    reference, live = np.array([[500, 300, 200]]), np.array([[[40, 40, 40]]])
    shift = shifts(live, np.array([120]), [PooledPsi(reference)], 1e-3)
    p = special.chdtrc(2, shift.psi[0, 0] / (1 / 120 + 1 / 1000))
    first = np.array([0])
    assert shift.log_p(first, first) == pytest.approx(math.log(p))


_tables = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)


@given(_tables, st.floats(0.01, 100.0))
def test_the_precision_at_a_share_of_positives_is_bounded_from_above_and_not_by_much(
    table: list[tuple[int, int]], weight: float
) -> None:
    pos, neg = np.array([(1, 0), *table], dtype=float).T
    exact = float(tied_precision(pos, weight * neg))
    bound = PrecisionAtShare(pos, neg).at_most(weight)
    assert exact <= bound <= exact * PrecisionAtShare.STEP + 1e-6


@given(_tables)
def test_the_highest_precision_over_occupied_bins_is_that_over_all(table: list[tuple[int, int]]) -> None:
    pos, neg = np.array([(1, 0), *table], dtype=float).T
    other = np.roll(pos, 1)  # a look with rows in other bins
    found = precision_at_most(np.stack([pos, other]), np.stack([neg, neg]))
    assert found[0] == pytest.approx(float(average_precision(pos, neg).high), abs=1e-12)
    assert found[1] == pytest.approx(float(average_precision(other, neg).high), abs=1e-12)
