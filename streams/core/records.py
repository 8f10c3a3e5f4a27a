"""Messages of one topic as columns: a batch is worked on by columns, and a tuple for each message would cost more than its decoding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import overload

from streams.core.stage import Record


class Records(Sequence[Record]):
    """Messages in order of offset. One of them is made a `Record` only where somebody asks for it."""

    __slots__ = ("keys", "lines", "offsets", "timestamps", "values")

    def __init__(
        self,
        offsets: list[int],
        keys: list[bytes | None],
        values: list[bytes | None],
        timestamps: list[float],
        lines: list[bytes | None] | None = None,
    ) -> None:
        """`lines` None: no message has one."""
        self.offsets, self.keys, self.values, self.timestamps, self.lines = offsets, keys, values, timestamps, lines

    @classmethod
    def of(cls, records: Iterable[Record]) -> Records:
        """Any messages as columns; what is one already is not copied."""
        if isinstance(records, Records):
            return records
        columns = [list(column) for column in zip(*records, strict=True)]
        if not columns:
            return cls([], [], [], [])
        offsets, keys, values, timestamps, lines = columns
        return cls(offsets, keys, values, timestamps, lines if any(line is not None for line in lines) else None)

    def __len__(self) -> int:
        return len(self.offsets)

    @overload
    def __getitem__(self, at: int) -> Record: ...
    @overload
    def __getitem__(self, at: slice) -> Records: ...
    def __getitem__(self, at: int | slice) -> Record | Records:
        lines = self.lines
        if isinstance(at, slice):
            return Records(
                self.offsets[at],
                self.keys[at],
                self.values[at],
                self.timestamps[at],
                None if lines is None else lines[at],
            )
        line = None if lines is None else lines[at]
        return Record(self.offsets[at], self.keys[at], self.values[at], self.timestamps[at], line)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def size(self) -> int:
        """Bytes of their values."""
        return sum(map(len, filter(None, self.values)))

    def extend(self, others: Records) -> None:
        """Puts messages behind these."""
        if self.lines is not None or others.lines is not None:
            mine: list[bytes | None] = self.lines if self.lines is not None else [None] * len(self)
            self.lines = mine + (others.lines if others.lines is not None else [None] * len(others))
        self.offsets += others.offsets
        self.keys += others.keys
        self.values += others.values
        self.timestamps += others.timestamps

    def pick(self, places: Sequence[int]) -> Records:
        """Those at some places."""
        return Records.of([self[at] for at in places])

    def cut(self, count: int) -> Records:
        """The first `count` leave."""
        first = self[:count]
        for column in (self.offsets, self.keys, self.values, self.timestamps, self.lines):
            if column is not None:
                del column[:count]
        return first
