"""Means and deviations against numpy; sums that do not care how the rows were grouped."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from detectors.base import BadParameter, BadValues, UnequalConfigurations
from detectors.moments import CLIP, MomentScale, mean_shift_z
from tests.detectors.data import DATA_SETS, PREFIXES, heavy_tail, uniform

SCALE = MomentScale((0.0, 5.0), (1.0, 0.25))
ROWS = hnp.arrays(np.float64, st.tuples(st.integers(0, 40), st.just(2)), elements=st.floats(width=64))


@pytest.mark.parametrize("name", DATA_SETS)
def test_mean_and_std_agree_with_numpy_at_many_prefixes(name: str) -> None:
    values = np.stack([DATA_SETS[name](seed=1), 1e3 + 7 * DATA_SETS[name](seed=2)], axis=1)
    scale = MomentScale.from_reference(values)
    for n in PREFIXES:
        folded = scale.fold(values[:n])
        spread = values[:n].std(axis=0)
        assert folded.n.tolist() == [n, n]
        assert folded.clipped.tolist() == [0, 0]
        np.testing.assert_allclose(folded.mean, values[:n].mean(axis=0), rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(folded.std / scale.spreads, spread / scale.spreads, rtol=1e-9, atol=1e-9)


@given(ROWS, ROWS)
def test_merging_is_folding_everything_and_subtracting_undoes_it_to_the_bit(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]
) -> None:
    one, two = SCALE.fold(a), SCALE.fold(b)
    merged = one.merge(two)
    np.testing.assert_array_equal(merged.table, SCALE.fold(np.concatenate([a, b])).table)
    np.testing.assert_array_equal(merged.table, two.merge(one).table)
    np.testing.assert_array_equal(merged.subtract(two).table, one.table)
    np.testing.assert_array_equal(one.merge(SCALE.empty()).table, one.table)


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_move_a_single_bit(rows: npt.NDArray[np.float64], random: object) -> None:
    order = np.arange(len(rows))
    random.shuffle(order)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(SCALE.fold(rows).table, SCALE.fold(rows[order]).table)


def test_folding_by_cell_is_folding_each_cells_rows() -> None:
    rng = np.random.default_rng(1)
    rows, cells = rng.normal(size=(300, 2)), rng.integers(0, 4, 300)
    whole = SCALE.fold_by_cell(rows, cells, 4)
    for cell in range(4):
        np.testing.assert_array_equal(whole.table[cell], SCALE.fold(rows[cells == cell]).table)
    assert whole.mean.shape == (4, 2)


def test_nan_and_infinity_are_left_out_and_far_values_are_clipped_and_counted() -> None:
    rows = np.array([[np.nan, 5.0], [np.inf, 1e30], [2.0, -np.inf]])
    folded = SCALE.fold(rows)
    assert folded.n.tolist() == [1, 2]
    assert folded.clipped.tolist() == [0, 1]
    assert folded.mean[1] == pytest.approx((5.0 + 5.0 + CLIP * 0.25) / 2)
    assert np.isnan(SCALE.empty().mean).all()


def test_two_billion_extreme_rows_do_not_overflow() -> None:
    one = SCALE.fold(np.full((1_000, 2), 1e30))
    table = one.table * 2_000_000
    assert (table >= 0).all()
    many = type(one)(SCALE, table)
    np.testing.assert_allclose(many.mean, one.mean)
    np.testing.assert_allclose(many.std, one.std, atol=1e-6)


def test_moments_of_different_scales_do_not_add() -> None:
    other = MomentScale((0.0, 5.0), (1.0, 0.5))
    with pytest.raises(UnequalConfigurations):
        SCALE.empty().merge(other.empty())
    with pytest.raises(UnequalConfigurations):
        SCALE.empty().subtract(other.empty())
    assert other.fingerprint != SCALE.fingerprint == MomentScale((0.0, 5.0), (1.0, 0.25)).fingerprint


def test_a_constant_column_has_spread_1() -> None:
    assert MomentScale.from_reference(np.full((7, 1), 0.1)).spread == (1.0,)


@pytest.mark.parametrize(("centre", "spread"), [((0.0,), (0.0,)), ((np.nan,), (1.0,)), ((0.0,), (1.0, 1.0))])
def test_a_scale_without_meaning_is_refused(centre: tuple[float, ...], spread: tuple[float, ...]) -> None:
    with pytest.raises(BadParameter):
        MomentScale(centre, spread)


def test_values_of_another_shape_are_refused() -> None:
    with pytest.raises(BadValues):
        SCALE.fold(np.zeros((3, 3)))


def test_the_mean_shift_and_its_error_are_those_of_numpy() -> None:
    live, reference = uniform(400, seed=1) + 0.1, uniform(900, seed=2)
    z, error = mean_shift_z(400, live.mean(), live.std(), 900, reference.mean(), reference.std())
    assert z == pytest.approx(abs(live.mean() - reference.mean()) / reference.std(), rel=1e-12)
    wider = max(live.std(), reference.std())
    truth = np.sqrt(wider**2 / 399 + reference.var(ddof=1) / 900) / reference.std()
    assert error == pytest.approx(truth, rel=1e-12)


def test_noise_alone_stays_below_three_errors() -> None:
    rng = np.random.default_rng(3)
    live, reference = rng.normal(size=(4_000, 60)), rng.normal(size=(4_000, 200))
    z, error = mean_shift_z(60, live.mean(1), live.std(1), 200, reference.mean(1), reference.std(1))
    assert 0.0005 < (z > 3 * error).mean() < 0.007


def test_a_skewed_feature_does_not_alarm_more_often_than_alpha_says() -> None:
    rng = np.random.default_rng(4)
    amounts = np.where(rng.random((20_000, 200)) < 0.1, rng.exponential(1.0, (20_000, 200)), 0.0)
    z, error = mean_shift_z(200, amounts.mean(1), amounts.std(1), 10**6, 0.1, np.sqrt(0.19))
    # 3.29 deviations are 0.001; by the live deviation alone it would be 0.025
    assert (z > 3.29 * error).mean() <= 0.001


def test_without_two_rows_or_without_spread_the_error_is_infinite() -> None:
    z, error = mean_shift_z([1, 50, 50], 0.5, 0.1, [50, 1, 50], 0.4, [0.1, 0.1, 0.0])
    assert np.isnan(z).all()
    assert np.isinf(error).all()


def test_a_heavy_tail_is_folded_without_clipping_by_its_own_scale() -> None:
    values = heavy_tail(50_000)[:, None]
    folded = MomentScale.from_reference(values).fold(values)
    assert folded.clipped[0] == 0
    np.testing.assert_allclose(folded.std, values.std(axis=0), rtol=1e-9)
