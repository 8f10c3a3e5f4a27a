"""Codes and standardised values are the same whether features come as maps or as columns, all at once or one by one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.binning import CategoryBins
from streams.core.table import Table
from streams.counting.feature_codes import feature_codes
from streams.counting.features import categorical_feature, numeric_from_edges
from streams.counting.measure import measure
from streams.counting.references import Reference


def numeric(name: str, edges: list[float]) -> Any:
    return numeric_from_edges(name, edges, edges[::2], center=3.0, scale=2.0, low=edges[0], high=edges[-1])


KNOWN = [
    numeric("age", [float(at) for at in range(12)]),
    categorical_feature("sex", CategoryBins(("f", "m", "3"), ("x",), True)),
    numeric("dose", [-1.0, 0.0, 0.5, 7.0]),
]
REFERENCES = [
    Reference(task="binary", features=KNOWN, score=None),
    Reference(task="binary", features=[KNOWN[0], KNOWN[2]], score=None),
    Reference(task="binary", features=[KNOWN[1]], score=None),
]
_number = st.none() | st.floats(-20, 20) | st.integers(-20, 20).map(float)
_any = _number | st.booleans() | st.sampled_from(["f", "m", "z", "", "3"])


def as_table(rows: list[dict[str, Any]]) -> Table:
    """As the decoder makes it: names that hold nothing but numbers and nulls as one matrix."""
    names = tuple(rows[0])
    kinds = {name: {type(row[name]) for row in rows} for name in names}
    numbers = tuple(name for name in names if kinds[name] <= {float, type(None)})
    matrix = [[math.nan if row[name] is None else row[name] for name in numbers] for row in rows]
    others = {name: [row[name] for row in rows] for name in names if name not in numbers}
    return Table(names, numbers, np.array(matrix, dtype=float).reshape(len(rows), len(numbers)), others)


@st.composite
def _batches(draw: st.DrawFn) -> list[dict[str, Any]]:
    names = draw(st.permutations(["age", "sex", "dose", "extra"]))[: draw(st.integers(1, 4))]
    kinds = {name: draw(st.sampled_from([_number, _any])) for name in names}
    return draw(st.lists(st.fixed_dictionaries(kinds), min_size=1, max_size=6))


@settings(max_examples=300, deadline=None)
@given(_batches(), st.sampled_from(REFERENCES))
def test_columns_are_counted_as_maps_and_as_single_rows_are(rows: list[dict[str, Any]], reference: Reference) -> None:
    whole = feature_codes(reference, rows)
    columns = feature_codes(reference, as_table(rows))
    single = [feature_codes(reference, [row]) for row in rows]
    for at, (one, other) in enumerate(zip(whole, columns, strict=True)):
        stacked = np.concatenate([part[at] for part in single])
        assert np.array_equal(np.nan_to_num(one), np.nan_to_num(other))
        assert np.array_equal(np.nan_to_num(one), np.nan_to_num(stacked))
    scores, none = [0.5] * len(rows), [None] * len(rows)
    of_maps, of_columns = (measure(reference, scores, none, given, 0.5) for given in (rows, as_table(rows)))
    assert np.array_equal(of_maps.extra, of_columns.extra)
    assert np.array_equal(of_maps.z, of_columns.z)
    assert np.array_equal(of_maps.furthest, of_columns.furthest)
