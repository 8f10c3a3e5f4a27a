"""The judgement of one span: which signals are past their effect limit *and* past what noise alone could do.

Each test has two doors. The first is the effect that matters to people (the rules' limits); the second is the false-alarm budget: the
p-value must be below `alpha`, the budget divided by the number of looks. Approximations that lie so far out are guarded: rare bins
are pooled, shares are judged by the exact binomial against the confidence limit of the reference, AUC needs rows of both classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from leadline.config import Rules
from streams.counting.layout import Vector
from streams.counting.references import Reference
from streams.rules.baseline import Baseline, prepare
from streams.rules.data_rules import DataRules
from streams.rules.fact_rules import FactRules
from streams.rules.finding import Finding
from streams.rules.mean_rules import MeanRules
from streams.rules.model_rules import ModelRules
from streams.rules.name_rules import NameRules
from streams.rules.outcome_rules import OutcomeRules
from streams.rules.subject_rules import SubjectRules
from streams.rules.subjects import Subjects


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
        self.subjects = Subjects(reference)
        self.of_subjects = SubjectRules(reference, rules, self.subjects)
        self.of_data = DataRules(reference, rules, self.subjects)
        self.of_model = ModelRules(reference, rules, latency_slo_ms)
        self.of_outcome = OutcomeRules(reference, rules)
        self.of_means = MeanRules(self.layout, rules)
        self.of_names = NameRules(self.layout, rules)
        self.of_facts = FactRules(self.layout, rules)
        self._cell = cell or reference.cell
        self._baselines: dict[str | None, Baseline | None] = {}

    @property
    def tests(self) -> int:
        """How many signals one look at one cell tests: the budget is shared among them."""
        return (
            self.of_subjects.tests
            + self.of_data.tests
            + self.of_model.tests
            + self.of_outcome.tests
            + self.of_means.tests
            + self.of_names.tests
        )

    def baseline(self, segment: str | None) -> Baseline | None:
        """The prepared reference of a segment; None where the reference has no row of it."""
        if segment not in self._baselines:
            vector = self._cell(segment)
            self._baselines[segment] = (
                self.prepare(vector) if vector is not None and self.layout.one(vector, "rows") > 0 else None
            )
        return self._baselines[segment]

    def forget_baselines(self) -> None:
        """Prepares them anew: a field of them was learned."""
        self._baselines.clear()

    def prepare(self, vector: Vector) -> Baseline:
        """A reference of any rows, ready to be compared with."""
        means, fine = self.of_means.moments(vector), self.of_subjects.shapes.distribution(vector)
        return prepare(self.reference, self.subjects, vector, means, fine)

    def facts(self, slots: npt.NDArray[np.int32], values: npt.NDArray[np.float64], rows: float) -> Iterator[Finding]:
        """What one row suffices to show, of the non-zero slots of a pane; needs no baseline."""
        return self.of_facts.of_block(slots, values, rows)

    def has_fact(self, vector: Vector, like: Finding) -> bool:
        """Whether a vector still shows what one row suffices to show."""
        return any(finding.key == like.key for finding in self.of_facts.findings(vector, 1.0))

    def findings(self, vector: Vector, baseline: Baseline, alpha: float) -> list[Finding]:
        """Every signal of the span that passes both doors. `alpha` holds for each test."""
        return [*self._of_rows(vector, baseline, alpha), *self._of_outcomes(vector, baseline, alpha)]

    def first(self, vector: Vector, baseline: Baseline, alpha: float, like: Finding) -> Finding | None:
        """The finding of the same signal and subject, where the span has it. Looks no further."""
        side = self._of_outcomes if like.layer == "outcome" else self._of_rows
        return next((finding for finding in side(vector, baseline, alpha) if finding.key == like.key), None)

    def _of_rows(self, vector: Vector, baseline: Baseline, alpha: float) -> Iterator[Finding]:
        rows = self.layout.one(vector, "rows")
        yield from self._allowed(self.of_facts.findings(vector, rows))
        if rows >= self.rules.minimum_rows:
            log_alpha = math.log(alpha)
            yield from self._allowed(self.of_subjects.findings(vector, baseline, alpha))
            yield from self._allowed(self.of_data.findings(vector, baseline, alpha, rows))
            yield from self._allowed(self.of_model.findings(vector, baseline, alpha, rows))
            yield from self._allowed(self.of_means.findings(vector, baseline.means, log_alpha))
            yield from self._allowed(self.of_names.findings(vector, baseline, log_alpha))

    def _of_outcomes(self, vector: Vector, baseline: Baseline, alpha: float) -> Iterator[Finding]:
        outcomes = self.layout.one(vector, "outcomes")
        if outcomes >= self.rules.minimum_rows:
            yield from self._allowed(self.of_outcome.findings(vector, baseline, alpha, outcomes))

    def _allowed(self, findings: Iterator[Finding]) -> Iterator[Finding]:
        disabled = self.rules.disabled
        return (finding for finding in findings if finding.signal not in disabled) if disabled else findings
