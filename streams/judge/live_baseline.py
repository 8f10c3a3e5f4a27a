"""The baseline of what a reference does not know: the first live rows with an embedding, a confidence, a resource, a layer, a latency.

Training rows seldom hold them. Each field is learned by itself, from whole panes in order of event time, until it has as many rows as a
baseline is learned from; from then on it stands. Pure: the same panes give the same baseline.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from streams.counting.layout import Layout, Vector
from streams.counting.means import Mean, means_of
from streams.counting.references import Reference
from streams.judge.spans import Block

FRESH = "\x00"  # no segment is named so


class Field(NamedTuple):
    """One optional field: the section that counts its rows, all its slots, and whether what it counts are names."""

    rows: str
    slots: npt.NDArray[np.int64]
    names: str | None = None
    """The section of hashed names. A new name becomes known when as many rows have stated it as a baseline takes."""


def fields_of(layout: Layout) -> list[Field]:
    """Optional fields of a layout, but for those that every reference with features has."""
    sections: list[tuple[str, tuple[str, ...]]] = [
        (mean.rows, (mean.rows, mean.total, mean.squares, *_histogram(mean)))
        for mean in means_of(layout)
        if mean.rows != "joint_rows"
    ]
    sections.append(("latency_rows", ("latency_rows", "latency_sum", "latency_squares", "latency")))
    found = [Field(rows, _slots(layout, names)) for rows, names in sections]
    return found + [
        Field(f"{name}_rows", _slots(layout, (f"{name}_rows", name)), name) for name in ("pipeline", "runtime")
    ]


def _histogram(mean: Mean) -> tuple[str, ...]:
    """The bins of a value that has some beside its mean."""
    kind, _, name = mean.rows.partition(":")
    return (f"resource_used:{name}",) if kind == "resource_rows" else ()


def _slots(layout: Layout, sections: tuple[str, ...]) -> npt.NDArray[np.int64]:
    return np.concatenate([np.arange(layout.slots[name].start, layout.slots[name].stop) for name in sections])


class _State(msgspec.Struct):
    layout: str
    done: list[str]
    cells: list[tuple[str | None, bytes, bytes]]


class LiveBaseline:
    """`wanted` rows make a field's baseline. `dirty` says that it has changed since it was last packed."""

    def __init__(self, reference: Reference, wanted: int) -> None:
        self.reference = reference
        self.layout = reference.layout
        self.wanted = wanted
        self.dirty = False
        everything = reference.cell(None)
        self.fields = {
            field.rows: field
            for field in fields_of(self.layout)
            if everything is not None and self.layout.one(everything, field.rows) == 0
        }
        """Fields that the reference does not know. A reference that knows nothing at all has none: it is yet to be learned."""
        self.done: set[str] = set()
        self._cells: dict[str | None, Vector] = {}
        counts = [field.slots for field in self.fields.values()]
        beside = [np.array(self._counted(field)) for field in self.fields.values()]
        self._optional = np.unique(np.concatenate([np.empty(0, np.int64), *counts, *beside]))
        self._place = np.full(self.layout.size, -1, dtype=np.int64)
        self._place[self._optional] = np.arange(len(self._optional))
        self._fresh = np.zeros(len(self._optional))
        """Rows of names that came after their field was closed."""
        self._takes, self._late = self._open()
        self._moved = False

    def _open(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Slots that are still learned, and slots in which new names are counted."""
        takes, late = (np.zeros(self.layout.size, dtype=np.bool_) for _ in range(2))
        for field in self.fields.values():
            if field.rows not in self.done:
                takes[field.slots] = True
            elif field.names is not None:
                late[self.layout.slots[field.names]] = True
        learned = [self._counted(field) for field in self.fields.values() if field.rows not in self.done]
        self._learned = self._place[np.array(learned, dtype=np.int64).reshape(-1, 3).T]
        """[(rows, stated, asked), fields]: where a cell counts the fields that are still learned."""
        return takes, late

    def _counted(self, field: Field) -> tuple[int, int, int]:
        """The slots of its rows, and of what a baseline holds beside them."""
        stated, asked = (self.layout.offset(f"baseline_{kind}:{field.rows}") for kind in ("stated", "asked"))
        return self.layout.offset(field.rows), stated, asked

    def take(self, segment: str | None, block: Block) -> None:
        """Adds what a closed pane of a segment (None: all traffic) says of the fields that are still learned."""
        if not self.fields or self.reference.cell(segment) is None:
            return
        if (chosen := self._takes[block.slots]).any():
            cell = self._cells.get(segment)
            if cell is None:
                cell = self._cells[segment] = np.zeros(len(self._optional))
            cell[self._place[block.slots[chosen]]] += block.values[chosen]
            self.dirty = self._moved = True
        self._ask(segment, block)
        if segment is None and (chosen := self._late[block.slots]).any():
            places, values = self._place[block.slots[chosen]], block.values[chosen]
            new = self._cells[None][places] == 0
            if new.any():
                self._fresh[places[new]] += values[new]
                self.dirty = self._moved = True

    def _ask(self, segment: str | None, block: Block) -> None:
        """Counts the pane's rows, stated or not, for the fields that are learned and have been stated before or in it."""
        cell = self._cells.get(segment)
        if cell is None or not self._learned.shape[1]:
            return
        rows, stated, asked = self._learned
        # Of so many rows and not yet learned: it is far from always stated, and is counted no further.
        counted = (cell[rows] > 0) & (cell[asked] < 2 * self.wanted)
        if counted.any():
            cell[stated[counted]] = cell[rows[counted]]
            cell[asked[counted]] += block.rows
            self.dirty = True

    def settle(self) -> bool:
        """Closes the fields that have enough rows; True if the baseline has changed. Called when all panes of one end were taken."""
        if not self._moved:
            return False
        self._moved = False
        everything = self._cells.get(None, self._fresh)
        closed = [
            rows
            for rows in self.fields
            if rows not in self.done and everything[self._place[self.layout.offset(rows)]] >= self.wanted
        ]
        self.done.update(closed)
        if closed:
            self._takes, self._late = self._open()
        usual = self._fresh >= self.wanted
        everything[usual] += self._fresh[usual]
        self._fresh[usual] = 0.0
        return bool(closed) or bool(usual.any())

    def vector(self, segment: str | None) -> Vector | None:
        """The reference's vector of a segment, with the learned fields; None where the reference has none."""
        vector = self.reference.cell(segment)
        if vector is None or not self.done:
            return vector
        vector = vector.copy()
        own, everything = self._cells.get(segment), self._cells.get(None)
        for rows in sorted(self.done):
            field = self.fields[rows]
            source = everything if field.names is not None else own
            if source is not None:
                vector[field.slots] = source[self._place[field.slots]]
            if own is not None:
                beside = list(self._counted(field)[1:])
                vector[beside] = own[self._place[beside]]
        return vector

    def pack(self) -> bytes:
        """As one row of the store."""
        self.dirty = False
        cells = []
        for segment, cell in [*sorted(self._cells.items(), key=lambda item: item[0] or ""), (FRESH, self._fresh)]:
            used = np.flatnonzero(cell)
            cells.append((segment, used.astype("<u4").tobytes(), cell[used].astype("<f8").tobytes()))
        return msgspec.msgpack.encode(_State(self.layout.fingerprint, sorted(self.done), cells))

    def restore(self, row: bytes) -> None:
        """Takes `pack`'s row back; one of another layout is left: the fields are learned anew."""
        state = msgspec.msgpack.decode(row, type=_State)
        if state.layout != self.layout.fingerprint:
            return
        self.done = set(state.done) & self.fields.keys()
        for segment, slots, values in state.cells:
            cell = np.zeros(len(self._optional))
            cell[np.frombuffer(slots, "<u4")] = np.frombuffer(values, "<f8")
            if segment == FRESH:
                self._fresh = cell
            else:
                self._cells[segment] = cell
        self._takes, self._late = self._open()
