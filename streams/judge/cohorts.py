"""Counts by the UTC day of the prediction: what a day's figures finally are, however late its labels come."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from streams.counting.layout import Layout, Vector
from streams.judge.incidents import Where

PARTS = 32
INCREMENTS = 16  # rows of one day that only add to it, before it is written whole again

Slots = npt.NDArray[np.int32]
Values = npt.NDArray[np.float64]
OF_THE_EDGES = (
    "feature:",
    "z:",
    "zz:",
    "labelled",
    "chosen",
    "truth",
)  # and "score": sections that mean something under one reference only


class Cohorts:
    """Vectors by cell and day. Entries are appended and summed now and then, so that adding stays cheap; stored likewise: a day has
    thousands of slots, and what is added to it a few."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._parts: dict[tuple[Where, int], list[tuple[Slots, Values]]] = {}
        self._new: dict[tuple[Where, int], list[tuple[Slots, Values]]] = {}
        """What is not stored yet."""
        self._stored: dict[tuple[Where, int], int] = {}
        """Rows that add to a day."""
        self._whole: set[tuple[Where, int]] = set()
        """Days that must be written whole."""
        self._gone: list[tuple[Where, str]] = []
        """Stored rows of days that were dropped."""
        self._first: float = -math.inf
        """Days before this one were dropped; what still comes for them is not kept."""

    def add(self, where: Where, day: int, slots: Slots, values: Values) -> None:
        if day < self._first:
            return
        key = (where, day)
        parts = self._parts.setdefault(key, [])
        parts.append((slots, values))
        self._new.setdefault(key, []).append((slots, values))
        if len(parts) >= PARTS:
            self._compact(key)

    def drop_before(self, day: int) -> None:
        """Forgets all days before one, for good."""
        if day <= self._first:
            return
        self._first = day
        for key in [key for key in self._parts if key[1] < day]:
            del self._parts[key]
            self._new.pop(key, None)
            self._whole.discard(key)
            stored = self._stored.pop(key, None)
            if stored is not None:
                self._gone += _rows_of(key, stored)

    def _compact(self, key: tuple[Where, int]) -> tuple[Slots, Values]:
        parts = self._parts[key]
        if len(parts) > 1:
            self._parts[key] = parts = [self._sum(parts)]
        return parts[0]

    def _sum(self, parts: list[tuple[Slots, Values]]) -> tuple[Slots, Values]:
        together, weights = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        dense = np.bincount(together, weights=weights, minlength=self.size).astype(np.float64)
        slots = np.flatnonzero(dense).astype(np.int32)
        return slots, dense[slots]

    def cells(self) -> list[tuple[Where, int]]:
        """Every (cell, day), ordered."""
        return sorted(
            self._parts, key=lambda item: (item[0].version or "", item[0].stage, item[0].segment or "", item[1])
        )

    def day(self, where: Where, day: int) -> Vector:
        """The vector of one day; zeros where nothing came."""
        vector = np.zeros(self.size)
        if (where, day) in self._parts:
            slots, values = self._compact((where, day))
            vector[slots] = values
        return vector

    def total(self, where: Where) -> Vector:
        """The sum over all days, in order of day."""
        vector = np.zeros(self.size)
        for cell, day in self.cells():
            if cell == where:
                vector += self.day(cell, day)
        return vector

    def split(self, version: str) -> None:
        """Gives a version all that was counted for all versions so far."""
        for where, day in [key for key in self._parts if key[0].version is None]:
            self._parts[(where._replace(version=version), day)] = list(self._parts[(where, day)])
            self._whole.add((where._replace(version=version), day))

    def remap(self, old: Mapping[str, tuple[int, int]], new: Layout) -> None:
        """Another reference: sections that both name and size alike are kept. Counts over its edges go: they never add to others."""
        target = np.full(max(stop for _, stop in old.values()), -1, dtype=np.int64)
        for name, (start, stop) in old.items():
            there = new.slots.get(name)
            of_edges = name == "score" or name.startswith(OF_THE_EDGES)
            if there is not None and there.stop - there.start == stop - start and not of_edges:
                target[start:stop] = np.arange(there.start, there.stop)
        self.size = new.size
        for key, parts in list(self._parts.items()):
            moved = []
            for slots, values in parts:
                places = target[slots]
                kept = places >= 0
                order = np.argsort(places[kept], kind="stable")
                moved.append((places[kept][order].astype(np.int32), values[kept][order]))
            self._parts[key] = moved
            self._whole.add(key)

    # -- rows ------------------------------------------------------------------------------------------------------------------

    def take_changes(self) -> tuple[dict[tuple[Where, str], bytes], list[tuple[Where, str]]]:
        """Rows written and removed since the last call: "day", and "day+k" for what adds to it."""
        written: dict[tuple[Where, str], bytes] = {}
        removed = self._gone
        for key in dict.fromkeys([*self._whole, *self._new]):
            where, day = key
            stored = self._stored.get(key)
            if stored is None or stored >= INCREMENTS or key in self._whole:
                written[where, f"{day}"] = _pack(*self._compact(key))
                removed += _rows_of(key, stored or 0)[1:]
                self._stored[key] = 0
            else:
                new = self._new[key]
                written[where, f"{day}+{stored}"] = _pack(*(new[0] if len(new) == 1 else self._sum(new)))
                self._stored[key] = stored + 1
        self.forget_changes()
        return written, removed

    def forget_changes(self) -> None:
        """Nothing changed since the last call, as far as rows go."""
        self._new.clear()
        self._whole.clear()
        self._gone = []

    def restore(self, where: Where, rows: Mapping[str, bytes]) -> None:
        """Takes one cell's rows back, by the names of `take_changes`."""
        for name in sorted(rows, key=lambda name: tuple(map(int, name.split("+")))):
            day = int(name.partition("+")[0])
            slots, values = msgspec.msgpack.decode(rows[name], type=tuple[bytes, bytes])
            part = np.frombuffer(slots, "<u4").astype(np.int32), np.frombuffer(values, "<f8").astype(np.float64)
            self._parts.setdefault((where, day), []).append(part)
            self._stored[where, day] = self._stored.get((where, day), -1) + 1


def _rows_of(key: tuple[Where, int], added: int) -> list[tuple[Where, str]]:
    """Where a day is stored, and what was `added` to it since."""
    where, day = key
    return [(where, f"{day}"), *((where, f"{day}+{number}") for number in range(added))]


def _pack(slots: Slots, values: Values) -> bytes:
    return msgspec.msgpack.encode((slots.astype("<u4").tobytes(), values.astype("<f8").tobytes()))
