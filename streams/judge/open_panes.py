"""Counts of panes that have not ended yet, as the digests brought them.

A worker with many models merges a few events of each at a time: to add them to every cell at once, and to store every cell anew with
each commit, would cost more than all that is ever looked at. So what came is kept, and stored, as it came, and added up when the pane
ends: once for all cells.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from streams.core.digest_cells import Named

Slots = npt.NDArray[np.int32]
Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Key = TypeVar("Key", bound=Hashable)
MANY = 64  # parts of one pane that are added up before it ends: panes may be hours long
DENSE_SHARE = 16  # entries are added in a table of up to so many times their number, else sorted


class Part(NamedTuple):
    """Entries of some digest cells behind one another: those of cell k are [bounds[k], bounds[k + 1])."""

    cells: Sequence[Named]
    bounds: Indices
    slots: Slots
    values: Values

    def of(self, chosen: npt.NDArray[np.bool_]) -> Part:
        """Some of the cells."""
        sizes = np.diff(self.bounds)
        entries = np.repeat(chosen, sizes)
        bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes[chosen])])
        cells = [self.cells[at] for at in np.flatnonzero(chosen).tolist()]
        return Part(cells, bounds, self.slots[entries], self.values[entries])

    def translated(self, target: npt.NDArray[np.int32]) -> Part:
        """In another layout: `target` gives each slot's place there, -1 for none."""
        slots = target[self.slots]
        kept = slots >= 0
        counted = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
        return Part(self.cells, counted[self.bounds], slots[kept], self.values[kept])


def added_up(
    parts: Sequence[Part], keys_of: Callable[[Named], Sequence[Key]], size: int
) -> Iterator[tuple[Key, Slots, Values]]:
    """For each key, in order of appearance, the sum of the cells that count for it: slots, ascending, without those that sum to zero."""
    numbers: dict[Key, int] = {}
    places: list[Indices] = []
    weights: list[Values] = []
    for part in parts:
        sizes = np.diff(part.bounds)
        keys = [keys_of(cell) for cell in part.cells]
        for turn in range(max(map(len, keys), default=0)):
            of_cell = np.array([numbers.setdefault(key[turn], len(numbers)) if turn < len(key) else -1 for key in keys])
            of_entry = np.repeat(of_cell, sizes)
            counted = of_entry >= 0
            places.append(of_entry[counted].astype(np.int64) * size + part.slots[counted])
            weights.append(part.values[counted])
    if not numbers:
        return
    place, values = np.concatenate(places), np.concatenate(weights)
    if len(numbers) * size <= DENSE_SHARE * len(place):
        table = np.bincount(place, weights=values, minlength=len(numbers) * size).astype(np.float64)
        found = np.flatnonzero(table)
        totals: Values = table[found]
    else:
        order = np.argsort(place, kind="stable")
        starts = np.flatnonzero(np.diff(place[order], prepend=-1))
        found = place[order][starts]
        totals = np.add.reduceat(values[order], starts) if len(starts) else np.empty(0)
        found, totals = found[totals != 0.0], totals[totals != 0.0]
    key_of, slot = np.divmod(found, size)
    bounds = np.searchsorted(key_of, np.arange(len(numbers) + 1)).tolist()
    for key, begin, end in zip(numbers, bounds, bounds[1:], strict=False):
        yield key, slot[begin:end].astype(np.int32), totals[begin:end]


class OpenPanes:
    """Parts by pane, with the rows that a successor would find them in."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._parts: dict[int, list[Part]] = {}
        self._order: list[int] = []
        """A heap of all panes that hold something, and of some that did."""
        self._rows: dict[int, list[str]] = {}
        """Names of the rows that hold a pane's parts, as many as are stored."""
        self._number = 0
        self._gone: list[str] = []

    def __contains__(self, pane: int) -> bool:
        return pane in self._parts

    def panes(self) -> list[int]:
        """Those that hold something, in order."""
        return sorted(self._parts)

    def first(self) -> int | None:
        while self._order and self._order[0] not in self._parts:
            heapq.heappop(self._order)
        return self._order[0] if self._order else None

    def add(self, part: Part, closed: int) -> None:
        """Adds cells to their panes; what is for a pane before `closed` counts for that one."""
        panes = np.array([max(cell[3], closed) for cell in part.cells], dtype=np.int64)
        distinct = np.unique(panes).tolist()
        for pane in distinct:
            parts = self._of(pane)
            parts.append(part if len(distinct) == 1 else part.of(panes == pane))
            if len(parts) >= MANY:
                self._gone += self._rows.pop(pane, [])
                self._parts[pane] = [self._one(parts)]

    def _of(self, pane: int) -> list[Part]:
        if pane not in self._parts:
            self._parts[pane] = []
            heapq.heappush(self._order, pane)
        return self._parts[pane]

    def _one(self, parts: Sequence[Part]) -> Part:
        sums = list(added_up(parts, lambda cell: (cell,), self.size))
        sizes = [len(slots) for _, slots, _ in sums]
        bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])
        slots, values = (np.concatenate(columns) for columns in zip(*[one[1:] for one in sums], strict=True))
        return Part([cell for cell, _, _ in sums], bounds, slots, values)

    def close(self, pane: int) -> list[Part]:
        """What came for a pane, which is forgotten."""
        self._gone += self._rows.pop(pane, [])
        return self._parts.pop(pane, [])

    # -- rows ------------------------------------------------------------------------------------------------------------------

    def take_changes(self) -> tuple[dict[str, bytes], list[str]]:
        """Rows written and removed since the last call."""
        written: dict[str, bytes] = {}
        for pane, parts in self._parts.items():
            names = self._rows.setdefault(pane, [])
            for part in parts[len(names) :]:
                name = f"{pane}:{self._number}"
                self._number += 1
                names.append(name)
                written[name] = _pack(part)
        removed, self._gone = self._gone, []
        return written, removed

    def forget_changes(self) -> None:
        """A backtest stores nothing."""
        self._gone.clear()

    def restore(self, rows: Mapping[str, bytes]) -> None:
        """Takes rows back, by the names of `take_changes`."""
        for name in sorted(rows, key=lambda name: int(name.partition(":")[2])):
            pane, _, number = name.partition(":")
            self._of(int(pane)).append(_unpack(rows[name]))
            self._rows.setdefault(int(pane), []).append(name)
            self._number = int(number) + 1


_decode = msgspec.msgpack.Decoder(tuple[list[tuple[str, str, str | None, int, int]], bytes, bytes, bytes]).decode


def _pack(part: Part) -> bytes:
    arrays = (part.bounds.astype("<u4"), part.slots.astype("<u4"), part.values.astype("<f8"))
    return msgspec.msgpack.encode((list(part.cells), *(array.tobytes() for array in arrays)))


def _unpack(row: bytes) -> Part:
    cells, bounds, slots, values = _decode(row)
    return Part(
        cells,
        np.frombuffer(bounds, "<u4").astype(np.int64),
        np.frombuffer(slots, "<u4").astype(np.int32),
        np.frombuffer(values, "<f8").astype(np.float64),
    )
