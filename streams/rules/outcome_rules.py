"""Rules of the outcome layer: what the labels say against the reference's. The tasks have files of their own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from leadline.config import Rules
from streams.counting.layout import Layout
from streams.counting.references import Reference
from streams.rules import binary_rules, class_rules
from streams.rules.finding import Finding
from streams.rules.looks import Looks, Mask
from streams.rules.outcome_tests import business_findings
from streams.rules.rule import Rule
from streams.rules.value_rules import ValueRules


class OutcomeRules:
    """By the task of the model. `rules` speak of looks that are `heard`; `always` of all with enough outcomes."""

    def __init__(self, reference: Reference, rules: Rules) -> None:
        self.task, self.least = reference.task, rules.minimum_rows
        self.rules: list[Rule]
        if reference.task == "binary":
            self.rules = binary_rules.binary_rules(reference, rules)
        elif reference.task == "multiclass":
            self.rules = class_rules.class_rules(reference, rules)
        else:
            self.rules = [ValueRules(reference, rules)]
        self.always: list[Rule] = [BusinessRules(reference.layout, rules)] if reference.layout.business else []

    def heard(self, looks: Looks) -> Mask:
        """[looks]: which have labels enough on both sides."""
        if self.task == "binary":
            return binary_rules.enough_labels(looks, self.least)
        if self.task == "multiclass":
            return class_rules.enough_labels(looks, self.least)
        return np.ones(len(looks), dtype=np.bool_)


class BusinessRules:
    """Lift of each business value that has limits, against the reference."""

    signals = frozenset({"business_lift"})

    def __init__(self, layout: Layout, rules: Rules) -> None:
        self.layout, self.rules = layout, rules
        self.tests = sum(name in rules.lift for name in layout.business)

    def findings(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        """Signals of the spans' joined rows."""
        for at in range(len(looks)):
            for finding in business_findings(
                self.layout, self.rules, looks.vectors[at], looks.base(at), looks.log_alpha
            ):
                yield at, finding
