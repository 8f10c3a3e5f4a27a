"""Maps with the same names, as the structs that they were decoded to: a tenth of the memory of dicts, and columns in one C call a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from msgspec.structs import astuple


class Alike(Sequence[dict[str, Any]]):
    """`names[k]` is the name of the struct's field k. A map is made of a row only where somebody asks for it."""

    __slots__ = ("names", "structs")

    def __init__(self, names: tuple[str, ...], structs: Sequence[Any]) -> None:
        self.names = names
        self.structs = structs

    def __len__(self) -> int:
        return len(self.structs)

    @overload
    def __getitem__(self, at: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, at: slice) -> Alike: ...
    def __getitem__(self, at: int | slice) -> dict[str, Any] | Alike:
        if isinstance(at, slice):
            return Alike(self.names, self.structs[at])
        return dict(zip(self.names, astuple(self.structs[at]), strict=True))

    def pick(self, places: Sequence[int]) -> Alike:
        """Those at some places."""
        return Alike(self.names, [self.structs[at] for at in places])

    def rows(self) -> list[tuple[Any, ...]]:
        """The values of each, in the order of `names`."""
        return list(map(astuple, self.structs))
