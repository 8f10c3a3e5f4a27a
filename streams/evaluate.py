"""The judgement of one span: which signals are past their effect limit *and* past what noise alone could do.

Each test has two doors. The first is the effect that matters to people (the rules' limits); the second is the false-alarm budget: the
p-value must be below `alpha`, the budget divided by the number of looks. Approximations that lie so far out are guarded: rare bins
are pooled, shares are judged by the exact binomial against the confidence limit of the reference, AUC needs rows of both classes.
"""

from __future__ import annotations

from leadline.config import Rules
from streams.baseline import Baseline, prepare
from streams.data_rules import DataRules
from streams.finding import Finding
from streams.layout import Vector
from streams.model_rules import ModelRules
from streams.outcome_rules import OutcomeRules
from streams.references import Reference
from streams.subject_rules import SubjectRules
from streams.subjects import Subjects


class Evaluator:
    """Tests every signal of a model's spans against its reference. Holds no state between spans but prepared references."""

    def __init__(self, reference: Reference, rules: Rules, latency_slo_ms: float | None = None) -> None:
        self.reference = reference
        self.rules = rules
        self.layout = reference.layout
        self.latency_slo_ms = latency_slo_ms
        self.subjects = Subjects(reference)
        self.of_subjects = SubjectRules(reference, rules, self.subjects)
        self.of_data = DataRules(reference, rules, self.subjects)
        self.of_model = ModelRules(reference, rules, latency_slo_ms)
        self.of_outcome = OutcomeRules(reference, rules)
        self._baselines: dict[str | None, Baseline | None] = {}

    @property
    def tests(self) -> int:
        """How many signals one look at one cell tests: the budget is shared among them."""
        return self.of_subjects.tests + self.of_data.tests + self.of_model.tests + self.of_outcome.tests

    def baseline(self, segment: str | None) -> Baseline | None:
        """The prepared reference of a segment; None where the reference has no row of it."""
        if segment not in self._baselines:
            vector = self.reference.cell(segment)
            self._baselines[segment] = (
                self.prepare(vector) if vector is not None and self.layout.one(vector, "rows") > 0 else None
            )
        return self._baselines[segment]

    def prepare(self, vector: Vector) -> Baseline:
        """A reference of any rows, ready to be compared with."""
        return prepare(self.reference, self.subjects, vector)

    def findings(
        self, vector: Vector, baseline: Baseline, alpha: float, *, minimum: int | None = None
    ) -> list[Finding]:
        """Every signal of the span that passes both doors. `alpha` holds for each test; `minimum` rows default to the rules'."""
        least = self.rules.minimum_rows if minimum is None else minimum
        disabled = self.rules.disabled
        found: list[Finding] = []
        rows = self.layout.one(vector, "rows")
        if rows >= least:
            found += self.of_subjects.findings(vector, baseline, alpha)
            found += self.of_data.findings(vector, baseline, alpha, rows)
            found += self.of_model.findings(vector, baseline, alpha, rows)
        outcomes = self.layout.one(vector, "outcomes")
        if outcomes >= least:
            found += self.of_outcome.findings(vector, baseline, alpha, outcomes)
        return [finding for finding in found if finding.signal not in disabled] if disabled else found
