"""Divergences against scipy and against their own noise."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.spatial.distance import jensenshannon

from detectors import divergence as dv
from detectors.base import BadValues
from detectors.binning import NumericBins, count
from tests.detectors.data import DATA_SETS, PREFIXES

Counts = npt.NDArray[np.int64]
TABLE = hnp.arrays(np.int64, hnp.array_shapes(min_dims=1, max_dims=3, max_side=6), elements=st.integers(0, 10**6))


def slow_psi(live: list[int], reference: list[int]) -> float:
    pairs = [(a + 0.5, b + 0.5) for a, b in zip(live, reference, strict=True) if a or b]
    n, m = sum(a for a, _ in pairs), sum(b for _, b in pairs)
    return float(sum((a / n - b / m) * np.log((a / n) / (b / m)) for a, b in pairs))


def tables(name: str, n: int) -> tuple[Counts, Counts]:
    reference, live = DATA_SETS[name](seed=1), DATA_SETS[name](seed=2)[:n]
    bins = NumericBins.from_reference(reference)
    return count(bins.assign(live), bins.size), count(bins.assign(reference), bins.size)


@pytest.mark.parametrize("name", DATA_SETS)
def test_figures_agree_with_scipy_at_many_prefixes(name: str) -> None:
    for n in PREFIXES:
        live, reference = tables(name, n)
        a, b = live / live.sum(), reference / reference.sum()
        assert dv.psi(live, reference) == pytest.approx(slow_psi(live.tolist(), reference.tolist()), abs=1e-12)
        assert dv.js_divergence(live, reference) == pytest.approx(jensenshannon(a, b) ** 2, abs=1e-12)
        assert dv.l_infinity(live, reference) == pytest.approx(np.abs(a - b).max(), abs=1e-12)
        used = int(((live + reference) > 0).sum())
        noise = 1 / live.sum() + 1 / reference.sum()
        if used > 1:
            floor = dv.psi_floor(live.sum(), reference.sum(), used, 1e-8)
            assert floor == pytest.approx(noise * stats.chi2.isf(1e-8, used - 1), rel=1e-9)
        assert dv.psi_debiased(live, reference) == pytest.approx(
            slow_psi(live.tolist(), reference.tolist()) - (used - 1) * noise, abs=1e-12
        )


def test_p_values_are_the_tail_of_chi_squared() -> None:
    value = np.array([0.0, 0.01, 0.1, 0.5])
    expected = stats.chi2.sf(value / (1 / 200 + 1 / 1_000), 9)
    np.testing.assert_allclose(dv.psi_p_value(value, 200, 1_000, 10), expected, rtol=1e-9)
    assert dv.psi_p_value(0.1, 0, 100, 10) == 1.0
    assert dv.psi_p_value(0.1, 100, 100, 1) == 1.0


@given(TABLE, st.data())
def test_many_rows_at_once_give_what_each_row_gives_and_no_warning(live: Counts, data: st.DataObject) -> None:
    reference = data.draw(hnp.arrays(np.int64, live.shape, elements=st.integers(0, 10**6)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = dv.compare(live, reference, alpha=1e-6)
        for at in np.ndindex(live.shape[:-1]):
            row = dv.compare(live[at], reference[at], alpha=1e-6)
            for name in dv.Comparison.__slots__:
                np.testing.assert_allclose(getattr(whole, name)[at], getattr(row, name), rtol=1e-12, atol=1e-15)


@given(TABLE)
def test_a_table_does_not_differ_from_itself(live: Counts) -> None:
    known = live.sum(axis=-1) > 0
    for figure in (dv.psi, dv.js_divergence, dv.l_infinity):
        value = figure(live, live)
        assert (value[known] == 0.0).all()
        assert np.isnan(value[~known]).all()


@given(TABLE, st.data())
def test_js_divergence_is_symmetric_and_at_most_ln_2(live: Counts, data: st.DataObject) -> None:
    reference = data.draw(hnp.arrays(np.int64, live.shape, elements=st.integers(0, 10**6)))
    there, back = dv.js_divergence(live, reference), dv.js_divergence(reference, live)
    np.testing.assert_allclose(there, back, atol=1e-15)
    assert (there[np.isfinite(there)] <= np.log(2) + 1e-12).all()


def test_bins_empty_on_both_sides_change_nothing() -> None:
    live, reference = np.array([30, 20, 50]), np.array([100, 80, 20])
    wide_live, wide_reference = np.array([0, 30, 0, 20, 50, 0]), np.array([0, 100, 0, 80, 20, 0])
    assert dv.psi(live, reference) == dv.psi(wide_live, wide_reference)
    assert dv.used_bins(wide_live, wide_reference) == 3


def test_an_empty_side_gives_nan_and_an_infinite_floor() -> None:
    empty, full = np.zeros(3, dtype=np.int64), np.array([1, 2, 3])
    for live, reference in ((empty, full), (full, empty), (empty, empty)):
        result = dv.compare(live, reference, alpha=0.01)
        assert np.isnan([result.psi, result.js, result.l_infinity]).all()
        assert np.isinf([result.psi_floor, result.js_floor, result.l_infinity_floor]).all()


@pytest.mark.parametrize(("n", "m"), [(100, 1_000), (400, 400), (5_000, 50_000)])
def test_noise_alone_passes_the_floor_about_alpha_of_the_time(n: int, m: int) -> None:
    rng = np.random.default_rng(11)
    shares = np.full(10, 0.1)
    live, reference = rng.multinomial(n, shares, 20_000), rng.multinomial(m, shares, 20_000)
    value = dv.psi(live, reference)
    for alpha in (0.05, 0.01):
        rate = (value > dv.psi_floor(n, m, 10, alpha)).mean()
        assert alpha / 2 < rate < 1.5 * alpha
    assert dv.psi_debiased(live, reference).mean() == pytest.approx(0.0, abs=0.2 * 9 * (1 / n + 1 / m))
    js_rate = (dv.js_divergence(live, reference) > dv.js_floor(n, m, 10, 0.01)).mean()
    assert js_rate < 0.03


def test_a_hundred_rows_of_a_stable_feature_often_exceed_the_usual_threshold() -> None:
    rng = np.random.default_rng(12)
    live = rng.multinomial(100, np.full(10, 0.1), 5_000)
    value = dv.psi(live, np.full(10, 100_000))
    assert (value > 0.1).mean() > 0.25
    assert (value > np.maximum(0.1, dv.psi_floor(100, 10**6, 10, 1e-4))).mean() < 0.002


def test_noise_alone_never_passes_the_floor_of_l_infinity_more_often_than_alpha() -> None:
    rng = np.random.default_rng(13)
    shares = 1.0 / np.arange(1, 301)
    shares /= shares.sum()
    live, reference = rng.multinomial(500, shares, 4_000), rng.multinomial(5_000, shares, 4_000)
    rate = (dv.l_infinity(live, reference) > dv.l_infinity_floor(live, reference, 0.05)).mean()
    assert rate <= 0.05
    moved = live.copy()
    moved[:, 0] += 250
    assert (dv.l_infinity(moved, reference) > dv.l_infinity_floor(moved, reference, 1e-8)).all()


@given(TABLE, st.data())
def test_merging_rare_bins_keeps_every_row_and_leaves_no_thin_bin(live: Counts, data: st.DataObject) -> None:
    reference = data.draw(hnp.arrays(np.int64, live.shape, elements=st.integers(0, 10**6)))
    merged_live, merged_reference = dv.merge_rare(live, reference)
    assert merged_live.shape == (*live.shape[:-1], live.shape[-1] + 1)
    np.testing.assert_array_equal(merged_live.sum(axis=-1), live.sum(axis=-1))
    np.testing.assert_array_equal(merged_reference.sum(axis=-1), reference.sum(axis=-1))
    enough = (dv.smallest_expected(merged_live, merged_reference) >= 3.0 - 1e-9) | (
        dv.used_bins(merged_live, merged_reference) <= 1
    )
    assert enough.all()


def test_rare_bins_that_expect_enough_together_stay_a_bin_of_their_own() -> None:
    reference = np.array([900, 50, 20, 20, 10])
    live, pooled = dv.merge_rare(np.array([60, 20, 10, 5, 5]), reference)
    assert live.tolist() == [60, 20, 0, 0, 0, 20]
    assert pooled.tolist() == [900, 50, 0, 0, 0, 50]
    live, pooled = dv.merge_rare(np.array([12, 4, 2, 1, 1]), reference)
    assert live.tolist() == [20, 0, 0, 0, 0, 0]  # all but the first expect 2 of 20 together: too few
    assert pooled.tolist() == [1_000, 0, 0, 0, 0, 0]


def test_what_pooling_hides_is_told_as_rare_mass() -> None:
    reference = np.array([0, 10_000, 0])  # a constant feature between its open tails
    live = np.array([0, 0, 200])
    result = dv.compare(live, reference, alpha=1e-8)
    assert (result.rare_live, result.rare_reference) == (200, 0)
    assert np.isinf(result.psi_floor)  # one bin is left: PSI has nothing to say


def test_counts_that_are_negative_fractional_or_over_other_bins_are_refused() -> None:
    good = np.array([1, 2, 3])
    for bad in (np.array([1, -1, 0]), np.array([0.5, 1.0, 1.0]), np.array([1, 2]), np.array(3)):
        with pytest.raises(BadValues):
            dv.psi(good, bad)
