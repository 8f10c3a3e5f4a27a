"""Who is affected: the cell whose absence leaves the rest as it should be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from leadline.config import Rules
from streams.counting.tracked import Tracked
from streams.judge.incidents import Firing, Where
from streams.judge.recovery import scaled
from streams.judge.scope import Scoper
from streams.judge.spans import BLOCKS, Spans
from streams.judge.variation import Variation
from streams.rules.evaluate import Evaluator
from streams.rules.finding import Finding
from tests.streams.small_world import (
    ALL,
    SITES,
    Columns,
    Fault,
    draw,
    flipped,
    moved,
    nulls,
    of_site,
    of_version,
    reference,
    shift,
    vector,
)

KNOWN = reference()
EVALUATOR = Evaluator(KNOWN, Rules(), 100.0)
STEADY = Variation(Tracked(KNOWN, 0, 10.0), KNOWN, 10.0, 1)
"""Nothing is known to vary by itself."""
ALPHA = 1e-8


def cells_of(seed: int, n: int, *faults: Fault, versions: Sequence[str] = ("1", "2")) -> dict[Where, Spans]:
    """One closed block of n rows, by version and site."""
    rng = np.random.default_rng(seed)
    columns = draw(rng, n)
    columns["version"] = rng.choice(versions, n).astype(object)
    for fault in faults:
        fault(columns, rng)
    cells = {}
    for version in (None, *versions):
        for site in (None, *SITES):
            mask = np.ones(n, dtype=np.bool_)
            mask &= columns["version"] == version if version is not None else True
            mask &= columns["site"] == site if site is not None else True
            spans = Spans(1, KNOWN.layout.size, KNOWN.layout.offset("rows"), KNOWN.layout.offset("outcomes"))
            part: Columns = {name: column[mask] for name, column in columns.items()}
            dense = vector(KNOWN, part)
            slots = np.flatnonzero(dense).astype(np.int32)
            spans.put(0, slots, dense[slots])
            cells[Where(version, "live", f"site={site}" if site is not None else None)] = spans
    return cells


def firing(cells: dict[Where, Spans], where: Where, signal: str, subject: str | None) -> Firing:
    """What the cell itself says of the signal."""
    base = EVALUATOR.baseline(where.segment)
    assert base is not None
    found = EVALUATOR.findings(cells[where].dense(cells[where].members(0, BLOCKS, 0)), base, ALPHA)
    (finding,) = [finding for finding in found if finding.key == (signal, subject)]
    return Firing(where, finding, 0.0, 60.0, (0, BLOCKS, 0))


CASES: list[tuple[str, str | None, Fault, Where]] = [
    ("psi", "age", shift("age", 20.0), ALL),
    ("psi", "age", of_site("south", shift("age", 30.0)), Where(None, "live", "site=south")),
    ("psi", "age", of_version("2", shift("age", 25.0)), Where("2", "live", None)),
    ("psi", "ward", of_version("2", moved("ward", "d", 0.6)), Where("2", "live", None)),
    ("null_rate", "pulse", nulls("pulse", 0.4), ALL),
    ("null_rate", "pulse", of_site("north", nulls("pulse", 0.4)), Where(None, "live", "site=north")),
    ("null_rate", "ward", of_version("1", nulls("ward", 0.4)), Where("1", "live", None)),
    ("auc", None, flipped(0.4), ALL),
    ("auc", None, of_version("2", flipped(0.7)), Where("2", "live", None)),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("signal", "subject", "fault", "scope"), CASES)
def test_a_fault_is_narrowed_to_its_own_cell(
    signal: str, subject: str | None, fault: Fault, scope: Where, seed: int
) -> None:
    cells = cells_of(seed, 900, fault)
    affected = Scoper(EVALUATOR, STEADY).narrow(firing(cells, ALL, signal, subject), cells)
    assert affected.where == scope
    rows = KNOWN.layout.offset("rows")
    own, whole = cells[scope].blocks[0][0], cells[ALL].blocks[0][0]
    assert affected.share == pytest.approx(own.values[own.slots == rows][0] / whole.values[whole.slots == rows][0])


def test_a_segment_that_saw_it_first_does_not_keep_it_to_itself() -> None:
    cells = cells_of(4, 900, shift("age", 20.0))
    seen_in = Where(None, "live", "site=north")
    assert Scoper(EVALUATOR, STEADY).narrow(firing(cells, seen_in, "psi", "age"), cells).where == ALL


def test_the_narrowed_finding_is_told_under_the_limits_that_people_set() -> None:
    cells = cells_of(5, 900, of_site("south", nulls("pulse", 0.5)))
    told: Finding = Scoper(EVALUATOR, STEADY).narrow(firing(cells, ALL, "null_rate", "pulse"), cells).finding
    assert (told.threshold, told.critical) == (Rules().null_rate.warn, Rules().null_rate.critical)
    assert told.strength * told.threshold == pytest.approx(abs(told.value - told.reference))


def test_causes_are_what_else_stands_out_in_the_cell() -> None:
    cells = cells_of(6, 900, nulls("pulse", 0.3), shift("score", -0.2))
    seen = firing(cells, ALL, "psi", "score")
    assert ("null_rate", "pulse") in {finding.key for finding in Scoper(EVALUATOR, STEADY).causes(seen, ALL, cells)}
    assert Scoper(EVALUATOR, STEADY).causes(seen, Where("9", "live", None), cells) == []


def test_scaled_rules_change_effects_and_nothing_else() -> None:
    rules = Rules(minimum_rows=77)
    half = scaled(rules, 0.5)
    assert half.psi.warn == rules.psi.warn / 2
    assert half.psi.critical == rules.psi.critical
    assert half.minimum_rows == 77
    assert half.output_collapse == rules.output_collapse
