"""Columns of a batch to sparse count vectors, one for each (cell, arrival pane, cohort day). The inner loop of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from streams.core.digest_cells import Entries
from streams.counting.layout import Layout
from streams.counting.measure import Floats

Indices = npt.NDArray[np.int64]
DENSE_SHARE = 16  # entries are counted in a table of up to so many times their number, else sorted


class Sparse(NamedTuple):
    """The non-zero slots of one vector, ascending: integers and sums apart."""

    indices: Indices
    counts: Indices
    sum_indices: Indices
    sums: Floats


class Parts(NamedTuple):
    """Non-zero slots of every key, key after key: those of key k are [bounds[k], bounds[k + 1])."""

    bounds: list[int]
    indices: Indices
    values: Floats


class Tally:
    """Entries (row, slot, weight) of one batch, folded into one sparse vector for each key."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._counted: list[tuple[Indices, Indices]] = []
        self._weighted: list[tuple[Indices, Indices, Floats]] = []

    def add(self, rows: Indices, slots: Indices, weights: Floats | float = 1.0) -> None:
        """Entries [n] or [k, n]; rows [n] index the keys given to `fold`."""
        if not len(rows):
            return
        if isinstance(weights, float):
            if weights == 1.0:
                self._counted.append((rows, slots))
                return
            weights = np.full(slots.shape, weights)
        self._weighted.append((rows, slots, weights))

    def one(self, name: str, rows: Indices, weights: Floats | float = 1.0) -> None:
        """Entries in a section of one slot."""
        if len(rows) and name in self.layout.slots:
            self.add(rows, np.full(len(rows), self.layout.offset(name)), weights)

    def fold(self, keys: Indices, n_keys: int) -> list[Sparse]:
        """`keys` is [rows, memberships]: the keys each row counts for, -1 for none. One vector a key, in order."""
        counts, sums = self.parts(keys, n_keys)
        numbers = np.rint(counts.values).astype(np.int64)
        return [
            Sparse(
                counts.indices[at:end], numbers[at:end], sums.indices[sums_at:sums_end], sums.values[sums_at:sums_end]
            )
            for at, end, sums_at, sums_end in zip(
                counts.bounds, counts.bounds[1:], sums.bounds, sums.bounds[1:], strict=False
            )
        ]

    def parts(self, keys: Indices, n_keys: int) -> tuple[Parts, Parts]:
        """Integer counts and real-valued sums of every key."""
        key, slot, totals = self._totals(keys)
        whole = slot < self.layout.integers
        return _parts(key, slot, totals, whole, n_keys), _parts(key, slot, totals, ~whole, n_keys)

    def entries(self, keys: Indices, n_keys: int) -> Entries:
        """The same, not apart."""
        key, slot, totals = self._totals(keys)
        return Entries(np.searchsorted(key, np.arange(n_keys + 1)), slot, totals, slot < self.layout.integers)

    def _totals(self, keys: Indices) -> tuple[Indices, Indices, Floats]:
        """Key, slot and total of everything that is not zero, by key and slot."""
        size = self.layout.size
        n = sum(slots.size for _, slots in self._counted) + sum(slots.size for _, slots, _ in self._weighted)
        if len(keys) * size <= n:
            # Few rows, many entries: into the whole table, large blocks as they are.
            table = np.zeros(len(keys) * size)
            for rows, slots in _joined(self._counted):
                table += np.bincount((rows * size + slots).ravel(), minlength=len(table))
            for rows, slots, weights in _joined(self._weighted):
                table += np.bincount((rows * size + slots).ravel(), weights=weights.ravel(), minlength=len(table))
            dense = table.reshape(-1, size)
            columns = np.flatnonzero(dense.any(axis=0))
            width = len(columns)
            entries, totals = _by_row(dense[:, columns], keys)
        else:
            none = np.empty(0, np.int64)
            blocks = [*self._counted, *((rows, slots) for rows, slots, _ in self._weighted)]
            rows = np.concatenate(
                [none, *(rows if slots.ndim == 1 else np.tile(rows, len(slots)) for rows, slots in blocks)]
            )
            slots = np.concatenate([none, *(slots.ravel() for _, slots in blocks)])
            weights = np.concatenate([np.empty(0), *(weights.ravel() for _, _, weights in self._weighted)])
            used = np.zeros(size, dtype=np.bool_)
            used[slots] = True
            columns = np.flatnonzero(used)
            width = len(columns)
            # Every row is folded once, however many keys it counts for; a batch uses a part of the slots.
            if len(keys) * width < DENSE_SHARE * len(rows):
                compact = np.empty(size, dtype=np.int64)
                compact[columns] = np.arange(width)
                place = rows * width + compact[slots]
                counted = len(place) - len(weights)
                table = np.bincount(place[:counted], minlength=len(keys) * width).astype(np.float64)
                table += np.bincount(place[counted:], weights=weights, minlength=len(keys) * width)
                entries, totals = _by_row(table.reshape(-1, width), keys)
            else:
                columns, width = np.arange(size), size
                entries, totals = _by_sorting(rows, slots, weights, keys, width)
        key, slot = np.divmod(entries, width) if width else (entries, entries)
        return key, columns[slot], totals


def _parts(key: Indices, slot: Indices, totals: Floats, chosen: npt.NDArray[np.bool_], n_keys: int) -> Parts:
    return Parts(np.searchsorted(key[chosen], np.arange(n_keys + 1)).tolist(), slot[chosen], totals[chosen])


def _joined(blocks: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The blocks of one dimension as one, and each of two."""
    flat = [block for block in blocks if block[1].ndim == 1]
    whole = [tuple(np.concatenate(parts) for parts in zip(*flat, strict=True))] if flat else []
    return whole + [block for block in blocks if block[1].ndim == 2]


def _by_row(table: Floats, keys: Indices) -> tuple[Indices, Floats]:
    """Adds the rows of each key: places (key, column), ascending, and their totals."""
    row, membership = np.nonzero(keys >= 0)
    key = keys[row, membership]
    order = np.argsort(key, kind="stable")
    starts = np.searchsorted(key[order], np.arange(int(key.max(initial=-1)) + 2))
    # A product with a sparse matrix of ones: thirty times as fast as `np.add.reduceat` over as many rows.
    members = csr_array((np.ones(len(row)), row[order], starts), shape=(len(starts) - 1, len(table)))
    sums = np.asarray(members @ table)
    flat = np.flatnonzero(sums)
    return flat, sums.ravel()[flat]


def _by_sorting(rows: Indices, slots: Indices, weights: Floats, keys: Indices, width: int) -> tuple[Indices, Floats]:
    """The same for rows that share few keys: a replay of a slow log has a pane for every row."""
    counted = len(rows) - len(weights)
    place, totals = _sum_equal(rows * width + slots, np.concatenate([np.ones(counted), weights]))
    row, slot = np.divmod(place, width)
    places, values = [], []
    for membership in range(keys.shape[1]):
        key = keys[row, membership]
        kept = key >= 0
        places.append(key[kept] * width + slot[kept])
        values.append(totals[kept])
    place, totals = _sum_equal(np.concatenate(places), np.concatenate(values))
    nonzero = totals != 0.0
    return place[nonzero], totals[nonzero]


def _sum_equal(place: Indices, values: Floats) -> tuple[Indices, Floats]:
    if not len(place):
        return place, values
    order = np.argsort(place, kind="stable")
    place = place[order]
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    return place[starts], np.add.reduceat(values[order], starts)
