"""From a value to the number of its bin. Mapping only: counts are kept elsewhere, as integers.

Ordered bins come first, the special ones after them: ``missing`` (null) and ``invalid`` (wrong type, NaN, infinity).
The outer bins are open: a value beyond everything the reference held is counted in a tail, where it raises PSI, and
never dropped. Intervals are half-open ``[lo, hi)``. A code fits one byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from detectors.base import BadParameter, BadValues, FloatArray, IntArray
from detectors.state import fingerprint

Codes = npt.NDArray[np.uint8]

MAX_EDGES: Final = 250
"""Edges of one feature at most, so that a code (bins, missing, invalid) fits one byte."""
_MANY: Final = 256
_FEW_EDGES: Final = 24


def count(codes: Codes, size: int) -> IntArray:
    """How often each code occurs: int64[size]."""
    return np.bincount(codes, minlength=size).astype(np.int64, copy=False)


def count_by_cell(codes: Codes, cells: npt.NDArray[np.integer[Any]], size: int, n_cells: int) -> IntArray:
    """How often each code occurs in each cell: int64[n_cells, size]; ``cells`` holds each row's cell, 0 to n_cells -
    1."""
    flat = cells.astype(np.int64) * size + codes
    return np.bincount(flat, minlength=n_cells * size).astype(np.int64, copy=False).reshape(n_cells, size)


@dataclass(frozen=True, slots=True)
class NumericBins:
    """Bins of a number: ``edges`` e_1 < ... < e_k make k + 1 ordered bins (-inf, e_1), [e_1, e_2), ..., [e_k, inf).

    Codes: 0 to k ordered, then ``missing``, then ``invalid``; ``size`` in all. Equal edges mean equal bins.
    """

    edges: tuple[float, ...]
    _array: FloatArray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        array = np.array(self.edges, dtype=np.float64)
        if array.ndim != 1 or array.size > MAX_EDGES:
            raise BadParameter(f"{array.size} edges; at most {MAX_EDGES} in one dimension")
        if not np.isfinite(array).all() or (np.diff(array) <= 0).any():
            raise BadParameter("edges must be finite and increase")
        array.flags.writeable = False
        object.__setattr__(self, "edges", tuple(array.tolist()))
        object.__setattr__(self, "_array", array)

    @classmethod
    def from_reference(cls, values: npt.ArrayLike, bins: int = 10) -> NumericBins:
        """Edges at the reference's quantiles, about ``bins`` bins; duplicate edges merged.

        A value that alone holds a bin's share or more (0 in a sparse count, a constant) gets a bin of its own: between
        merged quantile edges it would share one with its neighbours, and a shift from it to them would not be seen.
        The same holds for each value where there are at most ``bins`` of them. NaN and infinities are left out;
        BadValues if nothing is left.
        """
        if not 2 <= bins <= MAX_EDGES // 2:
            raise BadParameter(f"{bins} bins; wanted 2 to {MAX_EDGES // 2}")
        numbers = np.asarray(values, dtype=np.float64).ravel()
        numbers = numbers[np.isfinite(numbers)]
        if numbers.size == 0:
            raise BadValues("the reference holds no finite value")
        distinct, counts = np.unique(numbers, return_counts=True)
        if distinct.size <= bins:
            return cls(_edges(np.append(distinct, np.nextafter(distinct[-1], np.inf))))
        heavy = distinct[counts * bins >= numbers.size]
        light = numbers[~np.isin(numbers, heavy)] if heavy.size else numbers
        # The remaining bins share the remaining mass, so that none is much thinner than 1 / bins.
        pieces = int(np.ceil(bins * light.size / numbers.size))
        inner = np.quantile(light, np.arange(1, pieces) / pieces) if pieces > 1 else np.empty(0)
        return cls(_edges(np.concatenate([inner, heavy, np.nextafter(heavy, np.inf)])))

    @classmethod
    def fine(cls, values: npt.ArrayLike, bins: int = 100) -> NumericBins:
        """Many quantile bins, for the Kolmogorov-Smirnov statistic: its error is at most the largest bin's mass."""
        return cls.from_reference(values, bins)

    @property
    def ordered(self) -> int:
        """Number of ordered bins, both open tails included."""
        return len(self.edges) + 1

    @property
    def missing(self) -> int:
        """Code of null."""
        return len(self.edges) + 1

    @property
    def invalid(self) -> int:
        """Code of NaN, infinity and anything that is no number."""
        return len(self.edges) + 2

    @property
    def size(self) -> int:
        """Number of codes."""
        return len(self.edges) + 3

    @property
    def fingerprint(self) -> bytes:
        """16 bytes; equal exactly when the edges are."""
        return fingerprint("numeric-bins", {"edges": self._array})

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each code, for people."""
        ends = ["-inf", *(f"{edge:g}" for edge in self.edges), "inf"]
        ordered = [f"[{low}, {high})" for low, high in pairwise(ends)]
        return ("(" + ordered[0][1:], *ordered[1:], "missing", "invalid")

    def assign(self, values: FloatArray, missing: npt.NDArray[np.bool_] | None = None) -> Codes:
        """The code of each value. NaN and infinity are invalid, unless ``missing`` (a mask of nulls) says otherwise."""
        if values.size >= _MANY and len(self.edges) <= _FEW_EDGES:
            # ten times faster than a search: each pass is one vector instruction a few values wide
            codes = np.zeros(values.shape, dtype=np.uint8)
            for edge in self.edges:
                codes += (values >= edge).view(np.uint8)
        else:
            codes = np.searchsorted(self._array, values, side="right").astype(np.uint8)
        codes[~np.isfinite(values)] = self.invalid
        if missing is not None:
            codes[missing] = self.missing
        return codes

    def assign_objects(self, values: Sequence[object]) -> Codes:
        """The codes of decoded JSON values: None is missing; bools count as 0 and 1; a string is invalid, even
        "1.5"."""
        numbers, missing = as_numbers(values)
        return self.assign(numbers, missing)


def as_numbers(values: Sequence[object]) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Decoded JSON values as float64 (NaN where there is no finite number) and a mask of the nulls."""
    if set(map(type, values)) <= {float, int, bool, type(None)}:
        try:
            numbers = np.array(values, dtype=np.float64).reshape(len(values))
        except OverflowError:
            pass  # an integer beyond 1e308 among them: find out which, one by one
        else:
            missing = np.zeros(len(values), np.bool_)
            for at in np.flatnonzero(np.isnan(numbers)).tolist():
                missing[at] = values[at] is None
            return numbers, missing
    numbers = np.fromiter(map(_number, values), np.float64, len(values))
    return numbers, np.fromiter((value is None for value in values), np.bool_, len(values))


def _number(value: object) -> float:
    if not isinstance(value, (float, int)):
        return np.nan
    try:
        return float(value)
    except OverflowError:
        return np.nan


def _edges(values: FloatArray) -> tuple[float, ...]:
    # + 0.0 turns -0.0 into 0.0, so that equal edges have equal fingerprints
    edges = np.unique(values[np.isfinite(values)] + 0.0)
    return tuple(edges.tolist())


@dataclass(frozen=True, slots=True)
class CategoryBins:
    """Bins of a category: the reference's ``top`` values by frequency, ``other`` (known but rarer) and ``new``.

    Codes: 0 to K - 1 the top values, then ``other``, ``new``, ``missing``, ``invalid``. ``rest`` lists the rarer
    values, so that a value the reference never held is told from a rare one. Where the reference held more than the
    list may (``complete`` is False), that cannot be told: an unlisted value then counts as ``other``, never as
    ``new``.
    """

    top: tuple[str, ...]
    rest: tuple[str, ...] = ()
    complete: bool = True
    _codes: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.top) > MAX_EDGES or len(set(self.top) | set(self.rest)) != len(self.top) + len(self.rest):
            raise BadParameter(f"{len(self.top)} top categories (at most {MAX_EDGES}), each named once")
        codes = {name: code for code, name in enumerate(self.top)}
        codes.update(dict.fromkeys(self.rest, len(self.top)))
        object.__setattr__(self, "_codes", codes)

    @classmethod
    def from_reference(cls, values: Sequence[object], top: int = 50, rest: int = 2_000) -> CategoryBins:
        """The ``top`` most frequent values (ties in order of name) and at most ``rest`` others. Nulls are left out."""
        if not 1 <= top <= MAX_EDGES or rest < 0:
            raise BadParameter(f"top {top} (1 to {MAX_EDGES}), rest {rest} (0 or more)")
        tally: dict[str, int] = {}
        for value in values:
            name = category(value)
            if name is not None:
                tally[name] = tally.get(name, 0) + 1
        if not tally:
            raise BadValues("the reference holds no category")
        names = sorted(tally, key=lambda name: (-tally[name], name))
        return cls(tuple(names[:top]), tuple(sorted(names[top : top + rest])), len(names) <= top + rest)

    @property
    def ordered(self) -> int:
        """Number of bins a divergence compares: top values, other, new."""
        return len(self.top) + 2

    @property
    def other(self) -> int:
        """Code of a value the reference held, but rarely."""
        return len(self.top)

    @property
    def new(self) -> int:
        """Code of a value the reference never held."""
        return len(self.top) + 1

    @property
    def missing(self) -> int:
        """Code of null."""
        return len(self.top) + 2

    @property
    def invalid(self) -> int:
        """Code of NaN, infinity, lists and objects."""
        return len(self.top) + 3

    @property
    def size(self) -> int:
        """Number of codes."""
        return len(self.top) + 4

    @property
    def fingerprint(self) -> bytes:
        """16 bytes; equal exactly when the categories are."""
        fields = {f"top{at}": name for at, name in enumerate(self.top)}
        fields |= {f"rest{at}": name for at, name in enumerate(self.rest)}
        return fingerprint("category-bins", {**fields, "complete": self.complete})

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each code, for people."""
        return (*self.top, "other", "new", "missing", "invalid")

    def assign(self, values: Sequence[object]) -> Codes:
        """The code of each decoded JSON value (string, bool, number or None)."""
        known, unlisted = self._codes, self.new if self.complete else self.other
        return np.fromiter(
            (known.get(value, unlisted) if type(value) is str else self._odd(value) for value in values),
            np.uint8,
            len(values),
        )

    def _odd(self, value: object) -> int:
        if value is None:
            return self.missing
        name = category(value)
        if name is None:
            return self.invalid
        return self._codes.get(name, self.new if self.complete else self.other)


def category(value: object) -> str | None:
    """The name under which a JSON value is counted: 3 and 3.0 are "3", True is "true"; None for what is no category."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value)) if abs(int(value)) < 10**300 else None
    if isinstance(value, float | np.floating) and np.isfinite(value):
        number = float(value)
        return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)
    return None
