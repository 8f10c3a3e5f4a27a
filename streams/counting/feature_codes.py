"""Features of a batch to codes of bins and standardised values, all numeric ones at once."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from leadline.events import FeatureValue
from streams.core.table import Table
from streams.counting.bin_grid import BinGrid, grid_of
from streams.counting.references import Reference

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Rows = Sequence[Mapping[str, FeatureValue]]
NUMBERS = frozenset({float, int, bool, type(None)})


def feature_codes(reference: Reference, features: Rows) -> tuple[npt.NDArray[np.uint8], Floats, Mask]:
    """Codes [n, features], z [n, features] (0 for what is no number) and where a row lacks the feature [n, features]."""
    n, known = len(features), reference.features
    # A row of memory is a feature: they are binned and summed one by one.
    codes = np.empty((len(known), n), dtype=np.uint8)
    z = np.zeros((len(known), n))
    absent = np.zeros((n, len(known)), dtype=np.bool_)
    if not known or not n:
        return codes.T, z.T, absent
    names = [feature.name for feature in known]
    given = _Columns(names, features, absent) if isinstance(features, Table) else _Maps(names, features, absent)
    left: Sequence[int] = range(len(known))
    grid = grid_of(reference)
    if grid is not None and _by_grid(reference, grid, given, codes, z):
        left = grid.others
    for at in left:
        assigned, values = known[at].assign(given.column(at))
        codes[at] = assigned
        if values is not None:
            z[at] = (values - known[at].center) / known[at].scale
    return codes.T, z.T, absent


class _Maps:
    """Features as any maps."""

    def __init__(self, names: Sequence[str], rows: Rows, absent: Mask) -> None:
        self.names, self.rows, self.absent = names, rows, absent

    def numbers(self, at: Sequence[int]) -> Floats | None:
        """[features, n] of some features, NaN for null; None where a row lacks one, or holds another value."""
        getter = itemgetter(*(self.names[place] for place in at))
        try:
            found = map(getter, self.rows)
            flat = list(chain.from_iterable(found)) if len(at) > 1 else list(found)
        except KeyError:
            return None
        return _packed(flat, len(self.rows))

    def column(self, at: int) -> Sequence[Any]:
        """One feature's values; None where a row lacks it, which is noted."""
        name = self.names[at]
        try:
            return list(map(itemgetter(name), self.rows))
        except KeyError:
            self.absent[:, at] = [name not in row for row in self.rows]
            return [row.get(name) for row in self.rows]


def _packed(flat: Sequence[Any], n: int) -> Floats | None:
    """[features, n] of values row after row; `struct` takes neither text nor null for a number."""
    try:
        numbers = np.frombuffer(struct.pack(f"{len(flat)}d", *flat), dtype=np.float64)
    except OverflowError:
        return None
    except struct.error:
        if not set(map(type, flat)) <= NUMBERS:
            return None
        try:
            numbers = np.array(flat, dtype=np.float64)
        except OverflowError:
            return None
        if int(np.count_nonzero(np.isnan(numbers))) != flat.count(None):
            return None
        return numbers.reshape(n, -1).T
    return numbers.reshape(n, -1).T if np.isfinite(numbers).all() else None


class _Columns:
    """The same of maps with the same names."""

    def __init__(self, names: Sequence[str], rows: Table, absent: Mask) -> None:
        self.names, self.rows = names, rows
        absent[:] = [name not in rows.names for name in names]

    def numbers(self, at: Sequence[int]) -> Floats | None:
        wanted = [self.names[place] for place in at]
        numeric = self.rows.numeric
        if tuple(wanted) == numeric:
            return self.rows.matrix.T
        if not set(wanted) <= set(numeric):
            return None
        return self.rows.matrix.T[[numeric.index(name) for name in wanted]]

    def column(self, at: int) -> Sequence[Any]:
        name = self.names[at]
        return self.rows.column(name) if name in self.rows.names else [None] * len(self.rows)


def _by_grid(
    reference: Reference, grid: BinGrid, given: _Maps | _Columns, codes: npt.NDArray[np.uint8], z: Floats
) -> bool:
    """Codes and z of all numeric features; False where a value among them is neither a finite number nor null."""
    found = given.numbers(grid.numeric)
    if found is None:
        return False
    numbers = np.ascontiguousarray(found)
    missing = np.isnan(numbers)
    nulls = bool(missing.any())
    if nulls:
        numbers = np.where(missing, 0.0, numbers)
    at = slice(None) if len(grid.numeric) == len(reference.features) else grid.numeric
    assigned = grid.assign(numbers)
    standard = (numbers - reference.centers[at, None]) / reference.scales[at, None]
    if nulls:
        assigned = np.where(missing, grid.missing, assigned)
        standard[missing] = 0.0
    codes[at], z[at] = assigned, standard
    return True
