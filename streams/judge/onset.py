"""Since when: the most likely beginning of an incident, from the blocks of its cell."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.onset import onset_of_counts
from streams.counting.layout import Vector
from streams.counting.stated import baseline_stated, stated_fields
from streams.judge.spans import Block, Spans
from streams.rules.evaluate import Evaluator
from streams.rules.finding import Finding

OF_BINS = frozenset(
    {"psi", "js_divergence", "ks", "l_infinity", "mean_shift", "refitted_scaler"}
    | {"null_rate", "invalid_rate", "new_category_rate", "adwin"}
)


class Since(NamedTuple):
    """Panes: the most likely first one, and the interval that fits nearly as well (first pane of each end)."""

    pane: int
    first: int
    last: int


def timeline(spans: Spans, end: int, start: int) -> list[tuple[int, int, Block]]:
    """(first pane, end pane, block), oldest first, between two panes: fine blocks where there still are some, coarse ones before."""
    found: list[tuple[int, int, Block]] = []
    covered = end
    for level in range(spans.levels):
        for number in sorted(spans.blocks[level], reverse=True):
            low, high = number << level, (number + 1) << level
            if high <= covered and low >= max(start, spans.not_before):
                found.append((low, high, spans.blocks[level][number]))
                covered = low
    return sorted(found, key=lambda item: item[0])


def onset(
    spans: Spans, evaluator: Evaluator, finding: Finding, segment: str | None, end: int, length: int, back: int = 0
) -> Since | None:
    """The onset of a finding of a span of `length` panes that ends before pane `end`, not earlier than four lengths, or `back` panes,
    before it; None where its counts do not tell."""
    base = evaluator.baseline(segment)
    blocks = timeline(spans, end, end - max(4 * length, back))
    if base is None or not blocks:
        return None
    table = _counts(evaluator, finding, base.vector)
    if table is None:
        return None
    rows = []
    for _, _, block in blocks:
        counted = _counts(evaluator, finding, spans.dense([block]))
        assert counted is not None
        rows.append(counted)
    panes = np.array(rows)
    if panes.sum() == 0 or table.sum() == 0:
        return None
    used = np.flatnonzero(panes.sum(axis=1))
    panes = panes[used]
    estimate = onset_of_counts(panes, table)
    places = [blocks[int(at)][0] for at in used]
    return Since(places[int(estimate.pane)], places[int(estimate.first)], places[int(estimate.last)])


def _counts(evaluator: Evaluator, finding: Finding, vector: Vector) -> npt.NDArray[np.int64] | None:
    """The histogram that the finding is about: a feature's groups, or hits and misses of a share."""
    layout = evaluator.layout
    counted: list[float] | Vector | npt.NDArray[np.int64]
    if finding.layer == "outcome":
        if layout.task == "binary":
            counted = layout.part(vector, "confusion")
        elif layout.task == "multiclass":
            matrix = layout.part(vector, "confusion")
            width = len(layout.classes) + 1
            right = float(np.trace(matrix.reshape(width, width)))
            counted = [right, float(matrix.sum()) - right]
        else:
            return None
    elif finding.signal in OF_BINS and finding.subject in evaluator.subjects.names:
        at = evaluator.subjects.names.index(finding.subject)
        feature = evaluator.subjects.all[at]
        counted = np.bincount(feature.groups, weights=layout.part(vector, evaluator.subjects.sections[at]))
    elif finding.signal == "absent_rate" and finding.subject in evaluator.subjects.names:
        name = evaluator.subjects.all[evaluator.subjects.names.index(finding.subject)].name
        absent = layout.one(vector, f"absent:{name}")
        counted = [absent, layout.one(vector, "rows") - absent]
    elif finding.signal == "missing_rate" and finding.subject in stated_fields(layout):
        field = stated_fields(layout).index(finding.subject)
        stated, asked = (float(part[field]) for part in baseline_stated(layout, vector))
        counted = [asked - stated, stated]
    elif finding.signal in ("out_of_distribution_rate", "extra_feature_rate"):
        hits = layout.one(vector, "out_of_distribution" if finding.signal.startswith("out") else "extra")
        counted = [hits, layout.one(vector, "rows") - hits]
    elif finding.signal in ("layer_nan", "layer_inf"):
        hits = layout.one(vector, _section_of(finding))
        counted = [hits, layout.one(vector, "rows") - hits]
    elif finding.signal == "predicted_positive_rate":
        hits = layout.one(vector, "predicted_positive")
        counted = [hits, layout.one(vector, "rows") - hits]
    elif finding.signal == "predicted_share":
        counted = layout.part(vector, "predicted")
    elif finding.signal in ("latency_over_slo", "latency_shift"):
        counted = layout.part(vector, "latency")
    elif finding.signal in ("pipeline_fingerprint", "runtime_version"):
        counted = layout.part(vector, "pipeline" if finding.signal == "pipeline_fingerprint" else "runtime")
    else:
        return None
    whole: npt.NDArray[np.int64] = np.rint(np.maximum(np.asarray(counted), 0)).astype(np.int64)
    return whole


def _section_of(finding: Finding) -> str:
    """The section of NaN or infinities that a finding counted."""
    kind = finding.signal.removeprefix("layer_")
    return f"probe_{kind}" if finding.subject is None else f"{kind}:{finding.subject.removeprefix('layer.')}"
