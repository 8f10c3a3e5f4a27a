"""Spans of one cell: blocks of doubling length, so that looking back two days costs no more than looking back a minute.

Level k holds blocks of 2^k panes. A span of level k is its last eight blocks, looked at whenever one of them closes: a span of length L
is looked at every L/8. At level 0 the spans of one, two and four panes are looked at too. Each level keeps only the blocks that its
spans and its parent need: the levels are the ladder that bounds a judge's memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from streams.counting.layout import Vector

BLOCKS = 8
KEPT = BLOCKS + 1
SHORT = (1, 2, 4)

Look = tuple[int, int, int]
"""A span: its level, how many blocks of it, and the last one."""


class Block(NamedTuple):
    """Counts of 2^level panes: slots, ascending, with the two numbers that decide whether a look is worth it."""

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
        self._rows, self._outcomes = [0.0] * levels, [0.0] * levels
        self.not_before = 0
        self.dirty: set[tuple[int, int]] = set()
        self.gone: set[tuple[int, int]] = set()

    def copy(self) -> Spans:
        """The same blocks for another cell, all of them yet to be written."""
        other = Spans(self.levels, self.size, self.rows_slot, self.outcomes_slot)
        other.blocks = [dict(level) for level in self.blocks]
        other._rows, other._outcomes = list(self._rows), list(self._outcomes)
        other.not_before = self.not_before
        other.dirty = {(level, number) for level, kept in enumerate(self.blocks) for number in kept}
        return other

    def put(self, pane: int, slots: npt.NDArray[np.int32], values: npt.NDArray[np.float64]) -> None:
        """The counts of a pane that has ended, slots ascending: its block of level 0."""
        self._keep(0, pane, self._block(slots, values))
        self.dirty.add((0, pane))

    def close(self, level: int, block: int) -> bool:
        """Joins the halves of a block of a higher level; False if nothing was in it. Older ones stay until `drop_old`."""
        below = self.blocks[level - 1]
        one, other = below.get(2 * block), below.get(2 * block + 1)
        half = other if one is None else one
        if half is None:
            return False
        self._keep(level, block, half if one is None or other is None else _joined(one, other))
        self.dirty.add((level, block))
        return True

    def drop_old(self, level: int, block: int) -> None:
        """Drops what no span needs any more that ends with `block` or later."""
        last = block - KEPT - (block & 1)
        # Blocks are kept in order of time: the oldest come first.
        while (old := next(iter(self.blocks[level]))) <= last:
            self._drop(level, old)
            self.dirty.discard((level, old))
            self.gone.add((level, old))

    def _keep(self, level: int, number: int, block: Block) -> None:
        self.blocks[level][number] = block
        if block.rows > 0.0:
            self._rows[level] += block.rows
        if block.outcomes > 0.0:
            self._outcomes[level] += block.outcomes

    def _drop(self, level: int, number: int) -> None:
        block = self.blocks[level].pop(number)
        if block.rows > 0.0:
            self._rows[level] -= block.rows
        if block.outcomes > 0.0:
            self._outcomes[level] -= block.outcomes

    def _block(self, slots: npt.NDArray[np.int32], values: npt.NDArray[np.float64]) -> Block:
        def value(slot: int) -> float:
            at = int(slots.searchsorted(slot))
            return float(values[at]) if at < len(slots) and slots[at] == slot else 0.0

        return Block(slots, values, value(self.rows_slot), value(self.outcomes_slot))

    def looks(self, level: int, block: int, least: float) -> list[tuple[int, list[Block]]]:
        """The spans to look at when this block closed, shortest first: (number of blocks, its blocks). None of fewer than `least` rows
        and outcomes, none that holds what a shorter one held."""
        # The sums over all that is kept bound every span's: most looks at a quiet cell end here.
        if self._rows[level] < least and self._outcomes[level] < least:
            return []
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
        first = max(block - count + 1, -(-self.not_before >> level))
        return [found for number in range(first, block + 1) if (found := kept.get(number)) is not None]

    def rows_between(self, level: int, first: int, last: int) -> float:
        """Rows of the level's blocks first to last, both included, that are still kept."""
        kept = self.blocks[level]
        return sum(found.rows for number in range(first, last + 1) if (found := kept.get(number)) is not None)

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
            # The sums over all that is kept bound every span's.
            if self._rows[level] < rows or self._outcomes[level] < outcomes:
                continue
            last, kept, least = (end >> level) - 1, self.blocks[level], 1 if level == 0 else BLOCKS // 2
            first = -(-self.not_before >> level)
            held_rows = held_outcomes = 0.0
            for count in range(1, BLOCKS + 1):
                block = kept.get(last - count + 1) if last - count + 1 >= first else None
                if block is not None:
                    held_rows += block.rows
                    held_outcomes += block.outcomes
                if count >= least and held_rows >= rows and held_outcomes >= outcomes:
                    return self.dense(self.members(level, count, last)), (last - count + 1) << level
        return None

    def last_row(self, closed: int) -> int | None:
        """The end of the last block that holds a row, of the finest level that still has one; None where none has. Blocks end at pane
        `closed` or before. Outcomes alone are no traffic."""
        for level, kept in enumerate(self.blocks):
            for number in reversed(kept):
                if kept[number].rows > 0 and (number + 1) << level <= closed:
                    return (number + 1) << level
        return None

    # -- rows ------------------------------------------------------------------------------------------------------------------

    def take_changes(self) -> tuple[dict[str, bytes], list[str]]:
        """Rows written and removed since the last call, by "level:block"."""
        written = {}
        for level, number in sorted(self.dirty):
            slots, values, _, _ = self.blocks[level][number]
            written[f"{level}:{number}"] = msgspec.msgpack.encode(
                (slots.astype("<u4").tobytes(), values.astype("<f8").tobytes())
            )
        removed = [f"{level}:{number}" for level, number in sorted(self.gone) if (level, number) not in self.dirty]
        self.dirty.clear()
        self.gone.clear()
        return written, removed

    def forget_changes(self) -> None:
        """Nothing changed since the last call, as far as rows go: a backtest stores none."""
        self.dirty.clear()
        self.gone.clear()

    def restore(self, rows: Mapping[str, bytes]) -> None:
        """Takes rows back, by the names of `take_changes`."""
        named = [
            (int(level), int(number), row) for name, row in rows.items() for level, _, number in [name.partition(":")]
        ]
        for level, number, row in sorted(named):
            raw_slots, raw_values = msgspec.msgpack.decode(row, type=tuple[bytes, bytes])
            slots = np.frombuffer(raw_slots, dtype="<u4").astype(np.int32)
            values = np.frombuffer(raw_values, dtype="<f8").astype(np.float64)
            self._keep(level, number, self._block(slots, values))


def stack(spans: Sequence[Sequence[Block]], size: int) -> Vector:
    """The sum of each span's blocks, [spans, size]."""
    blocks = [block for members in spans for block in members]
    if not blocks:
        return np.zeros((len(spans), size))
    starts = np.repeat(np.arange(len(spans)) * size, [sum(len(block.slots) for block in members) for members in spans])
    slots = np.concatenate([block.slots for block in blocks]) + starts
    values = np.concatenate([block.values for block in blocks])
    counted = np.bincount(slots, weights=values, minlength=len(spans) * size)
    return np.asarray(counted, dtype=np.float64).reshape(len(spans), size)


def _joined(one: Block, other: Block) -> Block:
    """Two neighbours as one block."""
    slots = np.concatenate((one.slots, other.slots))
    order = slots.argsort(kind="stable")
    slots = slots[order]
    first = np.empty(len(slots), dtype=np.bool_)
    first[:1] = True
    np.not_equal(slots[1:], slots[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    values = np.add.reduceat(np.concatenate((one.values, other.values))[order], starts) if len(starts) else np.empty(0)
    return Block(slots[starts], values, one.rows + other.rows, one.outcomes + other.outcomes)
