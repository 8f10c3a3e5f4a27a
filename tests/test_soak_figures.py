"""The slope that `benchmarks/soak.py` prints is that of the samples, and its interval holds what it promises."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

from benchmarks.soak_figures import Sample, at_shares, slope, sparkline


def test_one_sample_a_block_is_least_squares() -> None:
    rng = np.random.default_rng(1)
    x = np.linspace(0.0, 5.0, 12)
    y = 300.0 + 2.5 * x + rng.normal(0, 1, 12)
    fit = stats.linregress(x, y)
    found = slope(x, y, blocks=12)
    assert found.n == 12
    assert found.value == pytest.approx(fit.slope)
    assert found.error >= fit.stderr * stats.t.ppf(0.975, 10) * (1 - 1e-9)


@pytest.mark.parametrize("likeness", [0.0, 0.9])
def test_the_interval_holds_the_true_slope_as_often_as_it_says(likeness: float) -> None:
    """2,000 runs of 600 looks, as alike as looks that follow each other are; 95 % promised, standard error 0.5 %."""
    rng = np.random.default_rng(7)
    x = np.linspace(0.0, 5.0, 600)
    held = 0
    for _ in range(2_000):
        noise = lfilter([1.0], [1.0, -likeness], rng.normal(0, 1, 600))
        found = slope(x, 1.5 * x + noise)
        held += abs(found.value - 1.5) <= found.error
    assert held / 2_000 > 0.93


def test_too_few_looks_have_no_slope() -> None:
    with pytest.raises(ValueError, match="too few"):
        slope(np.array([0.0, 0.1, 5.0]), np.array([1.0, 1.0, 1.0]))


def test_a_flat_line_is_flat() -> None:
    found = slope(np.arange(100.0), np.full(100, 3.0))
    assert (found.value, found.error) == (0.0, 0.0)


def test_the_line_goes_from_the_least_to_the_greatest() -> None:
    assert sparkline(np.arange(8.0)) == "▁▂▃▄▅▆▇█"
    assert sparkline(np.full(3, 5.0)) == "▁▁▁"


def test_a_look_after_each_share() -> None:
    samples = [Sample(float(n), n * 10, n * 10, 1.0, 1.0) for n in range(101)]
    assert [sample.events for sample in at_shares(samples)] == [n * 100 for n in range(11)]
