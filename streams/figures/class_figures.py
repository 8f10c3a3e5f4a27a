"""Outcome figures of a model of many classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from detectors.auc import Auc, auc_from_histograms, hanley_mcneil_se
from detectors.classification import MulticlassMetrics, multiclass_metrics, one_vs_rest_auc
from detectors.shares import Estimate, share
from streams.counting.figure import NAN, Figure, estimated, number
from streams.counting.layout import CLASS_BINS, Layout, Vector
from streams.counting.references import Reference
from streams.figures.binary_figures import calibration_figures, loss_figures

OTHER_CLASS = "(unknown class)"


def confusion_of(layout: Layout, vector: Vector) -> Vector:
    """[true, predicted] counts. The last row and column are of classes that the reference does not know."""
    width = len(layout.classes) + 1
    return np.maximum(layout.part(vector, "confusion").reshape(width, width), 0.0)


def class_metrics(layout: Layout, vector: Vector) -> MulticlassMetrics:
    """A class that is unknown to the reference counts as wrong; where none came its empty row must not enter the macro average."""
    matrix = confusion_of(layout, vector)
    return multiclass_metrics(matrix if matrix[-1].sum() + matrix[:, -1].sum() > 0 else matrix[:-1, :-1])


def class_histograms(layout: Layout, vector: Vector) -> tuple[Vector, Vector]:
    """[classes, bins] of each class's probability: rows of the class, and all others."""
    shape = (len(layout.classes), CLASS_BINS)
    return layout.part(vector, "class_members").reshape(shape), layout.part(vector, "class_others").reshape(shape)


def class_figures(reference: Reference, vector: Vector, baseline: Vector | None) -> Iterator[Figure]:
    """Accuracy, macro F1, figures of each class one against the rest, losses, calibration of the chosen class."""
    layout = reference.layout
    matrix = confusion_of(layout, vector)
    n = float(matrix.sum())
    if n <= 0:
        return
    known = baseline if baseline is not None and confusion_of(layout, baseline).sum() > 0 else None
    live = class_metrics(layout, vector)
    base = class_metrics(layout, known) if known is not None else None
    for name in ("accuracy", "macro_f1"):
        yield estimated("outcome", name, getattr(live, name), getattr(base, name) if base is not None else None)
    for at, cls in enumerate(reference.classes):
        for name in ("precision", "recall", "f1"):
            usual_of = getattr(base, name) if base is not None else None
            yield estimated(
                "outcome", name, _at(getattr(live, name), at), None if usual_of is None else _at(usual_of, at), cls
            )
    truth = matrix.sum(axis=1)
    usual = confusion_of(layout, known).sum(axis=1) if known is not None else None
    for at, cls in enumerate((*reference.classes, OTHER_CLASS)):
        if at < len(reference.classes) or truth[at] > 0:
            before = share(usual[at], usual.sum()) if usual is not None else None
            yield estimated("outcome", "label_rate", share(truth[at], n), before, cls)
    if layout.one(vector, "scored_rows") <= 0:
        return
    scored = known if known is not None and layout.one(known, "scored_rows") > 0 else None
    yield from loss_figures(layout, vector, scored)
    yield from calibration_figures(layout, vector, scored)
    if layout.ranked:
        yield from _ranking(layout, vector, scored)


def _ranking(layout: Layout, vector: Vector, base: Vector | None) -> Iterator[Figure]:
    members, others = class_histograms(layout, vector)
    each, mean = auc_from_histograms(members, others), one_vs_rest_auc(members, others)
    usual, usual_mean = (
        (auc_from_histograms(*class_histograms(layout, base)), one_vs_rest_auc(*class_histograms(layout, base)))
        if base is not None
        else (Auc(each.value * NAN, each.bound), Auc(mean.value * NAN, mean.bound))
    )
    n = round(layout.one(vector, "scored_rows"))
    if np.isfinite(mean.value):
        yield Figure("outcome", "auc", None, number(mean.value), n, number(usual_mean.value), NAN, number(mean.bound))
    errors = 3 * hanley_mcneil_se(each.value, members.sum(axis=1), others.sum(axis=1))
    for at, cls in enumerate(layout.classes):
        if np.isfinite(each.value[at]):
            value, bound, error = (float(part[at]) for part in (each.value, each.bound, errors))
            yield Figure("outcome", "auc", cls, value, n, float(usual.value[at]), error, bound)


def _at(estimate: Estimate, at: int) -> Estimate:
    return Estimate(*(np.asarray(part[at]) for part in estimate))
