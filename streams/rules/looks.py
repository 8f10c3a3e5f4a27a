"""Looks: spans that are judged together, one vector and one baseline each. Rules screen all of them in a few array operations.

A judge's tick looks at several spans of many cells. One at a time each costs dozens of calls on tiny arrays; together they cost the same
calls once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from streams.counting.layout import Layout, Vector
from streams.counting.subjects import Subjects
from streams.rules.baseline import Baseline

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
UNKNOWN = (math.nan, math.nan, math.nan)


class Bases:
    """Distinct baselines with their arrays stacked: [baselines, ...]."""

    def __init__(self, members: Sequence[Baseline]) -> None:
        self.members = tuple(members)
        self.place = {id(base): at for at, base in enumerate(self.members)}
        self._stacks: dict[str, npt.NDArray[np.float64]] = {}

    def stack(self, name: str) -> Floats:
        """An attribute of all of them; numbers and arrays alike."""
        found = self._stacks.get(name)
        if found is None:
            found = self._stacks[name] = np.array([getattr(base, name) for base in self.members])
        return found

    @cached_property
    def groups(self) -> Integers:
        """Counts of every subject by coarse group."""
        return np.array([base.groups for base in self.members])

    def limits(self, signal: str) -> Floats:
        """[baselines, 3]: a share of the reference and its limits; NaN where the baseline has none."""
        name = f"limits:{signal}"
        found = self._stacks.get(name)
        if found is None:
            found = self._stacks[name] = np.array([base.limits.get(signal, UNKNOWN) for base in self.members])
        return found


class Looks:
    """`vectors` [looks, slots]; `at` [looks] says which of the bases belongs to each, `place` which look of the caller's each one is, and
    `cell` which of them are spans of one cell."""

    def __init__(
        self,
        layout: Layout,
        subjects: Subjects,
        vectors: Vector,
        bases: Bases,
        at: Integers,
        alpha: float,
        place: Integers | None = None,
        cell: Integers | None = None,
        only: tuple[str, str | None] | None = None,
    ) -> None:
        self.layout, self.subjects, self.vectors, self.bases, self.at = layout, subjects, vectors, bases, at
        self.alpha, self.log_alpha = alpha, math.log(alpha)
        self.place = np.arange(len(vectors)) if place is None else place
        self.only = only
        """The signal and subject that are asked for: rules may leave all others out. None: all of them."""
        self.cell = np.arange(len(vectors)) if cell is None else cell
        self._counted: dict[str, Floats] = {}

    def __len__(self) -> int:
        return len(self.vectors)

    def wants(self, signal: str, subject: str | None = None) -> bool:
        """Whether this signal (of this subject, where it has some) is asked for."""
        return self.only is None or (self.only[0] == signal and (subject is None or self.only[1] == subject))

    def where(self, mask: Mask) -> Looks:
        """Those that `mask` [looks] names."""
        if mask.all():
            return self
        vectors, at, place, cell = self.vectors[mask], self.at[mask], self.place[mask], self.cell[mask]
        return Looks(self.layout, self.subjects, vectors, self.bases, at, self.alpha, place, cell, self.only)

    def first_of_cell(self, look: Integers, subject: Integers) -> Mask:
        """Of findings [n], ordered by look, those that no earlier look at the same cell has for the same subject."""
        first = np.zeros(len(look), dtype=np.bool_)
        key = self.cell[look] * (int(subject.max(initial=0)) + 1) + subject
        first[np.unique(key, return_index=True)[1]] = True
        return first

    def base(self, look: int) -> Baseline:
        """The baseline of one look."""
        return self.bases.members[int(self.at[look])]

    def of_base(self, name: str) -> Floats:
        """An attribute of each look's baseline, [looks, ...]."""
        return self.bases.stack(name)[self.at]

    def groups(self) -> Integers:
        """The baseline's counts of every subject by coarse group, [looks, subjects, widest group count]."""
        return np.asarray(self.bases.groups[self.at])

    def limits(self, signal: str) -> Floats:
        """[looks, 3]: the reference's share of a signal and its confidence limits."""
        return self.bases.limits(signal)[self.at]

    def part(self, section: str) -> Floats:
        """A section of every vector, [looks, slots of it]."""
        return self.vectors[:, self.layout.slots[section]]

    def counted(self, section: str) -> Floats:
        """The same with what corrections drove below 0 set to 0."""
        found = self._counted.get(section)
        if found is None:
            found = self._counted[section] = np.maximum(self.part(section), 0.0)
        return found

    def one(self, section: str) -> Floats:
        """A section of one slot, [looks]."""
        return self.vectors[:, self.layout.slots[section].start]

    def known(self, slots: slice) -> Floats:
        """Slots of each look's baseline, [looks, slots]."""
        return self.bases.stack("vector")[:, slots][self.at]

    @cached_property
    def rows(self) -> Floats:
        return self.one("rows")

    @cached_property
    def outcomes(self) -> Floats:
        return self.one("outcomes")

    @cached_property
    def grouped(self) -> Integers:
        """Counts of every subject by coarse group, [looks, subjects, widest group count]."""
        grouped: Integers = self.subjects.grouped(self.vectors)
        return grouped

    @cached_property
    def totals(self) -> Integers:
        """Rows of every subject, at least 1, [looks, subjects]."""
        totals: Integers = np.maximum(self.grouped.sum(axis=2), 1)
        return totals
