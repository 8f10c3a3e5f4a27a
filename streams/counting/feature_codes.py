"""Features of a batch to codes of bins and standardised values, all numeric ones at once."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import astuple

from leadline.events import FeatureValue
from streams.core.alike import Alike
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
    given = _Structs(names, features, absent) if isinstance(features, Alike) else _Maps(names, features, absent)
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

    def flat(self, at: Sequence[int]) -> tuple[list[Any], list[int] | None] | None:
        """The values of some features, row after row, and their order (None: as asked for); None where a row lacks one."""
        getter = itemgetter(*(self.names[place] for place in at))
        try:
            found = map(getter, self.rows)
            return (list(chain.from_iterable(found)) if len(at) > 1 else list(found)), None
        except KeyError:
            return None

    def column(self, at: int) -> Sequence[Any]:
        """One feature's values; None where a row lacks it, which is noted."""
        name = self.names[at]
        try:
            return list(map(itemgetter(name), self.rows))
        except KeyError:
            self.absent[:, at] = [name not in row for row in self.rows]
            return [row.get(name) for row in self.rows]


class _Structs:
    """The same of maps with the same names."""

    def __init__(self, names: Sequence[str], rows: Alike, absent: Mask) -> None:
        places = {name: at for at, name in enumerate(rows.names)}
        self.places = [places.get(name) for name in names]
        self.rows = rows
        absent[:] = [place is None for place in self.places]

    def flat(self, at: Sequence[int]) -> tuple[list[Any], list[int] | None] | None:
        wanted = [place for feature in at if (place := self.places[feature]) is not None]
        if len(wanted) < len(at):
            return None
        if len(wanted) == len(self.rows.names):  # one C call a row, and the columns are put in order afterwards
            return list(chain.from_iterable(map(astuple, self.rows.structs))), wanted
        found = map(attrgetter(*(f"f{place}" for place in wanted)), self.rows.structs)
        return (list(chain.from_iterable(found)) if len(wanted) > 1 else list(found)), None

    def column(self, at: int) -> Sequence[Any]:
        place = self.places[at]
        if place is None:
            return [None] * len(self.rows)
        return list(map(attrgetter(f"f{place}"), self.rows.structs))


def _by_grid(
    reference: Reference, grid: BinGrid, given: _Maps | _Structs, codes: npt.NDArray[np.uint8], z: Floats
) -> bool:
    """Codes and z of all numeric features; False where a value among them is neither a number nor null."""
    found = given.flat(grid.numeric)
    if found is None:
        return False
    flat, order = found
    missing: Mask | None = None
    try:
        numbers = np.frombuffer(struct.pack(f"{len(flat)}d", *flat), dtype=np.float64)
    except (struct.error, OverflowError):
        if not set(map(type, flat)) <= NUMBERS:
            return False
        try:
            numbers = np.array(flat, dtype=np.float64)
        except OverflowError:
            return False
        missing = np.isnan(numbers)
        if int(missing.sum()) != flat.count(None):
            return False
    n = codes.shape[1]
    columns = slice(None) if order is None or order == list(range(len(order))) else order
    numbers = np.ascontiguousarray(numbers.reshape(n, -1).T[columns])
    if missing is not None:
        missing = missing.reshape(n, -1).T[columns]
        numbers[missing] = 0.0
    if not np.isfinite(numbers).all():
        return False
    at = slice(None) if len(grid.numeric) == len(reference.features) else grid.numeric
    assigned = grid.assign(numbers)
    standard = (numbers - reference.centers[at, None]) / reference.scales[at, None]
    if missing is not None:
        assigned = np.where(missing, grid.missing, assigned)
        standard[missing] = 0.0
    codes[at], z[at] = assigned, standard
    return True
