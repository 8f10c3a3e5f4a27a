"""Spans of dependent rows: what is found is what theory says of the process, and independent rows keep all their worth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from detectors.dependence import (
    design_effect,
    discounted,
    histogram_excess,
    mean_excess,
    own_variation,
    share_excess,
)

ROWS, SPANS = 40, 400


def means(values: np.ndarray, rows: int) -> np.ndarray:
    return values[: len(values) // rows * rows].reshape(-1, rows)


def rho_of(values: np.ndarray, rows: int) -> float:
    spans = means(values, rows)
    found = mean_excess(rows, spans.mean(axis=1), len(values), values.mean(), values.var(), rows / len(values))
    return float(own_variation(found.value, found.rare))


def autoregressive(rng: np.random.Generator, n: int, keeps: float) -> np.ndarray:
    shocks = rng.normal(0.0, math.sqrt(1.0 - keeps**2), n)
    values = np.empty(n)
    values[0] = rng.normal()
    for at in range(1, n):
        values[at] = keeps * values[at - 1] + shocks[at]
    return values


def test_an_autoregressive_process_has_the_design_effect_of_its_theory() -> None:
    keeps = 0.9
    lags = np.arange(1, ROWS)
    theory = 1.0 + 2.0 * float(((1.0 - lags / ROWS) * keeps**lags).sum())  # n var(mean) / var
    values = autoregressive(np.random.default_rng(1), ROWS * SPANS, keeps)
    assert float(design_effect(ROWS, rho_of(values, ROWS))) == pytest.approx(theory, rel=0.3)


def test_a_cycle_counts_in_spans_that_are_short_beside_it_and_not_in_whole_cycles() -> None:
    rng = np.random.default_rng(2)
    cycle = 360
    values = rng.normal(size=cycle * 60) + 0.7 * math.sqrt(2.0) * np.sin(2 * np.pi * np.arange(cycle * 60) / cycle)
    share = 0.49 / values.var()
    assert share * 0.8 < rho_of(values, ROWS) < share * 2.0, (
        "the third quartile of a sine lies higher than that of a normal"
    )
    assert rho_of(values, cycle) == 0.0


def test_a_common_part_of_each_span_is_found_in_shares_and_in_histograms() -> None:
    rng = np.random.default_rng(3)
    # Beta-binomial with intraclass correlation 0.05.
    shares = rng.beta(0.3 * 19, 0.7 * 19, SPANS)
    hits = rng.binomial(ROWS, shares)
    found = share_excess(hits, np.full(SPANS, ROWS), hits.sum(), ROWS * SPANS)
    assert float(own_variation(found.value, found.rare)) == pytest.approx(0.05, rel=0.4)
    # Dirichlet-multinomial: the trace over the bins is (bins - 1) times that correlation.
    of_spans = rng.dirichlet(np.full(5, 0.2 * 19), SPANS)
    counts = np.array([rng.multinomial(ROWS, share) for share in of_spans])
    found = histogram_excess(counts, np.broadcast_to(counts.sum(axis=0), counts.shape))
    assert 0.04 < float(own_variation(found.value, found.rare)) < 4 * 0.05 * 1.5


@pytest.mark.parametrize("bins", [2, 5, 12])
@pytest.mark.parametrize("spans", [8, 32])
def test_independent_rows_keep_their_worth(bins: int, spans: int) -> None:
    rng = np.random.default_rng([bins, spans])
    share = rng.dirichlet(np.ones(bins))
    inflated, tries = 0, 2000
    usual = rng.multinomial(20_000, share)
    live = rng.multinomial(50, share, (tries, spans))
    found = histogram_excess(live, np.broadcast_to(usual, live.shape))
    inflated = int((np.nan_to_num(own_variation(found.value, found.rare)) > 0).sum())
    # Rare bins make the distance's tail heavier than the chi-squared law has it: a few times the gate.
    assert inflated <= 5
    assert 0.7 < float((found.value[np.isfinite(found.value)] < 0).mean()) < 0.8, (
        "three in four lie below their quartile"
    )


def test_a_quarter_of_faulty_spans_moves_nothing() -> None:
    rng = np.random.default_rng(5)
    spans = rng.normal(size=(24, ROWS)).mean(axis=1)
    spans[:5] += 2.0
    found = mean_excess(ROWS, spans, 10_000, 0.0, 1.0)
    assert float(own_variation(found.value, found.rare)) == 0.0


def test_few_spans_say_nothing_and_unknown_ones_do_not_count() -> None:
    value = np.full((2, 10), 1.0)
    value[1, :3] = np.nan
    rho = own_variation(value, np.ones((2, 10), dtype=bool))
    assert rho[0] > 0
    assert math.isnan(rho[1])
    assert float(design_effect(100, rho[1])) == 1.0


def test_what_the_usual_holds_of_the_span_itself_is_taken_out() -> None:
    rng = np.random.default_rng(6)
    values = autoregressive(rng, ROWS * 6, 0.9)
    spans = means(values, ROWS)
    together = mean_excess(ROWS, spans.mean(axis=1), len(values), values.mean(), 1.0, 1 / 6)
    others = (values.sum() - spans.sum(axis=1)) / (len(values) - ROWS)
    apart = mean_excess(ROWS, spans.mean(axis=1), len(values) - ROWS, others, 1.0)
    assert together.value == pytest.approx(apart.value)


def test_a_span_that_is_larger_than_all_others_together_says_nothing() -> None:
    assert np.isnan(mean_excess(100, 1.0, 150, 0.0, 1.0, 100 / 150).value)


@given(st.floats(0.5, 60.0), st.floats(1.0, 500.0))
def test_a_chance_to_the_power_of_one_over_the_design_effect_is_never_too_small(z: float, effect: float) -> None:
    log_p = float(special.log_ndtr(-z))
    assert float(discounted(log_p, effect)) >= float(special.log_ndtr(-z / math.sqrt(effect))) - 1e-9


@given(st.integers(20, 400), st.floats(0.02, 0.6), st.floats(0.0, 1.0), st.floats(1.0, 20.0))
def test_nor_is_that_of_a_share(n: int, share: float, part: float, effect: float) -> None:
    k = share * n + part * (n - share * n)
    exact = stats.beta.logcdf(share, k / effect, (n - k) / effect + 1.0) if k > 0 else 0.0
    whole = stats.beta.logcdf(share, k, n - k + 1.0) if k > 0 else 0.0
    if np.isfinite(whole) and whole < math.log(1e-3):
        assert float(discounted(whole, effect)) >= exact - 0.7, (
            "but for what rounding to whole rows adds: a factor of two"
        )
