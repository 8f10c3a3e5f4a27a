"""Bins of many numeric features at once, by a table instead of a search: the same codes as `NumericBins.assign`, to the last edge.

A feature's range is cut into equal cells. The cell of a value is monotone in the value (also after rounding, the edges' cells being
computed by the same operations), so at least the edges of lower cells lie at or below it and at most those of its own are left to
compare. A feature with too many edges in one cell (a heavy tail) is searched as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from detectors.binning import NumericBins
from streams.counting.references import Reference

CELLS = 1024
MOST_COMPARED = 3
Floats = npt.NDArray[np.float64]


class BinGrid:
    """The table of several features: `assign` takes finite values [features, n] to codes of the same shape."""

    def __init__(self, bins: Sequence[NumericBins], numeric: Sequence[int] = (), others: Sequence[int] = ()) -> None:
        """`numeric` are the places of these features in their reference, `others` those of the rest."""
        self.numeric, self.others = list(numeric), list(others)
        self.missing = np.array([[each.missing] for each in bins], dtype=np.uint8)
        width = max(len(each.edges) for each in bins) + 1
        self.edges = np.full((len(bins), width), np.inf)
        self.first, self.per_unit = np.zeros((len(bins), 1)), np.zeros((len(bins), 1))
        for at, each in enumerate(bins):
            self.edges[at, : len(each.edges)] = each.edges
            if len(each.edges) > 1:
                self.first[at] = each.edges[0]
                with np.errstate(over="ignore", divide="ignore"):
                    scale = CELLS / (np.float64(each.edges[-1]) - each.edges[0])
                self.per_unit[at] = scale if np.isfinite(scale) else 0.0
        cells = self._cells(np.where(np.isfinite(self.edges), self.edges, 0.0))
        counts = np.zeros((len(bins), CELLS), dtype=np.int64)
        for at, each in enumerate(bins):
            counts[at] = np.bincount(cells[at, : len(each.edges)], minlength=CELLS)
        self.searched = [(at, bins[at]) for at in np.flatnonzero(counts.max(axis=1) > MOST_COMPARED).tolist()]
        counts[[at for at, _ in self.searched]] = 0
        self.compared = int(counts.max())
        self.below = (np.cumsum(counts, axis=1) - counts).astype(np.uint8).ravel()
        self.cell_starts = (np.arange(len(bins)) * CELLS)[:, None]
        self.edge_starts = (np.arange(len(bins)) * width)[:, None]

    def _cells(self, values: Floats) -> npt.NDArray[np.int64]:
        with np.errstate(over="ignore", invalid="ignore"):
            places = values - self.first
            places *= self.per_unit
        # inf * 0 is the only NaN here: a feature without cells, which has but one
        np.fmax(places, 0.0, out=places)
        np.fmin(places, CELLS - 1.0, out=places)
        return places.astype(np.int64)

    def assign(self, values: Floats) -> npt.NDArray[np.uint8]:
        cells = self._cells(values)
        cells += self.cell_starts
        codes = self.below.take(cells)
        edges = self.edges.ravel()
        for _ in range(self.compared):
            codes += values >= edges.take(codes + self.edge_starts)
        for at, bins in self.searched:
            codes[at] = bins.assign(values[at])
        return codes


_grids: WeakKeyDictionary[Reference, BinGrid | None] = WeakKeyDictionary()


def grid_of(reference: Reference) -> BinGrid | None:
    """The table of a reference's numeric features, made once; None where it has none."""
    if reference not in _grids:
        bins = [(at, each.bins) for at, each in enumerate(reference.features) if isinstance(each.bins, NumericBins)]
        numeric = [at for at, _ in bins]
        others = [at for at in range(len(reference.features)) if at not in numeric]
        _grids[reference] = BinGrid([each for _, each in bins], numeric, others) if bins else None
    return _grids[reference]
