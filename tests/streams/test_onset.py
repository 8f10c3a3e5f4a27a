"""Since when: the pane in which a change began, from the blocks of its cell."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from leadline.config import Rules
from streams.judge.onset import onset, timeline
from streams.judge.spans import Spans
from streams.rules.evaluate import Evaluator
from streams.rules.finding import Finding
from tests.streams.small_world import Fault, draw, flipped, moved, nulls, reference, shift, vector

KNOWN = reference()
EVALUATOR = Evaluator(KNOWN, Rules(), 100.0)
LEVELS = 4


def spans_of(seed: int, panes: int, begins: int, fault: Fault, rows: int = 30) -> Spans:
    rng = np.random.default_rng(seed)
    spans = Spans(LEVELS, KNOWN.layout.size, KNOWN.layout.offset("rows"), KNOWN.layout.offset("outcomes"))
    for pane in range(panes):
        dense = vector(KNOWN, draw(rng, rows, fault if pane >= begins else None))
        slots = np.flatnonzero(dense).astype(np.int32)
        spans.put(pane, slots, dense[slots])
        for level in range(1, LEVELS):
            if (pane + 1) % (1 << level) == 0:
                spans.close(level, pane >> level)
    return spans


def finding(signal: str, subject: str | None, layer: str = "data") -> Finding:
    return Finding(signal, subject, layer, 0.5, 0.0, 100, 0.1, 0.2, 0.05, -20.0, 5.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("told", "fault"),
    [
        (finding("psi", "age"), shift("age", 15.0)),
        (finding("mean_shift", "age"), shift("age", 15.0)),
        (finding("null_rate", "pulse"), nulls("pulse", 0.3)),
        (finding("new_category_rate", "ward"), moved("ward", "zz", 0.3)),
        (finding("auc", None, "outcome"), flipped(0.45)),
    ],
)
def test_the_interval_holds_the_pane_in_which_it_began(told: Finding, fault: Fault, seed: int) -> None:
    spans = spans_of(seed, 40, 33, fault)
    since = onset(spans, EVALUATOR, told, None, 40, 8)
    assert since is not None
    assert since.first <= since.pane <= since.last
    # A block of two panes says only that it began in one of them.
    assert since.first - 1 <= 33 <= since.last + 1


def test_an_onset_is_not_sought_before_the_end_of_a_resolved_incident() -> None:
    spans = spans_of(1, 40, 0, shift("age", 15.0))
    spans.not_before = 34
    since = onset(spans, EVALUATOR, finding("psi", "age"), None, 40, 8)
    assert since is not None
    assert since.first >= 34


def test_what_has_no_histogram_of_its_own_has_no_onset() -> None:
    spans = spans_of(1, 40, 33, shift("age", 15.0))
    assert onset(spans, EVALUATOR, finding("psi", "no such feature"), None, 40, 8) is None
    assert onset(spans, EVALUATOR, finding("refitted_scaler", "age"), "site=nowhere", 40, 8) is None


def test_a_timeline_is_fine_where_it_can_be_and_without_gap_or_overlap() -> None:
    spans = spans_of(2, 64, 64, shift("age", 1.0), rows=2)
    found = timeline(spans, 64, 0)
    assert [low for low, _, _ in found] == sorted(low for low, _, _ in found)
    assert all(before[1] == after[0] for before, after in pairwise(found))
    widths = [high - low for low, high, _ in found]
    assert widths == sorted(widths, reverse=True)
    assert found[-1][1] == 64
