"""What a prediction counts for before its label comes: slots and weights of one batch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from streams.counting.layout import COLLAPSE_SLOTS, Layout
from streams.counting.measure import OUT_OF_DISTRIBUTION_Z, Columns, Floats, entropy
from streams.counting.tally import Indices, Tally


@lru_cache(maxsize=1024)
def _feature_starts(layout: Layout) -> Indices:
    """[3, features, 1]: the first slots of each feature's counts, sums and absences."""
    sections = ("feature", "z", "absent")
    return np.array([[[layout.offset(f"{section}:{name}")] for name, _ in layout.features] for section in sections])


def tally_predictions(tally: Tally, columns: Columns, rows: Indices) -> None:
    """What a prediction says before its label: bins, moments, nulls, entropy. `rows` [n] index the keys of `fold`."""
    layout = tally.layout
    tally.one("rows", rows)
    valid = np.isfinite(columns.score)
    tally.one("score_sum", rows[valid], columns.score[valid])
    tally.one("score_squares", rows[valid], columns.score[valid] ** 2)
    if "predicted_positive" in layout.slots:
        tally.one("predicted_positive", rows[columns.predicted == 1.0])
    elif layout.task == "multiclass":
        known = np.isfinite(columns.predicted)
        tally.add(rows[known], layout.offset("predicted") + columns.predicted[known].astype(np.int64))
    if columns.score_codes is not None:
        tally.add(rows, layout.offset("score") + columns.score_codes.astype(np.int64))
        if layout.task == "binary":
            chosen = columns.predicted == 1.0
            tally.add(rows[chosen], layout.offset("chosen") + columns.score_codes[chosen].astype(np.int64))
    if layout.features:
        starts = _feature_starts(layout)
        z = columns.z.T
        tally.add(rows, columns.codes.T + starts[0])
        tally.add(rows, np.repeat(starts[1], len(rows), axis=1), z)
        tally.add(rows, np.repeat(starts[1] + 1, len(rows), axis=1), z * z)
        if columns.absent.any():
            row_at, feature_at = np.nonzero(columns.absent)
            tally.add(rows[row_at], starts[2, feature_at, 0])
        tally.one("extra", rows[columns.extra])
        tally.one("out_of_distribution", rows[columns.furthest > OUT_OF_DISTRIBUTION_Z])
    if layout.task != "regression":
        nats = entropy(columns)
        stated = np.isfinite(nats)
        tally.one("entropy_rows", rows[stated])
        tally.one("entropy_sum", rows[stated], nats[stated])
        tally.one("entropy_squares", rows[stated], nats[stated] ** 2)
    rounded = np.rint(np.where(valid, columns.score, 0.0) * 1e6)
    # A cheap mix of the rounded score: one most frequent value shows as one full slot.
    mixed = (np.clip(rounded, -(2**52), 2**52).astype(np.int64) * 2654435761 >> 16) % COLLAPSE_SLOTS
    tally.add(rows, layout.offset("collapse") + mixed)


def tally_joint(tally: Tally, rows: Indices, unexplained: Floats) -> None:
    """What main directions leave unexplained of each row [n], in deviations of the reference."""
    tally.one("joint_rows", rows)
    tally.one("joint_sum", rows, unexplained)
    tally.one("joint_squares", rows, unexplained**2)
