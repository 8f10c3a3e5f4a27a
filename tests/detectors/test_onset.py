"""Onsets against brute force, and the interval's coverage by simulation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from detectors.base import BadParameter, BadValues
from detectors.onset import onset_of_counts, onset_of_means

BEFORE = np.array([0.4, 0.3, 0.2, 0.1])
AFTER = np.array([0.25, 0.3, 0.2, 0.25])


def changed(rng: np.random.Generator, at: int, panes: int = 40, n: int = 30, runs: int = 1) -> npt.NDArray[np.int64]:
    shares = np.where((np.arange(panes) < at)[:, None], BEFORE, AFTER)
    return rng.multinomial(n, np.broadcast_to(shares, (runs, panes, 4)))


def log_likelihood(counts: npt.NDArray[np.int64], shares: npt.NDArray[np.float64]) -> float:
    # the multinomial coefficients of the panes do not depend on the onset and are left out
    return float(sum(c * np.log(p) for c, p in zip(counts, shares, strict=True) if c))


@pytest.mark.parametrize("at", [0, 1, 17, 39])
@pytest.mark.parametrize("known", [True, False])
def test_the_estimate_is_that_of_brute_force(at: int, known: bool) -> None:
    panes = changed(np.random.default_rng(at), at)[0]
    reference = np.array([4_000, 3_000, 2_000, 1_000])
    padded = (reference + 0.5) / (reference + 0.5).sum()
    fits = []
    for start in range(40):
        head, tail = panes[:start].sum(axis=0), panes[start:].sum(axis=0)
        own = head / head.sum() if head.sum() else BEFORE
        fits.append(log_likelihood(head, padded if known else own) + log_likelihood(tail, tail / tail.sum()))
    got = onset_of_counts(panes, reference if known else None)
    assert got.pane == int(np.argmax(fits))
    near = np.flatnonzero(np.array(fits) >= max(fits) - 3.0)
    assert (got.first, got.last) == (near[0], near[-1])
    whole = panes.sum(axis=0)
    assert got.gain == pytest.approx(max(fits) - log_likelihood(whole, padded if known else whole / whole.sum()))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("at", [5, 20, 35])
def test_the_interval_covers_the_true_pane(at: int, known: bool) -> None:
    panes = changed(np.random.default_rng(1), at, runs=2_000)
    got = onset_of_counts(panes, np.array([4_000, 3_000, 2_000, 1_000]) if known else None)
    clear = got.gain > 8.0  # a change that somebody was told of
    assert clear.mean() > 0.5
    assert ((got.first <= at) & (at <= got.last))[clear].mean() > 0.95
    assert np.median(np.abs(got.pane - at)[clear]) <= 1
    assert np.median((got.last - got.first)[clear]) <= 12


def test_the_onset_of_a_rate_is_that_of_two_bins() -> None:
    n, failures = np.full(30, 50), np.where(np.arange(30) < 12, 2, 12)
    got = onset_of_counts(np.stack([failures, n - failures], axis=-1), np.array([40, 960]))
    assert (got.pane, got.first, got.last) == (12, 12, 12)


def test_a_bin_that_the_reference_never_saw_is_unlikely_but_not_impossible() -> None:
    panes = np.zeros((10, 2), dtype=np.int64)
    panes[:, 0], panes[6:, 1] = 20, 20
    got = onset_of_counts(panes, np.array([1_000, 0]))
    assert got.pane == 6
    assert np.isfinite(got.gain)


@pytest.mark.parametrize("mean", [0.0, None])
def test_the_onset_of_a_mean_is_that_of_brute_force_and_its_interval_covers(mean: float | None) -> None:
    rng = np.random.default_rng(5)
    n = rng.integers(0, 40, (1_500, 30))
    total = rng.normal(n * np.where(np.arange(30) < 13, 0.0, 0.5), np.sqrt(np.maximum(n, 1e-9)))
    got = onset_of_means(n, total, mean=mean, std=1.0)
    clear = got.gain > 8.0
    assert clear.mean() > 0.9
    assert ((got.first <= 13) & (got.last >= 13))[clear].mean() > 0.95
    fits = []
    for start in range(30):
        tail, head = (total[0, start:].sum(), n[0, start:].sum()), (total[0, :start].sum(), n[0, :start].sum())
        fits.append(tail[0] ** 2 / (2 * tail[1]) + (head[0] ** 2 / (2 * head[1]) if mean is None and head[1] else 0.0))
    assert got.pane[0] == int(np.argmax(fits))


def test_many_cells_at_once_give_what_each_gives() -> None:
    panes = changed(np.random.default_rng(2), 10, runs=6).reshape(2, 3, 40, 4)
    reference = np.array([400, 300, 200, 100])
    whole = onset_of_counts(panes, reference)
    for at in np.ndindex(2, 3):
        one = onset_of_counts(panes[at], reference)
        assert (one.pane, one.first, one.last) == (whole.pane[at], whole.first[at], whole.last[at])


def test_empty_panes_and_a_single_pane_have_an_answer() -> None:
    empty = onset_of_counts(np.zeros((5, 3), dtype=np.int64), np.array([1, 1, 1]))
    assert (empty.first, empty.last, empty.gain) == (0, 4, 0.0)
    assert onset_of_counts(np.array([[3, 4]]), np.array([10, 10])).pane == 0
    assert onset_of_means([0, 0], [0.0, 0.0], mean=None, std=1.0).gain == 0.0


def test_senseless_input_is_refused() -> None:
    for bad in (np.ones((3, 2)), np.array([1, 2]), np.array([[1, -1]]), np.zeros((0, 3), dtype=np.int64)):
        with pytest.raises(BadValues):
            onset_of_counts(bad, np.array([1, 1]))
    with pytest.raises(BadValues):
        onset_of_counts(np.array([[1, 2]]), np.array([1, 2, 3]))
    with pytest.raises(BadParameter):
        onset_of_counts(np.array([[1, 2]]), np.array([1, 2]), drop=0.0)
    with pytest.raises(BadParameter):
        onset_of_means([1], [1.0], mean=0.0, std=0.0)
    with pytest.raises(BadValues):
        onset_of_means([1], [np.nan], mean=0.0, std=1.0)
