"""The table of bins gives the codes of a search, at every edge and beside it."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.binning import NumericBins
from streams.counting.bin_grid import BinGrid

LARGEST = np.finfo(np.float64).max
SETS = {
    "normal": np.random.default_rng(1).normal(10, 3, 5000),
    "heavy tail": np.random.default_rng(2).standard_cauchy(5000) ** 3,
    "rounded": np.round(np.random.default_rng(3).normal(0, 1, 5000), 1),
    "constant": np.ones(10),
    "two values": np.array([0.0, 1.0] * 50),
    "counts": np.random.default_rng(4).poisson(3, 5000).astype(float),
    "huge": np.array([-LARGEST, -1.0, 0.0, 5e-324, 1.0, LARGEST]),
    "beside each other": np.nextafter(1.0, [0.0, 2.0, 3.0]),
}


@pytest.mark.parametrize("name", sorted(SETS))
def test_codes_are_those_of_a_search(name: str) -> None:
    bins = NumericBins.fine(SETS[name], 100)
    edges = np.array(bins.edges)
    values = np.concatenate([SETS[name], edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)])
    values = np.concatenate([values, [0.0, -0.0, 1e300, -1e300, LARGEST, -LARGEST]])
    values = values[np.isfinite(values)]
    assert BinGrid([bins]).assign(values[None])[0].tolist() == bins.assign(values).tolist()


def test_features_of_every_shape_share_one_table() -> None:
    bins = [NumericBins.fine(values, 100) for values in SETS.values()]
    rng = np.random.default_rng(5)
    values = np.array([rng.choice(each, 500) for each in SETS.values()])
    found = BinGrid(bins).assign(values)
    assert [row.tolist() for row in found] == [
        each.assign(row).tolist() for each, row in zip(bins, values, strict=True)
    ]
