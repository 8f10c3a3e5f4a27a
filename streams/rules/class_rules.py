"""Outcome rules of a model of many classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from detectors.auc import auc_from_histograms, hanley_mcneil_se
from detectors.shares import counts, normal_log_p
from leadline.config import Rules
from streams.counting.layout import Vector
from streams.counting.references import Reference
from streams.figures.class_figures import OTHER_CLASS, class_histograms, confusion_of
from streams.rules.baseline import Baseline
from streams.rules.finding import Finding, found
from streams.rules.looks import Looks, Mask
from streams.rules.loss_rules import LossRules
from streams.rules.outcome_tests import accuracy_findings
from streams.rules.rule import Rule
from streams.rules.share_rule import share_findings


def class_rules(reference: Reference, rules: Rules) -> list[Rule]:
    """In the order in which they speak of one look."""
    return [ClassRules(reference, rules), LossRules(reference.layout, rules)]


def enough_labels(looks: Looks, least: float) -> Mask:
    """Where both sides have rows with a label."""
    confusion = looks.known(looks.layout.slots["confusion"])
    return np.asarray((looks.counted("confusion").sum(axis=1) >= least) & (confusion.sum(axis=1) > 0))


class ClassRules:
    """Accuracy, macro F1, label rates and AUC of each class."""

    signals = frozenset({"accuracy", "label_rate", "macro_f1", "auc"})

    def __init__(self, reference: Reference, rules: Rules) -> None:
        self.rules, self.layout = rules, reference.layout
        self.names = (*reference.classes, OTHER_CLASS)
        self.tests = 2 + len(self.names) + (len(reference.classes) if reference.layout.ranked else 0)

    def findings(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        """Signals of the spans' joined rows."""
        for at in range(len(looks)):
            for finding in self._of_one(looks.vectors[at], looks.base(at), looks.log_alpha):
                yield at, finding

    def _of_one(self, vector: Vector, base: Baseline, log_alpha: float) -> Iterator[Finding]:
        rules, layout = self.rules, self.layout
        matrix, before = confusion_of(layout, vector), confusion_of(layout, base.vector)
        total = float(matrix.sum())
        right = float(np.trace(matrix[:-1, :-1]))
        yield from accuracy_findings(layout, rules, vector, base, right, total, log_alpha)
        truth = matrix.sum(axis=1)
        for at, name in enumerate(self.names):
            yield from share_findings(
                "label_rate",
                name,
                "outcome",
                float(truth[at]),
                total,
                base.limits[f"label_rate:{name}"],
                rules.label_rate,
                log_alpha,
                two_sided=True,
            )
        yield from self._macro_f1(matrix, before, total, log_alpha)
        if layout.ranked and layout.one(base.vector, "scored_rows") > 0:
            yield from self._ranking(vector, base, log_alpha)

    def _macro_f1(self, matrix: Vector, before: Vector, total: float, log_alpha: float) -> Iterator[Finding]:
        """Over the classes that both sides hold often enough: one that did not come must not move the mean."""
        least = self.rules.minimum_per_class
        heard = ((matrix.sum(axis=1) >= least) & (before.sum(axis=1) >= least))[:-1]
        if not heard.any():
            return
        (live, _), (usual, reference_error) = _f1(matrix, matrix), _f1(before, before)
        rule = self.rules.macro_f1
        drop = float((usual - live)[heard].mean())
        if drop < rule.warn:
            return
        # Under the reference's F1 and the live rows; errors of classes that share rows add up in full.
        _, error = _f1(before, matrix)
        spread = float(error[heard].mean()) ** 2 + float(reference_error[heard].mean()) ** 2
        log_p = float(normal_log_p(drop / spread**0.5, "upper"))
        if log_p <= log_alpha:
            value, reference = float(live[heard].mean()), float(usual[heard].mean())
            yield found("macro_f1", None, "outcome", value, reference, total, rule, 3 * spread**0.5, log_p, drop)

    def _ranking(self, vector: Vector, base: Baseline, log_alpha: float) -> Iterator[Finding]:
        rules, least = self.rules, self.rules.minimum_per_class
        members, others = (counts(part) for part in class_histograms(self.layout, vector))
        p, n = members.sum(axis=1), others.sum(axis=1)
        enough = np.flatnonzero(np.minimum(p, n) >= least)
        if not enough.size:
            return
        auc = auc_from_histograms(members[enough], others[enough])
        for place, at in enumerate(enough.tolist()):
            usual, usual_error = base.class_auc[at]
            drop = usual - float(auc.value[place]) - float(auc.bound[place])
            if not drop >= rules.auc.warn:
                continue
            error = (float(hanley_mcneil_se(usual, p[at], n[at])) ** 2 + usual_error**2) ** 0.5
            log_p = float(normal_log_p(drop / error, "upper"))
            # An alarm's alpha lies far beyond three errors; what compares cells asks for the drop alone.
            if log_p <= log_alpha:
                value, rows = float(auc.value[place]), float(p[at] + n[at])
                yield found("auc", self.names[at], "outcome", value, usual, rows, rules.auc, 3 * error, log_p, drop)


def _f1(matrix: Vector, rows_of: Vector) -> tuple[Vector, Vector]:
    """F1 of each known class, and the error that it has on the rows of another matrix; half a row of each kind is added."""
    hits = np.diagonal(matrix)[:-1]
    union = (matrix.sum(axis=1) + matrix.sum(axis=0))[:-1] - hits
    n = (rows_of.sum(axis=1) + rows_of.sum(axis=0))[:-1] - np.diagonal(rows_of)[:-1]
    jaccard = hits / np.maximum(union, 1.0)
    steady = (hits + 0.5) / (union + 1.0)
    error = 2.0 / (1.0 + jaccard) ** 2 * np.sqrt(steady * (1.0 - steady) / np.maximum(n, 1.0))
    return 2.0 * jaccard / (1.0 + jaccard), error
