"""A baseline from the first live rows of a model that came without a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.errors import DetectorError
from leadline.config import Model
from leadline.events import LearningRow
from streams.baselines.reference_files import CLASS_PREFIX, FEATURE_PREFIX, SEGMENT_PREFIX, build_reference
from streams.counting.features import BadReference
from streams.counting.measure import measure
from streams.counting.references import Reference
from streams.counting.tally import Tally
from streams.counting.tally_predictions import tally_joint

Counted = tuple[str, str, str | None, int, npt.NDArray[np.int32], npt.NDArray[np.float64]]


def learn(rows: Sequence[LearningRow], before: Reference, model: Model) -> tuple[Reference | None, list[Counted]]:
    """The reference of the rows, and what the rows count for under its edges: (version, stage, segment, day, slots, values).

    The rows themselves were counted when they came, but for their features and their score's bins: those are given here, so that no
    figure lacks the rows it was learned from. None where the rows cannot make a baseline.
    """
    rows = sorted(rows, key=lambda row: (row.time, row.order))
    names = sorted({name for row in rows for name in row.features})
    columns: dict[str, list[Any]] = {FEATURE_PREFIX + name: [row.features.get(name) for row in rows] for name in names}
    if before.task == "multiclass":
        classes = sorted({name for row in rows if isinstance(row.score, Mapping) for name in row.score})
        for cls in classes:
            columns[CLASS_PREFIX + cls] = [
                row.score.get(cls, 0.0) if isinstance(row.score, Mapping) else None for row in rows
            ]
    else:
        columns["score"] = [row.score for row in rows]
    segments = [dict(pair.partition("=")[::2] for pair in row.segments) for row in rows]
    for name in sorted({name for row in segments for name in row}):
        columns[SEGMENT_PREFIX + name] = [row.get(name) for row in segments]
    try:
        reference = build_reference(
            columns,
            task=before.task,
            threshold=model.threshold,
            business=model.business,
            source="first live rows",
            learned=True,
            probes=model.probes,
            resources=model.resources,
        )
    except (BadReference, DetectorError):
        return None, []
    measured = measure(
        reference,
        [row.score for row in rows],
        [row.prediction for row in rows],
        [row.features for row in rows],
        model.threshold,
    )
    tally = Tally(reference.layout)
    layout = reference.layout
    everything = np.arange(len(rows))
    if layout.features:
        offsets = np.array([layout.offset(f"feature:{name}") for name, _ in layout.features])
        repeated = np.repeat(everything, len(offsets))
        tally.add(repeated, (measured.codes + offsets).ravel())
        for section, values in (("z", measured.z), ("zz", measured.z**2)):
            starts = np.array([layout.offset(f"{section}:{name}") for name, _ in layout.features])
            tally.add(repeated, np.tile(starts, len(rows)), values.ravel())
    if measured.score_codes is not None:
        codes = measured.score_codes.astype(np.int64)
        tally.add(everything, layout.offset("score") + codes)
        if layout.task == "binary":
            chosen = measured.predicted == 1.0
            tally.add(everything[chosen], layout.offset("chosen") + codes[chosen])
    if measured.unexplained is not None:
        tally_joint(tally, everything, measured.unexplained)
    cells: dict[tuple[str, str, str | None, int], int] = {}
    width = 1 + max((len(row.segments) for row in rows), default=0)
    keys = np.full((len(rows), width), -1, dtype=np.int64)
    for at, row in enumerate(rows):
        for place, segment in enumerate([None, *row.segments]):
            keys[at, place] = cells.setdefault((row.version, row.stage, segment, row.day), len(cells))
    counted: list[Counted] = []
    for (version, stage, segment, day), sparse in zip(cells, tally.fold(keys, len(cells)), strict=True):
        slots = np.concatenate([sparse.indices, sparse.sum_indices]).astype(np.int32)
        values = np.concatenate([sparse.counts.astype(np.float64), sparse.sums])
        counted.append((version, stage, segment, day, slots, values))
    return reference, counted
