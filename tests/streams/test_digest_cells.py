"""The entries of a digest's cells come back as they went, whatever their widths."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.events import Digest
from streams.core.digest_cells import NO_ENTRIES, Entries, check_cells, pack_cells, unpack_cells

COUNTED = 100_000
"""Slots below are counts, those above sums."""
Cell = dict[int, float]
COUNTS = st.integers(-(2**62), 2**62) | st.integers(-200, 200)
CELLS = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, COUNTED - 1), COUNTS.map(float), max_size=5),
        st.dictionaries(
            st.integers(COUNTED, 2 * COUNTED), st.floats(allow_nan=False, allow_infinity=False), max_size=5
        ),
    ).map(lambda parts: {**parts[0], **parts[1]}),
    max_size=6,
)


def digest(cells: list[Cell], first: int = 0, last: int | None = None) -> Digest:
    slots = np.array([slot for cell in cells for slot in sorted(cell)], dtype=np.int64)
    values = np.array([cell[slot] for cell in cells for slot in sorted(cell)], dtype=np.float64)
    bounds = np.cumsum([0, *map(len, cells)])
    names = [("7", "live", None if at == 0 else f"site={at}", at, 20_000) for at in range(len(cells))]
    packed = pack_cells(names, Entries(bounds, slots, values, slots < COUNTED), first, last or len(cells))
    made = Digest(0, 1, "m", "layout", 0.0, 0.0, **packed)
    return msgspec.json.decode(msgspec.json.encode(made), type=Digest)


def read(made: Digest) -> list[Cell]:
    check_cells(made)
    return [dict(zip(slots.tolist(), values.tolist(), strict=True)) for _, slots, values in unpack_cells(made)]


@given(CELLS)
def test_cells_come_back_from_the_wire_as_they_went(cells: list[Cell]) -> None:
    assert read(digest(cells)) == cells


@given(CELLS, st.data())
def test_a_range_of_the_cells_is_those_cells(cells: list[Cell], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, max(len(cells) - 1, 0)))
    last = data.draw(st.integers(min(first + 1, len(cells)), len(cells)))
    assert read(digest(cells, first, last)) == cells[first:last]


def test_small_counts_take_a_byte_and_small_slots_two() -> None:
    made = digest([{3: 5.0, 9: -128.0}, {3: 127.0}])
    assert (made.slot_bytes, made.count_bytes) == (2, 1)
    assert (len(made.slots), len(made.counts)) == (6, 3)
    assert digest([{3: 128.0}]).count_bytes == 2
    assert digest([{70_000: 1.0}]).slot_bytes == 4


def test_no_cells_are_no_bytes() -> None:
    made = Digest(0, 1, "m", "layout", 0.0, 0.0, **pack_cells([], NO_ENTRIES, 0, 0))
    assert read(made) == []
    assert (made.slots, made.counts, made.sums) == (b"", b"", b"")


@pytest.mark.parametrize("field", ["slots", "counts", "sums"])
def test_arrays_of_another_length_than_the_cells_say_are_refused(field: str) -> None:
    made = digest([{3: 5.0, COUNTED: 0.5}])
    spoilt = msgspec.structs.replace(made, **{field: getattr(made, field)[:-1]})
    with pytest.raises(ValueError, match="arrays"):
        check_cells(spoilt)
