"""Spans of one cell: blocks of doubling length, so that looking back two days costs no more than looking back a minute.

Level k holds blocks of 2^k panes. A span of level k is its last eight blocks, looked at whenever one of them closes: a span of length L
is looked at every L/8. At level 0 the spans of one, two and four panes are looked at too. Each level keeps only the blocks that its
spans and its parent need: the levels are the ladder that bounds a judge's memory.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from streams.layout import Vector

BLOCKS = 8
KEPT = BLOCKS + 1
SHORT = (1, 2, 4)


class Block(NamedTuple):
    """Counts of 2^level panes: non-zero slots, ascending, with the two numbers that decide whether a look is worth it."""

    slots: npt.NDArray[np.int32]
    values: npt.NDArray[np.float64]
    rows: float
    outcomes: float


class Spans:
    """All levels of one cell. `rows_slot` and `outcomes_slot` are those of the layout."""

    def __init__(self, levels: int, size: int, rows_slot: int, outcomes_slot: int) -> None:
        self.levels = levels
        self.size = size
        self.rows_slot, self.outcomes_slot = rows_slot, outcomes_slot
        self.blocks: list[dict[int, Block]] = [{} for _ in range(levels)]
        self.open: dict[int, list[tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]]] = {}
        self.not_before = 0
        self.dirty: set[tuple[int, int]] = set()
        self.gone: set[tuple[int, int]] = set()

    def copy(self) -> Spans:
        """The same blocks for another cell, all of them yet to be written."""
        other = Spans(self.levels, self.size, self.rows_slot, self.outcomes_slot)
        other.blocks = [dict(level) for level in self.blocks]
        other.open = {pane: list(parts) for pane, parts in self.open.items()}
        other.not_before = self.not_before
        other.dirty = {(level, number) for level, kept in enumerate(self.blocks) for number in kept} | {
            (-1, pane) for pane in self.open
        }
        return other

    def add(self, pane: int, slots: npt.NDArray[np.int32], values: npt.NDArray[np.float64]) -> bool:
        """Adds entries to an open pane; True if it had none before."""
        parts = self.open.get(pane)
        self.dirty.add((-1, pane))
        if parts is None:
            self.open[pane] = [(slots, values)]
            return True
        parts.append((slots, values))
        if len(parts) >= 16:
            block = self._sum(parts)
            self.open[pane] = [(block.slots, block.values)]
        return False

    def close(self, level: int, block: int) -> bool:
        """Closes a block whose last pane has ended; False if nothing was in it."""
        if level == 0:
            parts = self.open.pop(block, None)
            if parts is None:
                return False
            self.gone.add((-1, block))
            self.dirty.discard((-1, block))
            made = self._sum(parts)
        else:
            children = [
                found
                for child in (2 * block, 2 * block + 1)
                if (found := self.blocks[level - 1].get(child)) is not None
            ]
            if not children:
                return False
            made = children[0] if len(children) == 1 else self._sum([(child.slots, child.values) for child in children])
        kept = self.blocks[level]
        kept[block] = made
        self.dirty.add((level, block))
        for old in [number for number in kept if number <= block - KEPT - (block & 1)]:
            del kept[old]
            self.dirty.discard((level, old))
            self.gone.add((level, old))
        return True

    def _sum(self, parts: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]]) -> Block:
        if len(parts) == 1:
            slots, values = parts[0]
        else:
            together = np.concatenate([part[0] for part in parts])
            weights = np.concatenate([part[1] for part in parts])
            if len(together) * 8 > self.size:
                dense = np.asarray(np.bincount(together, weights=weights, minlength=self.size), dtype=np.float64)
                slots = np.flatnonzero(dense).astype(np.int32)
                values = dense[slots]
            else:
                order = np.argsort(together, kind="stable")
                sorted_slots = together[order]
                first = np.empty(len(order), dtype=np.bool_)
                first[:1] = True
                np.not_equal(sorted_slots[1:], sorted_slots[:-1], out=first[1:])
                slots = sorted_slots[first]
                values = np.asarray(np.bincount(np.cumsum(first) - 1, weights=weights[order]), dtype=np.float64)
        return Block(
            slots, values, self._slot(slots, values, self.rows_slot), self._slot(slots, values, self.outcomes_slot)
        )

    @staticmethod
    def _slot(slots: npt.NDArray[np.int32], values: npt.NDArray[np.float64], slot: int) -> float:
        at = int(np.searchsorted(slots, slot))
        return float(values[at]) if at < len(slots) and slots[at] == slot else 0.0

    def looks(self, level: int, block: int, least: float) -> list[tuple[int, list[Block]]]:
        """The spans to look at when this block closed, shortest first: (number of blocks, its blocks). None of fewer than `least` rows
        and outcomes, none that holds what a shorter one held."""
        longest = self.members(level, BLOCKS, block)
        if sum(member.rows for member in longest) < least and sum(member.outcomes for member in longest) < least:
            return []
        if level:
            return [(BLOCKS, longest)]
        found: list[tuple[int, list[Block]]] = []
        for count in (*SHORT, BLOCKS):
            members = self.members(0, count, block)
            enough = (
                sum(member.rows for member in members) >= least or sum(member.outcomes for member in members) >= least
            )
            if enough and not (found and len(found[-1][1]) == len(members)):
                found.append((count, members))
        return found

    def members(self, level: int, count: int, block: int) -> list[Block]:
        """The blocks of the span of `count` blocks that ends with `block`; none that reaches back before `not_before`."""
        kept = self.blocks[level]
        first = max(
            block - count + 1, -(-self.not_before >> level) if level == 0 else -(-self.not_before // (1 << level))
        )
        return [found for number in range(first, block + 1) if (found := kept.get(number)) is not None]

    def dense(self, members: list[Block]) -> Vector:
        """The sum of blocks as a vector of the layout."""
        if not members:
            return np.zeros(self.size)
        slots = np.concatenate([member.slots for member in members])
        values = np.concatenate([member.values for member in members])
        return np.asarray(np.bincount(slots, weights=values, minlength=self.size), dtype=np.float64)

    def recent(self, end: int, rows: float, outcomes: float) -> tuple[Vector, int] | None:
        """The shortest span of whole blocks up to pane `end` that holds so many rows and outcomes: (vector, first pane)."""
        for level in range(self.levels):
            last = (end >> level) - 1
            for count in range(1 if level == 0 else BLOCKS // 2, BLOCKS + 1):
                members = self.members(level, count, last)
                if (
                    sum(member.rows for member in members) >= rows
                    and sum(member.outcomes for member in members) >= outcomes
                ):
                    return self.dense(members), (last - count + 1) << level
        return None

    # -- rows ------------------------------------------------------------------------------------------------------------------

    def take_changes(self) -> tuple[dict[str, bytes], list[str]]:
        """Rows written and removed since the last call, by "level:block" (level -1 is an open pane)."""
        written = {}
        for level, number in sorted(self.dirty):
            block = self._sum(self.open[number]) if level < 0 else self.blocks[level][number]
            written[f"{level}:{number}"] = msgspec.msgpack.encode(
                (block.slots.astype("<u4").tobytes(), block.values.astype("<f8").tobytes())
            )
        removed = [f"{level}:{number}" for level, number in sorted(self.gone) if (level, number) not in self.dirty]
        self.dirty.clear()
        self.gone.clear()
        return written, removed

    def restore(self, name: str, row: bytes) -> None:
        """Takes one row back."""
        level, number = (int(part) for part in name.split(":"))
        raw_slots, raw_values = msgspec.msgpack.decode(row, type=tuple[bytes, bytes])
        slots = np.frombuffer(raw_slots, dtype="<u4").astype(np.int32)
        values = np.frombuffer(raw_values, dtype="<f8").astype(np.float64)
        if level < 0:
            self.open[number] = [(slots, values)]
        else:
            self.blocks[level][number] = Block(
                slots, values, self._slot(slots, values, self.rows_slot), self._slot(slots, values, self.outcomes_slot)
            )
