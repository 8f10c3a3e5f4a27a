"""Rules of the outcome layer: what the labels say against the reference's. The tasks have files of their own."""

from __future__ import annotations

import math
from collections.abc import Iterator

from leadline.config import Rules
from streams.counting.layout import Vector
from streams.counting.references import Reference
from streams.rules.baseline import Baseline
from streams.rules.binary_rules import BinaryRules
from streams.rules.class_rules import ClassRules
from streams.rules.finding import Finding
from streams.rules.outcome_tests import business_findings
from streams.rules.value_rules import ValueRules


class OutcomeRules:
    """By the task of the model."""

    def __init__(self, reference: Reference, rules: Rules) -> None:
        self.rules, self.layout = rules, reference.layout
        self.of_task: BinaryRules | ClassRules | ValueRules
        if reference.task == "binary":
            self.of_task = BinaryRules(reference, rules)
        elif reference.task == "multiclass":
            self.of_task = ClassRules(reference, rules)
        else:
            self.of_task = ValueRules(reference, rules)
        self.tests = self.of_task.tests + sum(name in rules.lift for name in reference.layout.business)

    def findings(self, vector: Vector, base: Baseline, alpha: float, outcomes: float) -> Iterator[Finding]:
        """Signals of the span's joined rows."""
        yield from self.of_task.findings(vector, base, alpha, outcomes)
        if self.layout.business:
            yield from business_findings(self.layout, self.rules, vector, base, math.log(alpha))
