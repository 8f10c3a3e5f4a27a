"""The cells of a digest on the wire: a short line each, and all their entries behind one another as arrays.

A judge reads a digest's arrays where they lie; one JSON number for each entry cost more than all else that is done with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt

from leadline.events import Digest, DigestCell, Width

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
NARROW_SLOT = 2**16


class Entries(NamedTuple):
    """Sparse vectors one after another, slots ascending in each: those of vector k are [bounds[k], bounds[k + 1]).

    `whole` says which slots count, the others are sums.
    """

    bounds: Indices
    slots: Indices
    values: Floats
    whole: npt.NDArray[np.bool_]


NO_ENTRIES = Entries(np.zeros(1, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0, np.bool_))


class Packed(TypedDict):
    """The fields of a digest that hold its cells."""

    cells: list[DigestCell]
    slots: bytes
    counts: bytes
    sums: bytes
    slot_bytes: Width
    count_bytes: Width


Named = tuple[str, str, str | None, int, int]
"""Version, stage, segment, arrival pane and cohort day of a cell."""


def pack_cells(names: Sequence[Named], entries: Entries, first: int, last: int) -> Packed:
    """The vectors [first, last) of some entries, each with its cell's name."""
    bounds = entries.bounds[first : last + 1]
    begin, end = int(bounds[0]), int(bounds[-1])
    slots, values, whole = entries.slots[begin:end], entries.values[begin:end], entries.whole[begin:end]
    counts = np.rint(values[whole]).astype(np.int64)
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(whole)])[bounds - begin]
    n_counts = np.diff(before)
    n_sums = np.diff(bounds) - n_counts
    slot_bytes: Width = 2 if int(slots.max(initial=0)) < NARROW_SLOT else 4
    count_bytes = _width(counts)
    return Packed(
        cells=[
            DigestCell(*name, counted, summed)
            for name, counted, summed in zip(names[first:last], n_counts.tolist(), n_sums.tolist(), strict=True)
        ],
        slots=slots.astype(f"<u{slot_bytes}").tobytes(),
        counts=counts.astype(f"<i{count_bytes}").tobytes(),
        sums=values[~whole].astype("<f8").tobytes(),
        slot_bytes=slot_bytes,
        count_bytes=count_bytes,
    )


def _width(counts: Indices) -> Width:
    """The least bytes that hold every one."""
    low, high = int(counts.min(initial=0)), int(counts.max(initial=0))
    widths: tuple[Width, ...] = (1, 2, 4)
    return next((width for width in widths if -(1 << 8 * width - 1) <= low and high < 1 << 8 * width - 1), 8)


def check_cells(digest: Digest) -> None:
    """`ValueError` where the arrays do not have the entries of the cells."""
    if any(cell.counts < 0 or cell.sums < 0 for cell in digest.cells):
        raise ValueError("a cell with a negative number of entries")
    counts, sums = sum(cell.counts for cell in digest.cells), sum(cell.sums for cell in digest.cells)
    if (len(digest.slots), len(digest.counts), len(digest.sums)) != (
        digest.slot_bytes * (counts + sums),
        digest.count_bytes * counts,
        8 * sums,
    ):
        raise ValueError("the arrays of a digest do not have the entries of its cells")


def unpack_entries(digest: Digest) -> tuple[list[Named], Indices, npt.NDArray[np.int32], Floats]:
    """The cells' names, and all their entries behind one another (bounds, slots, values), of a digest that `check_cells` lets pass."""
    slots = np.frombuffer(digest.slots, dtype=f"<u{digest.slot_bytes}").astype(np.int32)
    sizes = np.array([(cell.counts, cell.sums) for cell in digest.cells], dtype=np.int64).reshape(-1, 2)
    whole = np.repeat(np.tile(np.array([True, False]), len(digest.cells)), sizes.ravel())
    values = np.empty(len(slots))
    values[whole] = np.frombuffer(digest.counts, dtype=f"<i{digest.count_bytes}")
    values[~whole] = np.frombuffer(digest.sums, dtype="<f8")
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes.sum(axis=1))])
    names = [(cell.version, cell.stage, cell.segment, cell.pane, cell.day) for cell in digest.cells]
    return names, bounds, slots, values


def unpack_cells(digest: Digest) -> Iterator[tuple[DigestCell, npt.NDArray[np.int32], Floats]]:
    """Each cell with its slots, ascending, and their values."""
    _, bounds, slots, values = unpack_entries(digest)
    for cell, begin, end in zip(digest.cells, bounds.tolist(), bounds.tolist()[1:], strict=False):
        yield cell, slots[begin:end], values[begin:end]
