"""The judgement of spans: which signals are past their effect limit *and* past what noise alone could do.

Each test has two doors. The first is the effect that matters to people (the rules' limits); the second is the false-alarm budget: the
p-value must be below `alpha`, the budget divided by the number of looks. Approximations that lie so far out are guarded: rare bins
are pooled, shares are judged by the exact binomial against the confidence limit of the reference, AUC needs rows of both classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from leadline.config import Rules
from streams.counting.layout import Vector
from streams.counting.references import Reference
from streams.rules.baseline import Baseline, prepare
from streams.rules.data_rules import DataRules
from streams.rules.distribution_rules import DistributionRules
from streams.rules.fact_rules import FactRules
from streams.rules.finding import Finding
from streams.rules.looks import Bases, Looks
from streams.rules.mean_rules import MeanRules
from streams.rules.missing_rules import MissingRules
from streams.rules.model_rules import ModelRules
from streams.rules.name_rules import NameRules
from streams.rules.outcome_rules import OutcomeRules
from streams.rules.rule import Rule
from streams.rules.shape_rules import ShapeRules


class Evaluator:
    """Tests every signal of a model's spans against its reference. Holds no state between spans but prepared references."""

    def __init__(
        self,
        reference: Reference,
        rules: Rules,
        latency_slo_ms: float | None = None,
        cell: Callable[[str | None], Vector | None] | None = None,
    ) -> None:
        """`cell` gives the baseline's vector of a segment; without it the reference does."""
        self.reference = reference
        self.rules = rules
        self.layout = reference.layout
        self.latency_slo_ms = latency_slo_ms
        self.subjects = reference.subjects
        self.of_shapes = ShapeRules(self.subjects, rules)
        self.of_means = MeanRules(self.layout, rules)
        self.of_missing = MissingRules(self.layout, rules)
        self.of_facts = FactRules(self.layout, rules)
        self.of_outcomes = OutcomeRules(reference, rules)
        self.of_model = ModelRules(reference, rules, latency_slo_ms)
        self.of_rows: list[Rule] = [
            DistributionRules(reference, rules, self.subjects),
            self.of_shapes,
            DataRules(reference, rules, self.subjects),
            self.of_model,
            self.of_means,
            self.of_missing,
            NameRules(self.layout, rules),
        ]
        self._tests = sum(rule.tests for rule in (*self.of_rows, *self.of_outcomes.rules, *self.of_outcomes.always))
        self._cell = cell or reference.cell
        self._baselines: dict[str | None, Baseline | None] = {}
        self._bases = Bases(())

    @property
    def tests(self) -> int:
        """How many signals one look at one cell tests: the budget is shared among them."""
        return self._tests + self.of_missing.expected(self.baseline(None))

    def baseline(self, segment: str | None) -> Baseline | None:
        """The prepared reference of a segment; None where the reference has no row of it."""
        if segment not in self._baselines:
            vector = self._cell(segment)
            known = vector is not None and self.layout.one(vector, "rows") > 0
            self._baselines[segment] = self.prepare(vector) if vector is not None and known else None
            self._bases = Bases([base for base in self._baselines.values() if base is not None])
        return self._baselines[segment]

    def forget_baselines(self) -> None:
        """Prepares them anew: a field of them was learned."""
        self._baselines.clear()

    def prepare(self, vector: Vector) -> Baseline:
        """A reference of any rows, ready to be compared with."""
        means, fine = self.of_means.moments(vector), self.of_shapes.distribution(vector)
        unstated = self.of_missing.limits(vector)
        return prepare(self.reference, self.subjects, vector, means, fine, unstated, self.rules.minimum_rows)

    def facts(self, slots: npt.NDArray[np.int32], values: npt.NDArray[np.float64], rows: float) -> Iterator[Finding]:
        """What one row suffices to show, of the non-zero slots of a pane; needs no baseline."""
        return self.of_facts.of_block(slots, values, rows)

    def has_fact(self, vector: Vector, like: Finding) -> bool:
        """Whether a vector still shows what one row suffices to show."""
        return any(finding.key == like.key for finding in self.of_facts.of_vector(vector))

    def findings(self, vector: Vector, baseline: Baseline, alpha: float) -> list[Finding]:
        """Every signal of one span that passes both doors. `alpha` holds for each test."""
        return self.findings_of(vector[None], [baseline], alpha)[0]

    def findings_of(
        self, vectors: Vector, baselines: Sequence[Baseline], alpha: float, cells: Sequence[int] | None = None
    ) -> list[list[Finding]]:
        """The same of many spans, [spans, slots], each with its baseline; each as if it were alone. With `cells` of equal numbers for spans
        of one cell a later span may leave out what an earlier one has told of the same signal and subject."""
        told: list[list[Finding]] = [[] for _ in baselines]
        disabled = self.rules.disabled
        for place, finding in self._told(self._looks(vectors, baselines, alpha, cells), None, None):
            if finding.signal not in disabled:
                told[place].append(finding)
        return told

    def first(self, vector: Vector, baseline: Baseline, alpha: float, like: Finding) -> Finding | None:
        """The finding of the same signal and subject, where the span has it. Looks no further."""
        if like.signal in self.rules.disabled:
            return None
        looks = self._looks(vector[None], [baseline], alpha, only=like.key)
        told = self._told(looks, like.signal, like.layer == "outcome")
        return next((finding for _, finding in told if finding.key == like.key), None)

    def _looks(
        self,
        vectors: Vector,
        baselines: Sequence[Baseline],
        alpha: float,
        cells: Sequence[int] | None = None,
        only: tuple[str, str | None] | None = None,
    ) -> Looks:
        bases = self._bases
        if any(id(base) not in bases.place for base in baselines):
            bases = Bases(list({id(base): base for base in baselines}.values()))
        at = np.array([bases.place[id(base)] for base in baselines], dtype=np.int64)
        cell = np.array(cells, dtype=np.int64) if cells is not None else None
        return Looks(self.layout, self.subjects, vectors, bases, at, alpha, cell=cell, only=only)

    def _told(self, looks: Looks, signal: str | None, outcomes: bool | None) -> Iterator[tuple[int, Finding]]:
        """Of all signals or of one, of rows, of outcomes or (None) of both; by the place of the look."""

        def of(rules: Sequence[Rule], some: Looks) -> Iterator[tuple[int, Finding]]:
            places: list[int] = some.place.tolist()
            for rule in rules if places else ():
                if signal is None or signal in rule.signals:
                    for at, finding in rule.findings(some):
                        yield places[at], finding

        least = self.rules.minimum_rows
        if outcomes is not True:
            yield from of([self.of_facts], looks)
            yield from of(self.of_rows, looks.where(looks.rows >= least))
        if outcomes is not False:
            some = looks.where(looks.outcomes >= least)
            if len(some):
                yield from of(self.of_outcomes.rules, some.where(self.of_outcomes.heard(some)))
                yield from of(self.of_outcomes.always, some)
