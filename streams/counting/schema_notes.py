"""Names behind a broken schema, for people: unknown features, types that changed, and which unknown feature a missing one may have become.

Looked at only in batches that hold such rows, and then in a few hundred rows of each: notes say what, the counts say how much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from leadline.events import Prediction
from streams.counting.measure import Columns
from streams.counting.optional_fields import MAX_SCHEMA_NAMES
from streams.counting.references import Reference
from streams.counting.tally import Indices

NOTED_ROWS = 200  # of a batch
MAX_PAIRS = 10  # missing features, and unknown ones, that are compared with each other
RENAME = "\x1f"  # between the missing feature and the unknown one
TYPES = {
    str: "text",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    float: "no finite number",
    int: "too large",
}


def odd_rows(columns: Columns, reference: Reference) -> Indices:
    """Rows with an unknown feature, or with a value of a wrong type."""
    if not reference.features:
        return np.empty(0, np.int64)
    invalid = np.array([feature.bins.invalid for feature in reference.features], dtype=columns.codes.dtype)
    return np.flatnonzero(columns.extra | (columns.codes == invalid).any(axis=1))


def note_schema(
    seen: dict[str, dict[str, int]],
    renames: dict[str, list[int]],
    rows: Sequence[int],
    event_at: Callable[[int], Prediction],
    columns: Columns,
    reference: Reference,
) -> None:
    """Adds the names of the first `rows` to `seen` (version to name to number of rows), and to `renames` the counts of unknown
    features by the groups of the missing one that they may have been."""
    known = {feature.name for feature in reference.features}
    invalid = [feature.bins.invalid for feature in reference.features]
    values: dict[str, list[Any]] = {}
    for at in rows[:NOTED_ROWS]:
        event = event_at(at)
        features: Mapping[str, Any] = event.features or {}
        of_version = seen.setdefault(event.model_version, {})
        names = []
        if columns.extra[at]:
            unknown = [name for name in features if name not in known][:MAX_PAIRS]
            names += [f"unknown {name}" for name in unknown]
            absent = np.flatnonzero(columns.absent[at])[:MAX_PAIRS].tolist()
            for missing in absent:
                for name in unknown:
                    values.setdefault(f"{reference.features[missing].name}{RENAME}{name}", []).append(features[name])
        for place in np.flatnonzero(columns.codes[at] == invalid).tolist():
            feature = reference.features[place]
            if feature.name in features:
                names.append(f"type {feature.name}: {TYPES.get(type(features[feature.name]), 'of another type')}")
        for name in names:
            if name in of_version or len(of_version) < MAX_SCHEMA_NAMES:
                of_version[name] = of_version.get(name, 0) + 1
    by_name = {feature.name: feature for feature in reference.features}
    for pair, found in values.items():
        feature = by_name[pair.partition(RENAME)[0]]
        codes, _ = feature.assign(found)
        counts = np.bincount(feature.groups[codes], minlength=feature.group_count)
        renames[pair] = (counts + np.array(renames.get(pair, np.zeros_like(counts)))).tolist()
