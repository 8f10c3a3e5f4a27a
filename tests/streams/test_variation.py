"""What is remembered of past spans, how long, for whom, and what it says of a finding."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from detectors.dependence import LEAST_SPANS
from leadline.config import Rules
from streams.counting.layout import Vector
from streams.counting.tracked import Tracked
from streams.judge.incidents import Where
from streams.judge.past_spans import KEPT
from streams.judge.recovery import scaled
from streams.judge.spans import BLOCKS
from streams.judge.variation import HISTORY_S, Variation
from streams.rules.evaluate import Evaluator
from streams.rules.fact_rules import FACTS
from streams.rules.finding import Finding
from tests.streams.small_world import ALL, draw, flipped, moved, nulls, reference, shift, vector

KNOWN = reference()
TRACKED = Tracked(KNOWN, 0, 10.0)
PANE_S, LEVELS = 60.0, 8
ROWS = 120
AGE = TRACKED.place["values", "age"]


def variation() -> Variation:
    return Variation(TRACKED, KNOWN, PANE_S, LEVELS)


def span(rng: np.random.Generator, age: float = 0.0, rows: int = ROWS) -> Vector:
    """Rows of one span; their ages are all off by as much."""
    return vector(KNOWN, draw(rng, rows, shift("age", age) if age else None))


def play(made: Variation, spans: int, seed: int, age: Callable[[np.random.Generator], float], first: int = 0) -> None:
    """Spans of the level that is gathered, one after another, in the cell of all traffic."""
    rng = np.random.default_rng(seed)
    for at in range(first, first + spans):
        block = BLOCKS * (at + 1) - 1
        assert made.wants(ALL, made.gathered, block, True)
        made.take(ALL, made.gathered, block, span(rng, age(rng)), True)


def wander(rng: np.random.Generator) -> float:
    return float(rng.normal(0.0, 8.0))


def steady(_: np.random.Generator) -> float:
    return 0.0


def psi(n: int, log10_p: float = -12.0) -> Finding:
    return Finding("psi", "age", "data", 0.3, 0.0, n, 0.1, 0.2, 0.05, log10_p, 3.0)


def end_of(made: Variation, spans: int) -> int:
    """The pane at which that many spans have ended."""
    return spans * BLOCKS << made.gathered


def look(made: Variation, start: int) -> tuple[int, int, int]:
    """A look of one block of level 0 that begins at this pane."""
    return (0, 1, start)


def test_spans_that_vary_take_worth_from_a_finding_and_steady_ones_nothing() -> None:
    unsteady, calm = variation(), variation()
    play(unsteady, 20, 1, wander)
    play(calm, 20, 1, steady)
    now = end_of(calm, 20)
    judged = unsteady.judged(ALL, look(unsteady, now), psi(ROWS), math.log(1e-8))
    assert judged.finding.design_effect > 3.0
    assert judged.finding.log10_p == pytest.approx(-12.0 / judged.finding.design_effect)
    assert not judged.passes
    assert calm.judged(ALL, look(calm, now), psi(ROWS), math.log(1e-8)) == (psi(ROWS), True)


def test_what_is_sure_enough_passes_among_spans_that_vary() -> None:
    made = variation()
    play(made, 20, 1, wander)
    assert made.judged(ALL, look(made, end_of(made, 20)), psi(ROWS, -1500.0), math.log(1e-8)).passes


def test_the_design_effect_is_that_of_the_spans_means() -> None:
    """Means of spans vary by s^2 (1 / n + rho): the ratio of both, by numpy, from the ages themselves."""
    made, rng = variation(), np.random.default_rng(3)
    means, spreads = [], []
    for at in range(KEPT - 1):
        columns = draw(rng, ROWS, shift("age", wander(rng) / 2))
        means.append(columns["age"].mean())
        spreads.append(columns["age"].var())
        made.take(ALL, made.gathered, BLOCKS * (at + 1) - 1, vector(KNOWN, columns), True)
    truth = np.var(means) / ((np.mean(spreads) + np.var(means)) / ROWS)
    found = made.design_effect(ALL, made.gathered, math.inf, psi(ROWS))
    assert truth / 2 < found < truth * 2


def test_too_few_spans_say_nothing() -> None:
    made = variation()
    play(made, LEAST_SPANS, 1, wander)  # the first is what is usual: it has nothing to be held against
    assert made.design_effect(ALL, made.gathered, math.inf, psi(ROWS)) == 1.0


def test_a_fault_is_no_excuse_for_itself() -> None:
    """Half of all spans are faulty, and what began with them is judged by those before."""
    made = variation()
    play(made, 12, 1, steady)
    play(made, 12, 2, lambda _: 40.0, first=12)
    began = end_of(made, 12)
    assert made.design_effect(ALL, made.gathered, began, psi(ROWS)) == 1.0
    assert made.design_effect(ALL, made.gathered, math.inf, psi(ROWS)) > 1.0


def test_an_hour_that_was_far_outside_is_no_part_of_what_is_usual() -> None:
    """A steady cell with one broken span says of the next ones what it would have said without."""
    made, without = variation(), variation()
    for one in (made, without):
        play(one, 12, 1, steady)
    made.take(ALL, made.gathered, BLOCKS * 13 - 1, span(np.random.default_rng(4), 300.0), True)
    usual, other = made.cells[ALL].usual, without.cells[ALL].usual
    assert usual is not None
    assert other is not None
    shares = usual.histograms[AGE] / usual.histograms[AGE].sum()
    assert np.allclose(shares, other.histograms[AGE] / other.histograms[AGE].sum())


def test_spans_remembered_are_few_and_reach_back_a_week() -> None:
    made = variation()
    length = BLOCKS << made.gathered
    spans = int(10 * 86_400 / PANE_S / length)
    rng = np.random.default_rng(1)
    vectors = [span(rng) for _ in range(8)]
    for at in range(spans):
        block = BLOCKS * (at + 1) - 1
        if made.wants(ALL, made.gathered, block, True):
            made.take(ALL, made.gathered, block, vectors[at % 8], True)
    (ring,) = made.cells[ALL].rings.values()
    assert KEPT // 2 <= len(ring.ends) <= KEPT
    assert ring.ends == sorted(set(ring.ends))
    assert (ring.ends[-1] - ring.ends[0]) * PANE_S >= HISTORY_S / 2
    assert min(np.diff(ring.ends)) >= ring.spacing // 2


def test_a_segment_that_nobody_knows_yet_varies_as_all_traffic_does() -> None:
    made = variation()
    play(made, 20, 1, wander)
    new = Where("2", "live", "site=north")
    assert made.design_effect(new, 0, math.inf, psi(ROWS)) == made.design_effect(ALL, 0, math.inf, psi(ROWS)) > 1.0
    assert made.design_effect(Where("2", "shadow", None), 0, math.inf, psi(ROWS)) == 1.0


def test_a_second_version_leaves_the_first_what_all_traffic_has_shown() -> None:
    made = variation()
    play(made, 20, 1, wander)
    made.split("1")
    first = Where("1", "live", None)
    play(made, 5, 7, steady, first=20)
    assert made.cells[first].rings[made.gathered].ends != made.cells[ALL].rings[made.gathered].ends
    assert made.design_effect(first, made.gathered, math.inf, psi(ROWS)) > 1.0


def test_rows_bring_everything_back_and_the_future_is_the_same() -> None:
    made = variation()
    rows: dict[Where, bytes] = {}
    for at in range(KEPT + 6):  # through the thinning out
        play(made, 1, at, wander, first=at) if at < KEPT else play(made, 1, at, wander, first=2 * at - KEPT + 2)
        written, gone = made.take_changes()
        assert not gone
        rows.update(written)
        other = variation()
        other.restore(rows)
        assert other.cells[ALL].pack(other.layout) == rows[ALL]
        assert np.array_equal(other.rho(ALL, 0), made.rho(ALL, 0), equal_nan=True)
        made = other
    assert made.take_changes() == ({}, [])


def test_another_reference_begins_anew_and_its_rows_go() -> None:
    made = variation()
    play(made, 12, 1, wander)
    rows, _ = made.take_changes()
    other = reference(seed=9)
    tracked = Tracked(other, 0, 10.0)
    restored = Variation(tracked, other, PANE_S, LEVELS)
    restored.restore(rows)
    assert not restored.cells
    assert restored.take_changes() == ({}, [ALL])
    made.use(tracked, other)
    assert not made.cells
    assert made.take_changes() == ({}, [ALL])


def test_every_signal_rests_on_something_that_is_followed() -> None:
    """Rows that are wrong in every way, under limits that all is past: whatever is found can be held against past spans."""
    rng = np.random.default_rng(1)
    columns = draw(rng, 3000)
    for fault in (shift("age", 15.0), moved("ward", "z", 0.3), nulls("pulse", 0.5), flipped(0.6)):
        fault(columns, rng)
    columns["latency_ms"] *= 30.0
    rules = scaled(Rules(), 1e-6).model_copy(update={"minimum_rows": 10})
    eager = Evaluator(KNOWN, rules, 100.0)
    found = eager.findings(vector(KNOWN, columns), eager.prepare(KNOWN.cells[None]), 0.9)
    made = variation()
    assert len({finding.signal for finding in found}) > 15
    lost = {finding.key for finding in found if finding.signal not in FACTS and made._place(finding) is None}
    assert not lost
