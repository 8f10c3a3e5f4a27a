"""Fairness: figures that compare the values of one segment name with each other, such as site=north with site=south."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from detectors.fairness import GroupGap, calibration_difference, calibration_gaps, largest_gap
from streams.counting.figure import NAN, Figure, Side
from streams.counting.layout import Layout, Vector


def group_figures(layout: Layout, groups: Mapping[str, Vector]) -> Iterator[Figure]:
    """Gaps between the groups (segment to vector, all of one name). The subject is the name; `floor` is three standard errors.

    Selection rates are over all predictions, true and false positive rates and calibration over those whose labels came.
    Binary models alone: for others there is no selection.
    """
    if layout.task != "binary" or len(groups) < 2:
        return
    name = next(iter(groups)).partition("=")[0]
    table = np.maximum(np.array([groups[segment] for segment in sorted(groups)]), 0.0)
    rows = layout.part(table, "rows")[:, 0]
    yield from _gap(
        "demographic_parity_difference",
        name,
        largest_gap(layout.part(table, "predicted_positive")[:, 0], rows),
        rows,
        "model",
    )
    tn, fp, fn, tp = layout.part(table, "confusion").T
    yield from _gap("true_positive_rate_difference", name, largest_gap(tp, tp + fn), tp + fn, "outcome")
    yield from _gap("false_positive_rate_difference", name, largest_gap(fp, fp + tn), fp + tn, "outcome")
    labelled = layout.part(table, "calibration_rows").sum(axis=1)
    scores, hits = (
        layout.part(table, "calibration_scores").sum(axis=1),
        layout.part(table, "calibration_positives").sum(axis=1),
    )
    yield from _gap(
        "calibration_difference",
        name,
        calibration_difference(calibration_gaps(labelled, scores, hits)),
        labelled,
        "outcome",
    )


def _gap(signal: str, name: str, gap: GroupGap, rows: Vector, layer: Side) -> Iterator[Figure]:
    value = float(gap.value)
    if np.isfinite(value):
        yield Figure(layer, signal, name, value, round(float(rows.sum())), NAN, 3 * float(gap.se))
