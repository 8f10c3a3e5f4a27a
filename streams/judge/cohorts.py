"""Counts by the UTC day of the prediction: what a day's figures finally are, however late its labels come."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from streams.counting.layout import Layout, Vector
from streams.judge.incidents import Where

PARTS = 32
OF_THE_EDGES = (
    "feature:",
    "z:",
    "zz:",
    "labelled",
    "chosen",
    "truth",
)  # and "score": sections that mean something under one reference only


class Cohorts:
    """Vectors by cell and day. Entries are appended and summed now and then, so that adding stays cheap."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._parts: dict[tuple[Where, int], list[tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]]] = {}
        self.dirty: set[tuple[Where, int]] = set()

    def add(self, where: Where, day: int, slots: npt.NDArray[np.int32], values: npt.NDArray[np.float64]) -> None:
        key = (where, day)
        parts = self._parts.setdefault(key, [])
        parts.append((slots, values))
        self.dirty.add(key)
        if len(parts) >= PARTS:
            self._compact(key)

    def _compact(self, key: tuple[Where, int]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        parts = self._parts[key]
        if len(parts) > 1:
            together, weights = (
                np.concatenate([slots for slots, _ in parts]),
                np.concatenate([values for _, values in parts]),
            )
            dense = np.bincount(together, weights=weights, minlength=self.size).astype(np.float64)
            slots = np.flatnonzero(dense).astype(np.int32)
            self._parts[key] = parts = [(slots, dense[slots])]
        return parts[0]

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
            self.dirty.add((where._replace(version=version), day))

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
            self.dirty.add(key)

    def pack(self, where: Where, day: int) -> bytes:
        slots, values = self._compact((where, day))
        return msgspec.msgpack.encode((slots.astype("<u4").tobytes(), values.astype("<f8").tobytes()))

    def restore(self, where: Where, day: int, row: bytes) -> None:
        slots, values = msgspec.msgpack.decode(row, type=tuple[bytes, bytes])
        self._parts[(where, day)] = [
            (np.frombuffer(slots, "<u4").astype(np.int32), np.frombuffer(values, "<f8").astype(np.float64))
        ]
