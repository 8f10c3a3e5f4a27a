"""One feature's mapping from values to bins: edges or categories of the reference, and coarse groups of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from detectors.binning import CategoryBins, Codes, NumericBins, as_numbers

COARSE_BINS = 10
FINE_BINS = 100
FAR_Z = 3.0  # a value further out, in deviations of the reference, is out of distribution
TOP_CATEGORIES = 50


class BadReference(ValueError):
    """The reference cannot be used. The text says which column or value, and what to do."""


@dataclass(frozen=True)
class Feature:
    """One feature's mapping. `groups` takes each code to its coarse group (the PSI's bins); specials are groups of their own."""

    name: str
    kind: Literal["numeric", "categorical"]
    bins: NumericBins | CategoryBins
    groups: npt.NDArray[np.int64]
    center: float
    scale: float
    low: float
    high: float

    @property
    def size(self) -> int:
        return self.bins.size

    @cached_property
    def group_count(self) -> int:
        return int(self.groups.max()) + 1

    def assign(self, values: Sequence[object]) -> tuple[Codes, npt.NDArray[np.float64] | None]:
        """Codes of decoded values and, for a number, the values as float64 (NaN where there is none)."""
        if isinstance(self.bins, CategoryBins):
            return self.bins.assign(values), None
        numbers, missing = as_numbers(values)
        return self.bins.assign(numbers, missing), numbers

    @cached_property
    def far_codes(self) -> npt.NDArray[np.int64] | None:
        """Codes of values beyond three deviations; None of a category, and where the edges do not tell."""
        if not isinstance(self.bins, NumericBins):
            return None
        edges = np.asarray(self.bins.edges)
        low = int(np.searchsorted(edges, self.center - FAR_Z * self.scale, side="left"))
        high = int(np.searchsorted(edges, self.center + FAR_Z * self.scale, side="right"))
        if low >= len(edges) or high >= len(edges):
            return None
        told = np.isclose(edges[low], self.center - FAR_Z * self.scale, rtol=1e-9, atol=1e-9 * self.scale)
        told &= np.isclose(edges[high], self.center + FAR_Z * self.scale, rtol=1e-9, atol=1e-9 * self.scale)
        return np.concatenate([np.arange(low + 1), np.arange(high + 1, self.bins.ordered)]) if told else None

    @cached_property
    def group_labels(self) -> tuple[str, ...]:
        """A name for each coarse group, for people."""
        if isinstance(self.bins, CategoryBins):
            return self.bins.labels
        coarse = [self.bins.labels[code] for code in range(self.bins.ordered)]
        names: list[str] = []
        for group in range(self.group_count - 2):
            members = [coarse[code] for code in np.flatnonzero(self.groups[: self.bins.ordered] == group)]
            names.append(members[0].split(",")[0] + "," + members[-1].split(",")[1])
        return (*names, "missing", "invalid")


def numeric_feature(name: str, values: npt.NDArray[np.float64]) -> Feature:
    """Edges from the finite values: about ten coarse bins (PSI), each cut into about ten fine ones (KS, onset)."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        raise BadReference(f"column {name!r} holds no finite number; leave it out of the reference, or give its values")
    coarse = NumericBins.from_reference(finite, COARSE_BINS)
    fine = NumericBins.fine(finite, FINE_BINS)
    center, scale = float(finite.mean()), float(finite.std()) or 1.0
    # Edges where a value begins to be out of distribution: a stored row's codes then say whether it was.
    far = {center - FAR_Z * scale, float(np.nextafter(center + FAR_Z * scale, np.inf))}
    edges = sorted(set(coarse.edges) | set(fine.edges) | {edge for edge in far if np.isfinite(edge)})
    return numeric_from_edges(
        name,
        edges,
        coarse.edges,
        center=center,
        scale=scale,
        low=float(np.quantile(finite, 0.001)),
        high=float(np.quantile(finite, 0.999)),
    )


def numeric_from_edges(
    name: str, edges: Sequence[float], coarse: Sequence[float], *, center: float, scale: float, low: float, high: float
) -> Feature:
    """The feature whose fine edges contain its coarse ones."""
    bins = NumericBins(tuple(edges))
    lowers = np.concatenate([[-np.inf], np.asarray(edges, dtype=np.float64)])
    groups = np.searchsorted(np.asarray(coarse, dtype=np.float64), lowers, side="right")
    last = int(groups[-1])
    return Feature(name, "numeric", bins, np.append(groups, [last + 1, last + 2]), center, scale, low, high)


def categorical_feature(name: str, bins: CategoryBins) -> Feature:
    return Feature(name, "categorical", bins, np.arange(bins.size), 0.0, 1.0, 0.0, 1.0)
