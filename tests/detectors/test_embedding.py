"""Embedding drift against numpy and scikit-learn's PCA."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.decomposition import PCA

from detectors.base import BadParameter, BadValues
from detectors.embedding import FrozenPca, norm_shift, norms


def correlated(n: int, seed: int, broken: bool = False) -> npt.NDArray[np.float64]:
    """Ten columns driven by three causes; ``broken``: two columns no longer move together, each looks as before."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(0).normal(size=(3, 10))
    rows = rng.normal(size=(n, 3)) @ mix + 0.1 * rng.normal(size=(n, 10))
    if broken:
        rows[:, 0] = rng.permutation(rows[:, 0])
    return rows * np.linspace(1, 1_000, 10) + 50.0


def test_norms_agree_with_numpy_and_do_not_overflow() -> None:
    rows = np.random.default_rng(1).normal(size=(200, 16))
    np.testing.assert_allclose(norms(rows), np.linalg.norm(rows, axis=1), rtol=1e-12)
    np.testing.assert_allclose(norms([[3e200, 4e200], [0.0, 0.0]]), [5e200, 0.0])
    assert np.isnan(norms([[1.0, np.nan], [np.inf, 0.0]])).all()
    with pytest.raises(BadValues):
        norms([1.0, 2.0])


def test_the_error_of_the_norm_shift_is_that_of_a_simulation() -> None:
    rng = np.random.default_rng(2)
    live, reference = rng.gamma(40.0, 0.03, (5_000, 80)), rng.gamma(40.0, 0.025, (5_000, 120))
    shift, error = norm_shift(80, live.mean(1), live.std(1), 120, reference.mean(1), reference.std(1))
    assert np.median(shift) == pytest.approx(0.2, abs=0.01)
    assert np.median(error) == pytest.approx(shift.std(), rel=0.05)


def test_without_a_positive_reference_the_norm_shift_is_unknown() -> None:
    shift, error = norm_shift([50, 1, 50], 1.0, 0.1, 50, [0.0, 1.0, np.nan], 0.1)
    assert np.isnan(shift).all()
    assert np.isinf(error).all()


@pytest.mark.parametrize("k", [1, 3, 9])
def test_scores_agree_with_scikit_learn(k: int) -> None:
    reference, live = correlated(2_000, 1), correlated(300, 2)
    model = FrozenPca.fit(reference, k)
    standard = np.clip((reference[0::2] - reference.mean(0)) / reference.std(0), -8, 8)
    # sklearn centres on the even rows' own mean; ours is the whole reference's, so its mean is pinned to 0
    oracle = PCA(k).fit(np.concatenate([standard, -standard]))
    z = (live - reference.mean(0)) / reference.std(0)
    rebuilt = oracle.inverse_transform(oracle.transform(z))
    np.testing.assert_allclose(model.score(live), np.sqrt(((z - rebuilt) ** 2).mean(axis=1)), atol=1e-7)


def test_columns_that_no_longer_move_together_are_seen_where_no_column_changed() -> None:
    model = FrozenPca.fit(correlated(4_000, 1), 3)
    for broken in (False, True):
        live = correlated(500, 3, broken)
        scores = model.score(live)
        z, error = model.shift(500, scores.mean(), scores.std())
        assert (z > max(2.0, 3 * float(error))) == broken


def test_the_reference_error_is_taken_from_rows_that_were_not_fitted() -> None:
    rng = np.random.default_rng(4)
    rejected = 0
    for _ in range(60):
        model = FrozenPca.fit(rng.normal(size=(120, 30)), 20)
        scores = model.score(rng.normal(size=(200, 30)))
        z, error = model.shift(200, scores.mean(), scores.std())
        rejected += int(z > 3 * error)
    assert rejected <= 2


def test_scores_are_bounded_whatever_the_row_holds() -> None:
    model = FrozenPca.fit(correlated(400, 1), 2)
    wild = np.array([[1e308] * 10, [np.nan] * 10, [np.inf, -np.inf] * 5, [-1e308, 1e308] * 5])
    scores = model.score(wild)
    assert np.isfinite(scores).all()
    assert (scores <= model.largest).all()
    assert scores[1] == 0.0


def test_equal_data_give_equal_fingerprints_and_constant_columns_are_no_trouble() -> None:
    rows = correlated(400, 1)
    rows[:, 4] = 7.0
    assert FrozenPca.fit(rows, 3).fingerprint == FrozenPca.fit(rows.copy(), 3).fingerprint
    assert FrozenPca.fit(rows, 3).fingerprint != FrozenPca.fit(rows, 2).fingerprint
    assert np.isfinite(FrozenPca.fit(rows, 3).score(rows)).all()


def test_senseless_input_is_refused() -> None:
    model = FrozenPca.fit(correlated(400, 1), 2)
    with pytest.raises(BadParameter):
        FrozenPca.fit(correlated(400, 1), 10)
    for bad in (np.zeros(10), np.zeros((3, 4))):
        with pytest.raises(BadValues):
            model.score(bad)
    with pytest.raises(BadValues):
        FrozenPca.fit(np.zeros((3, 4)), 2)
