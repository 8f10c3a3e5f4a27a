"""Maps with the same names as columns: what is a number in all of them as one matrix, the rest as lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt


class Table(Sequence[dict[str, Any]]):
    """`matrix` is [rows, numeric names], NaN for null; `others` holds the values of the other names. A map is made of a row only where
    somebody asks for it."""

    __slots__ = ("matrix", "names", "numeric", "others")

    def __init__(
        self, names: tuple[str, ...], numeric: tuple[str, ...], matrix: npt.NDArray[np.float64], others: dict[str, Any]
    ) -> None:
        self.names, self.numeric, self.matrix, self.others = names, numeric, matrix, others

    def __len__(self) -> int:
        return len(self.matrix)

    @overload
    def __getitem__(self, at: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, at: slice) -> Table: ...
    def __getitem__(self, at: int | slice) -> dict[str, Any] | Table:
        if isinstance(at, slice):
            others = {name: column[at] for name, column in self.others.items()}
            return Table(self.names, self.numeric, self.matrix[at], others)
        numbers = dict(zip(self.numeric, _with_nulls(self.matrix[at]), strict=True))
        return {name: numbers[name] if name in numbers else self.others[name][at] for name in self.names}

    def pick(self, places: npt.NDArray[np.int64]) -> Table:
        """Those at some places."""
        listed = places.tolist()
        others = {name: [column[at] for at in listed] for name, column in self.others.items()}
        return Table(self.names, self.numeric, self.matrix[places], others)

    def column(self, name: str) -> list[Any]:
        """The values of one name, as they were sent."""
        found: list[Any] | None = self.others.get(name)
        return _with_nulls(self.matrix[:, self.numeric.index(name)]) if found is None else found

    def same(self, other: Table) -> bool:
        """Whether the other has the same columns."""
        return self.names == other.names and self.numeric == other.numeric

    @classmethod
    def joined(cls, parts: Sequence[Table]) -> Table:
        """Tables of the same columns behind one another."""
        first = parts[0]
        if len(parts) == 1:
            return first
        others = {name: [value for part in parts for value in part.others[name]] for name in first.others}
        return cls(first.names, first.numeric, np.concatenate([part.matrix for part in parts]), others)


def _with_nulls(numbers: npt.NDArray[np.float64]) -> list[Any]:
    listed: list[Any] = numbers.tolist()
    for at in np.flatnonzero(np.isnan(numbers)).tolist():
        listed[at] = None
    return listed
