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
AT_ONCE = 50_000  # entries of many panes that are added up together
DENSE_SHARE = 16  # entries are added in a table of up to so many times their number, else sorted


class Part(NamedTuple):
    """Entries of some digest cells behind one another: those of cell k are [bounds[k], bounds[k + 1])."""

    cells: Sequence[Named]
    bounds: Indices
    slots: Slots
    values: Values

    def split(self, groups: Indices) -> list[tuple[int, Part]]:
        """The cells of each group, given for each cell, in order of group."""
        order = groups.argsort(kind="stable")
        groups, sizes = groups[order], np.diff(self.bounds)[order]
        bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        entries = np.repeat(self.bounds[:-1][order] - bounds[:-1], sizes) + np.arange(bounds[-1])
        ends = [*(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(groups)]
        cells = [self.cells[at] for at in order.tolist()]
        found, begin = [], 0
        for end in ends:
            of_group = bounds[begin : end + 1]
            # Picked, not sliced: one pane that stays open would hold the arrays of all.
            these = entries[of_group[0] : of_group[-1]]
            part = Part(cells[begin:end], of_group - of_group[0], self.slots[these], self.values[these])
            found.append((int(groups[begin]), part))
            begin = end
        return found

    def translated(self, target: npt.NDArray[np.int32]) -> Part:
        """In another layout: `target` gives each slot's place there, -1 for none."""
        slots = target[self.slots]
        kept = slots >= 0
        counted = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
        return Part(self.cells, counted[self.bounds], slots[kept], self.values[kept])


def together(parts: Sequence[Part]) -> Part:
    """The cells of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    sizes = np.concatenate([np.diff(part.bounds) for part in parts])
    return Part(
        [cell for part in parts for cell in part.cells],
        np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]),
        np.concatenate([part.slots for part in parts]),
        np.concatenate([part.values for part in parts]),
    )


def added_up(part: Part, keys: Sequence[Sequence[Key]], size: int) -> Iterator[tuple[Key, Slots, Values]]:
    """`keys` are those that each cell counts for. For each key the sum of its cells: slots, ascending, without those that sum to zero."""
    numbers: dict[Key, int] = {}
    places: list[Indices] = []
    weights: list[Values] = []
    sizes = np.diff(part.bounds)
    for turn in range(max(map(len, keys), default=0)):
        found_at = [numbers.setdefault(key[turn], len(numbers)) if turn < len(key) else -1 for key in keys]
        of_cell = np.array(found_at, dtype=np.int64)
        of_entry = np.repeat(of_cell, sizes)
        counted = of_entry >= 0
        if counted.all():
            places.append(of_entry * size + part.slots)
            weights.append(part.values)
        else:
            places.append(of_entry[counted] * size + part.slots[counted])
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

    def __len__(self) -> int:
        """Panes that hold something."""
        return len(self._parts)

    def first(self) -> int | None:
        while self._order and self._order[0] not in self._parts:
            heapq.heappop(self._order)
        return self._order[0] if self._order else None

    def add(self, part: Part, closed: int) -> None:
        """Adds cells to their panes; what is for a pane before `closed` counts for that one."""
        panes = np.array([max(cell[3], closed) for cell in part.cells], dtype=np.int64)
        for pane, of_pane in part.split(panes) if (panes != panes[0]).any() else [(int(panes[0]), part)]:
            parts = self._of(pane)
            parts.append(of_pane)
            if len(parts) >= MANY:
                self._gone += self._rows.pop(pane, [])
                self._parts[pane] = [self._one(parts)]

    def _of(self, pane: int) -> list[Part]:
        if pane not in self._parts:
            self._parts[pane] = []
            heapq.heappush(self._order, pane)
        return self._parts[pane]

    def _one(self, parts: Sequence[Part]) -> Part:
        part = together(parts)
        sums = list(added_up(part, [(cell,) for cell in part.cells], self.size))
        sizes = [len(slots) for _, slots, _ in sums]
        bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])
        slots, values = (np.concatenate(columns) for columns in zip(*[one[1:] for one in sums], strict=True))
        return Part([cell for cell, _, _ in sums], bounds, slots, values)

    def versions(self, pane: int) -> list[tuple[str, str]]:
        """Version and stage of what came for a pane, each once, in order."""
        return list(dict.fromkeys((cell[0], cell[1]) for part in self._parts.get(pane, ()) for cell in part.cells))

    def close_before(self, until: float, but_not: Callable[[int], bool] = lambda _: False) -> list[tuple[int, Part]]:
        """What came for the first panes before `until`, parts with their panes, which are forgotten: as many as are well added up at once,
        none from the first on of which `but_not` says so. A judge that works off a backlog has thousands with a few entries each."""
        found: list[tuple[int, Part]] = []
        entries = 0
        while entries < AT_ONCE and (pane := self.first()) is not None and pane < until and not but_not(pane):
            self._gone += self._rows.pop(pane, [])
            parts = self._parts.pop(pane)
            found += [(pane, part) for part in parts]
            entries += sum(len(part.slots) for part in parts)
        return found

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
