"""Screens agree with the tests that they spare."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.auc import average_precision
from streams.screen import average_precision_of, highest_precision

_counts = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)


@given(_counts, st.floats(0.01, 100.0))
def test_precision_over_occupied_bins_is_that_over_all(table: list[tuple[int, int]], weight: float) -> None:
    pos, neg = np.array([(1, 0), *table], dtype=float).T
    neg = neg * weight
    whole = average_precision(pos, neg)
    assert average_precision_of(pos, neg) == pytest.approx(float(whole.value), abs=1e-12)


@given(_counts)
def test_the_highest_precision_over_occupied_bins_is_that_over_all(table: list[tuple[int, int]]) -> None:
    pos, neg = np.array([(1, 0), *table], dtype=float).T
    assert highest_precision(pos, neg) == pytest.approx(float(average_precision(pos, neg).high), abs=1e-12)
