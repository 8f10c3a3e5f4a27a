"""What one batch of one topic says, as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from leadline.events import Change, Label, Prediction
from streams.core.records import Records
from streams.core.stage import Record
from streams.core.table import Table
from streams.core.whose import Indices, Whose

Event = TypeVar("Event", Prediction, Label, Change)
Floats = npt.NDArray[np.float64]
Column = Any
"""A list, a `Table`, or an array of numbers where no event has anything else."""

DECODERS: dict[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (Prediction, Label, Change)
}


class Fault(NamedTuple):
    """Why one record was not taken. `reason` is bounded (a metric's label); `detail` is for people."""

    record: Record
    reason: str
    detail: str


class Part(NamedTuple):
    """Some events of a batch. `who` and `keys` are empty of kinds that have none; a column that no event fills is left out."""

    places: Sequence[int]
    times: Floats
    keys: list[bytes]
    who: Indices
    columns: Mapping[str, Column]


@dataclass(slots=True)
class Decoded(Generic[Event]):
    """Events in order of arrival, and the faults.

    `kept` are the events' places among the records, None for all of them; `times` [n] in epoch seconds, whole microseconds; `keys` those
    of their requests (`request_keys.py`); `who` [n] their numbers in `whose`.
    """

    kind: type[Event]
    records: Records
    kept: Indices | None
    times: Floats
    faults: list[Fault]
    keys: list[bytes]
    whose: Whose
    who: Indices
    _parts: Sequence[Part]
    _columns: dict[str, Column] = field(default_factory=dict)

    @classmethod
    def of(
        cls, kind: type[Event], records: Records, faults: list[Fault], whose: Whose, parts: Sequence[Part]
    ) -> Decoded[Event]:
        """The parts together."""
        none = np.empty(0, np.int64)
        return cls(
            kind,
            records,
            np.concatenate([none, *(np.asarray(part.places, np.int64) for part in parts)]) if faults else None,
            np.concatenate([np.empty(0), *(part.times for part in parts)]),
            faults,
            list(chain.from_iterable(part.keys for part in parts)),
            whose,
            np.concatenate([none, *(part.who for part in parts)]),
            parts,
        )

    def __len__(self) -> int:
        return len(self.times)

    def column(self, name: str) -> Column:
        """One field of every event; None where it leaves it out."""
        found = self._columns.get(name)
        if found is None:
            found = self._columns[name] = self._joined(name)
        return found

    def _joined(self, name: str) -> Column:
        given = [part.columns.get(name) for part in self._parts]
        if len(given) == 1 and given[0] is not None:
            return given[0]
        arrays = [part for part in given if isinstance(part, np.ndarray)]
        if arrays and len(arrays) == len(given):
            return np.concatenate(arrays)
        tables = [part for part in given if isinstance(part, Table)]
        if tables and len(tables) == len(given) and all(table.same(tables[0]) for table in tables):
            return Table.joined(tables)
        found: list[Any] = []
        for part, column in zip(self._parts, given, strict=True):
            if isinstance(column, np.ndarray):
                column = column.tolist()
            found.extend([None] * len(part.times) if column is None else column)
        return found

    def event(self, at: int) -> Event:
        """One event whole, read anew."""
        event: Event = DECODERS[self.kind].decode(self.record(at).value or b"")
        return event

    @property
    def places(self) -> Indices:
        """Where each event's record stands in the batch."""
        return np.arange(len(self)) if self.kept is None else self.kept

    def offset(self, at: int) -> int:
        """Where an event's message stands in the log."""
        return self.records.offsets[at if self.kept is None else self.kept[at]]

    def record(self, at: int) -> Record:
        """The record of an event."""
        return self.records[at if self.kept is None else int(self.kept[at])]
