"""Columns in place of tuples and maps: records, tables of features, and whose events are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.core.records import Records
from streams.core.stage import Record
from streams.core.table import Table
from streams.core.whose import Who, Whose

_records = st.lists(
    st.builds(
        Record,
        st.integers(0, 99),
        st.none() | st.binary(max_size=2),
        st.none() | st.binary(max_size=2),
        st.floats(0, 1e9),
        st.none() | st.binary(max_size=2),
    ),
    max_size=8,
)


@given(_records, _records, st.data())
def test_records_are_what_a_list_of_them_is(one: list[Record], other: list[Record], data: st.DataObject) -> None:
    records = Records.of(one)
    assert records == one
    assert len(records) == len(one)
    begin, end = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9))
    assert records[begin:end] == one[begin:end]
    places = data.draw(st.lists(st.integers(0, len(one) - 1), max_size=4)) if one else []
    assert records.pick(places) == [one[at] for at in places]
    records.extend(Records.of(other))
    assert records == one + other
    first = records.cut(begin)
    assert (list(first), list(records)) == ((one + other)[:begin], (one + other)[begin:])


def table(rows: list[dict[str, Any]]) -> Table:
    numbers = [[math.nan if row["a"] is None else row["a"], row["b"]] for row in rows]
    return Table(
        ("a", "c", "b"), ("a", "b"), np.array(numbers, dtype=float).reshape(-1, 2), {"c": [row["c"] for row in rows]}
    )


_rows = st.lists(
    st.fixed_dictionaries(
        {"a": st.none() | st.floats(-9, 9), "c": st.none() | st.text(max_size=2) | st.booleans(), "b": st.floats(-9, 9)}
    ),
    max_size=6,
)


@given(_rows, _rows)
def test_a_table_says_what_its_rows_say(rows: list[dict[str, Any]], more: list[dict[str, Any]]) -> None:
    found = table(rows)
    assert list(found) == rows
    assert [list(row) for row in found] == [["a", "c", "b"]] * len(rows)
    assert found.column("a") == [row["a"] for row in rows]
    assert found.column("c") == [row["c"] for row in rows]
    assert list(found[1:3]) == rows[1:3]
    assert list(found.pick(np.arange(len(rows))[::2])) == rows[::2]
    assert list(Table.joined([found, table(more)])) == rows + more
    assert found.same(table(more))


def test_whose_numbers_are_in_order_of_appearance_and_grow() -> None:
    whose = Whose()
    keys = [(("site",), f"m{at % 3}", f"v{at}", None, ("north",)) for at in range(200)]
    assert whose.numbers([keys[0], keys[1], keys[0]]).tolist() == [0, 1, 0]
    assert whose.numbers(keys).tolist() == list(range(200))
    assert whose.values[1] == Who("m1", "v1", None, {"site": "north"})
    assert [whose.models[model] for model in whose.model_of[:4]] == ["m0", "m1", "m2", "m0"]
    assert whose.numbers([((), "m0", "v0", "shadow", ())]).tolist() == [200]
    assert whose.values[200] == Who("m0", "v0", "shadow", None)
