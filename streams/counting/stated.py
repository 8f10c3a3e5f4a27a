"""How many rows state each field that a service may leave out, and how many of the baseline's did."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from streams.counting.layout import Layout, Vector

SUBJECTS = {
    "embedding": "embedding",
    "confidence": "confidence",
    "latency": "latency_ms",
    "pipeline": "pipeline_fingerprint",
    "runtime": "runtime",
}
NEARLY_ALL = 0.95
"""Share of a baseline's rows that state a field which services are expected to state."""


def subject_of_field(rows: str) -> str:
    """The field as people know it, of the section that counts its rows."""
    kind, _, name = rows.partition(":")
    kind = kind.removesuffix("_rows")
    return f"{kind.replace('_', f'.{name}.')}" if kind.startswith("layer_") else SUBJECTS.get(kind, f"{kind}.{name}")


@lru_cache(maxsize=1024)
def stated_fields(layout: Layout) -> tuple[str, ...]:
    """Subjects of the optional fields, in the layout's order."""
    return tuple(subject_of_field(rows) for rows in layout.optional)


def rows_stating(layout: Layout, vectors: Vector) -> npt.NDArray[np.float64]:
    """[..., fields] of vectors [..., slots]: an embedding that is none was stated all the same."""
    stated = np.maximum(vectors[..., _slots(layout)], 0.0)
    stated[..., layout.optional.index("embedding_rows")] += layout.part(vectors, "embedding_invalid")[..., 0]
    return np.asarray(stated, dtype=np.float64)


@lru_cache(maxsize=1024)
def _slots(layout: Layout, kind: str = "") -> npt.NDArray[np.int64]:
    return np.array([layout.offset(f"{kind}{name}") for name in layout.optional], dtype=np.int64)


def baseline_stated(layout: Layout, baseline: Vector) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(rows that state it, rows asked), [fields] each: of the rows that a learned field was learned from, else of all rows."""
    stated, asked = (baseline[_slots(layout, f"baseline_{kind}:")] for kind in ("stated", "asked"))
    learned = asked > 0
    return (
        np.where(learned, stated, rows_stating(layout, baseline)),
        np.where(learned, asked, layout.one(baseline, "rows")),
    )
