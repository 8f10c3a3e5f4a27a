"""Who a row belongs to: (model, version, stage, segments, bins) as one small number, and the cells that it counts for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from streams.core.whose import Whose
from streams.observe.rows import MOST_COMBINATIONS

POOLED = "other"
MAX_VERSIONS = 100
MAX_KEYS = 200_000
MAX_COMBINATIONS = 1_000_000  # beyond, versions and segment values are pooled, too


class Cell(NamedTuple):
    """One version and stage of one model, and one segment value ("site=north") or None for all of its traffic."""

    model_id: str
    version: str
    stage: str
    segment: str | None


class Combination(NamedTuple):
    """What rows with the same model, version, stage and segments share, whose features were binned alike (`bins`: the reference's
    fingerprint of its bins)."""

    model_id: str
    version: str
    stage: str
    segments: tuple[tuple[str, str], ...]
    bins: str


class Combinations:
    """Numbers combinations and cells in order of appearance. Numbers never change; the store keeps them beside the rows.

    A model has at most `max_values` segment values over all names; those after are pooled under `other` of their name, visibly.
    Likewise versions beyond a hundred: a service that publishes a version per request does not blow up the worker.
    """

    def __init__(self, max_values: int) -> None:
        self.max_values = max_values
        self.all: list[Combination] = []
        self.cells: list[Cell] = []
        self.memberships: npt.NDArray[np.int64] = np.full((64, 4), -1, dtype=np.int64)
        self.models: list[str] = []
        self.model_of_cell: npt.NDArray[np.int64] = np.zeros(64, dtype=np.int64)
        """The model's number of each cell."""
        self.model_of: npt.NDArray[np.int64] = np.zeros(64, dtype=np.int64)
        """The model's number of each combination."""
        self.pooled = 0
        self._model_numbers: dict[str, int] = {}
        self.bins_of: npt.NDArray[np.int64] = np.zeros(64, dtype=np.int64)
        """The number of the bins of each combination's rows."""
        self._bins_numbers: dict[str, int] = {}
        self._numbers: dict[tuple[object, ...], int] = {}
        self._of_whose: dict[str, tuple[Whose, npt.NDArray[np.int64]]] = {}
        self._cell_numbers: dict[Cell, int] = {}
        self._values: dict[str, set[tuple[str, str]]] = {}
        self._versions: dict[str, set[str]] = {}
        self.new: dict[bytes, bytes] = {}

    def reserve(self, model_id: str, segments: Mapping[str, None] | list[str]) -> None:
        """Segment values of the reference come first: they are the ones with a baseline."""
        values = self._values.setdefault(model_id, set())
        for segment in segments:
            name, _, value = segment.partition("=")
            if len(values) < self.max_values:
                values.add((name, value))

    def number(
        self, model_id: str, version: str, stage: str | None, segments: Mapping[str, str] | None, bins: str
    ) -> int:
        """The combination's number; registers it when it is new."""
        key = (bins, model_id, version, stage, *segments.items()) if segments else (bins, model_id, version, stage)
        found = self._numbers.get(key)
        if found is not None:
            return found
        versions = self._versions.setdefault(model_id, set())
        full = len(self.all) >= MAX_COMBINATIONS
        if version not in versions and (len(versions) >= MAX_VERSIONS or full):
            version = POOLED
            self.pooled += 1
        versions.add(version)
        values = self._values.setdefault(model_id, set())
        kept = []
        for name, value in sorted((segments or {}).items()):
            if (name, value) not in values or full:
                if len(values) >= self.max_values or full:
                    value = POOLED
                    self.pooled += 1
                values.add((name, value))
            kept.append((name, value))
        combination = Combination(model_id, version, stage or "live", tuple(kept), bins)
        number = self._numbers.get(_canonical(combination), -1)
        if number < 0:
            number = self._add(combination)
            self._numbers[_canonical(combination)] = number
            self.new[str(number).encode()] = msgspec.msgpack.encode(combination)
        if len(self._numbers) < MAX_KEYS:
            self._numbers[key] = number
        return number

    def numbers(self, whose: Whose, who: npt.NDArray[np.int64], bins: str) -> npt.NDArray[np.int64]:
        """The numbers of rows whose features were binned alike; `who` are their numbers in `whose`."""
        known = self._of_whose.get(bins)
        if known is None or known[0] is not whose:
            known = self._of_whose[bins] = whose, np.full(64, -1, dtype=np.int64)
        table = known[1]
        if len(table) < len(whose):
            table = np.concatenate([table, np.full(2 * len(whose) - len(table), -1, dtype=np.int64)])
            self._of_whose[bins] = whose, table
        found = table[who]
        if len(found) and found.min() < 0:
            # In order of arrival, so that a replay gives the same numbers.
            for one in dict.fromkeys(who[found < 0].tolist()):
                model_id, version, stage, segments = whose.values[one]
                table[one] = self.number(model_id, version, stage, segments, bins)
            found = table[who]
        return found

    def restore(self, rows: Mapping[bytes, bytes]) -> None:
        """Takes back what the store holds."""
        for field in sorted(rows, key=int):
            combination = msgspec.msgpack.decode(rows[field], type=Combination)
            number = self._add(combination)
            if number != int(field):
                raise ValueError(
                    f"combination {int(field)} is stored where {number} was expected: the table is incomplete"
                )
            self._numbers[_canonical(combination)] = number
            self._versions.setdefault(combination.model_id, set()).add(combination.version)
            self._values.setdefault(combination.model_id, set()).update(combination.segments)

    def _add(self, combination: Combination) -> int:
        number = len(self.all)
        if number >= MOST_COMBINATIONS:
            raise OverflowError(f"{number} combinations of model, version and segments: rows cannot name more")
        self.all.append(combination)
        model = self._model_numbers.setdefault(combination.model_id, len(self.models))
        if model == len(self.models):
            self.models.append(combination.model_id)
        segments = [None, *(f"{name}={value}" for name, value in combination.segments)]
        cells = [
            self._cell(Cell(combination.model_id, combination.version, combination.stage, segment), model)
            for segment in segments
        ]
        rows, width = self.memberships.shape
        if number >= rows or len(cells) > width:
            grown = np.full((max(rows * 2, 64), max(width, len(cells))), -1, dtype=np.int64)
            grown[:rows, :width] = self.memberships
            self.memberships = grown
            more = np.zeros(len(grown) - len(self.model_of), dtype=np.int64)
            self.model_of, self.bins_of = np.concatenate([self.model_of, more]), np.concatenate([self.bins_of, more])
        self.memberships[number, : len(cells)] = cells
        self.model_of[number] = model
        self.bins_of[number] = self._bins_numbers.setdefault(combination.bins, len(self._bins_numbers))
        return number

    def _cell(self, cell: Cell, model: int) -> int:
        number = self._cell_numbers.get(cell)
        if number is None:
            number = self._cell_numbers[cell] = len(self.cells)
            self.cells.append(cell)
            if number >= len(self.model_of_cell):
                self.model_of_cell = np.concatenate([self.model_of_cell, np.zeros_like(self.model_of_cell)])
            self.model_of_cell[number] = model
        return number

    def have_bins(self, combinations: npt.NDArray[np.int64], fingerprint: str) -> npt.NDArray[np.bool_]:
        """Which of these combinations' rows were binned by this reference."""
        return np.asarray(self.bins_of[combinations] == self._bins_numbers.get(fingerprint, -1))

    def take_new(self) -> dict[bytes, bytes]:
        new, self.new = self.new, {}
        return new


def _canonical(combination: Combination) -> tuple[object, ...]:
    model_id, version, stage, segments, bins = combination
    return (bins, model_id, version, stage, *segments)
