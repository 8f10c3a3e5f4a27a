"""The binned KS statistic lies below scipy's by no more than it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from detectors.base import BadValues
from detectors.binning import NumericBins, count
from detectors.ks import ks_floor, ks_p_value, ks_slack, ks_statistic
from tests.detectors.data import DATA_SETS, PREFIXES


@pytest.mark.parametrize("name", DATA_SETS)
@pytest.mark.parametrize("moved", [0.0, 0.1])
def test_the_statistic_lies_within_its_slack_of_scipys_at_many_prefixes(name: str, moved: float) -> None:
    reference = DATA_SETS[name](seed=1)
    bins = NumericBins.fine(reference)
    counted = count(bins.assign(reference), bins.size)[: bins.ordered]
    for n in PREFIXES:
        live = DATA_SETS[name](seed=2)[:n] + moved
        table = count(bins.assign(live), bins.size)[: bins.ordered]
        truth = stats.ks_2samp(live, reference, method="asymp")
        seen, slack = ks_statistic(table, counted), ks_slack(table, counted)
        assert seen <= truth.statistic + 1e-12
        assert truth.statistic <= seen + slack + 1e-12
        assert slack <= max((table / table.sum()).max(), (counted / counted.sum()).max()) + 1e-12
        assert ks_p_value(truth.statistic, n, reference.size, exact=True) == pytest.approx(truth.pvalue, abs=1e-9)


def test_with_an_edge_at_every_value_the_statistic_is_scipys() -> None:
    rng = np.random.default_rng(4)
    live, reference = rng.integers(0, 40, 300).astype(float), rng.integers(2, 42, 500).astype(float)
    bins = NumericBins(tuple(float(v) for v in range(42)))
    tables = [count(bins.assign(v), bins.size)[: bins.ordered] for v in (live, reference)]
    assert ks_statistic(*tables) == pytest.approx(stats.ks_2samp(live, reference).statistic, abs=1e-12)


def test_many_rows_at_once_give_what_each_row_gives() -> None:
    rng = np.random.default_rng(5)
    live, reference = rng.integers(0, 9, (4, 3, 20)), rng.integers(0, 9, (4, 3, 20))
    whole = ks_statistic(live, reference)
    p = ks_p_value(whole, live.sum(-1), reference.sum(-1))
    for at in np.ndindex(4, 3):
        assert ks_statistic(live[at], reference[at]) == whole[at]
        assert ks_p_value(whole[at], live[at].sum(), reference[at].sum()) == p[at]


def test_the_limit_and_the_exact_tail_agree_for_large_samples() -> None:
    gaps = np.linspace(0.01, 0.06, 6)
    np.testing.assert_allclose(
        ks_p_value(gaps, 20_000, 20_000), ks_p_value(gaps, 20_000, 20_000, exact=True), rtol=0.35, atol=1e-12
    )


def test_noise_alone_passes_the_floor_at_most_alpha_of_the_time() -> None:
    rng = np.random.default_rng(6)
    live = rng.multinomial(400, np.full(100, 0.01), 5_000)
    reference = rng.multinomial(2_000, np.full(100, 0.01), 5_000)
    rate = (ks_statistic(live, reference) > ks_floor(400, 2_000, 0.05)).mean()
    assert 0.01 < rate <= 0.055


def test_an_empty_side_gives_nan_and_p_1() -> None:
    live, reference = np.zeros((2, 3), dtype=np.int64), np.array([[1, 2, 3], [0, 0, 0]])
    assert np.isnan(ks_statistic(live, reference)).all()
    np.testing.assert_array_equal(ks_p_value(ks_statistic(live, reference), 0, reference.sum(-1)), [1.0, 1.0])
    assert ks_floor(0, 10, 0.05) == np.inf


def test_counts_over_other_bins_or_in_fractions_are_refused() -> None:
    for bad in (np.array([1, 2]), np.array([0.5, 0.5, 1.0]), np.array(1)):
        with pytest.raises(BadValues):
            ks_statistic(np.array([1, 2, 3]), bad)
