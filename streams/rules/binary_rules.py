"""Outcome rules of a binary model: thresholded metrics and the label rate; the others have files of their own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from detectors.shares import binomial_log_tail
from leadline.config import Rules
from streams.counting.layout import Layout
from streams.counting.references import Reference
from streams.rules.departure_rules import DepartureRules
from streams.rules.finding import Finding, found
from streams.rules.looks import Looks, Mask
from streams.rules.loss_rules import LossRules
from streams.rules.outcome_tests import accuracy_findings, share_at_same_age
from streams.rules.ranking_rules import RankingRules
from streams.rules.rule import Rule
from streams.rules.same_age import accuracy_suspects, label_rate_suspects
from streams.rules.share_looks import shares_of_looks
from streams.rules.share_rule import share_findings


def binary_rules(reference: Reference, rules: Rules) -> list[Rule]:
    """In the order in which they speak of one look."""
    layout = reference.layout
    found_of: list[Rule] = [
        RankingRules(rules),
        ConfusionRules(layout, rules),
        LabelRateRules(layout, rules),
        LossRules(layout, rules),
    ]
    if reference.score is not None:
        found_of.append(DepartureRules(rules, reference.score.bins.ordered))
    return found_of


def enough_labels(looks: Looks, least: float) -> Mask:
    """Where both sides have labelled rows with a usable score."""
    live = looks.counted("positives").sum(axis=1) + looks.counted("negatives").sum(axis=1)
    return np.asarray((live >= least) & (looks.of_base("positives") + looks.of_base("negatives") != 0))


class ConfusionRules:
    """Accuracy, false negative rate, recall, precision, F1."""

    signals = frozenset({"accuracy", "false_negative_rate", "recall", "precision", "f1"})
    tests = 5

    def __init__(self, layout: Layout, rules: Rules) -> None:
        self.layout, self.rules = layout, rules

    def findings(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        """Signals of the spans' joined rows."""
        rules, layout = self.rules, self.layout
        tn, fp, fn, tp = looks.counted("confusion").T
        right, total = tn + tp, tn + fp + fn + tp
        for at in accuracy_suspects(looks, right, total, rules) if looks.wants("accuracy") else ():
            for finding in accuracy_findings(
                layout, rules, looks.vectors[at], looks.base(at), float(right[at]), float(total[at]), looks.log_alpha
            ):
                yield at, finding
        least = rules.minimum_per_class
        for signal, k, n, rule, side in (
            ("false_negative_rate", fn, fn + tp, rules.false_negative_rate, "upper"),
            ("recall", tp, fn + tp, rules.recall, "lower"),
            ("precision", tp, tp + fp, rules.precision, "lower"),
        ):
            if not looks.wants(signal):
                continue
            limits = looks.limits(signal)
            yield from shares_of_looks(looks, signal, None, "outcome", k, n, limits, rule, side=side, least=least)
        if looks.wants("f1"):
            yield from self._f1(looks)

    def _f1(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        """F1 = 2 J / (1 + J) with J = tp / (tp + fp + fn), a share: its tail is the binomial's."""
        rule, least = self.rules.f1, self.rules.minimum_per_class
        _, fp, fn, tp = looks.counted("confusion").T
        union, limits = tp + fp + fn, looks.limits("f1")
        usual_share, live_share = limits[:, 0], tp / np.maximum(union, 1.0)
        drop = 2.0 * usual_share / (1.0 + usual_share) - 2.0 * live_share / (1.0 + live_share)
        for at in np.flatnonzero((union >= least) & (drop >= rule.warn)).tolist():
            k, n, usual, low = float(tp[at]), float(union[at]), float(limits[at, 0]), float(limits[at, 1])
            live, before = _f1(k / n), _f1(usual)
            log_p = float(binomial_log_tail(k, n, low, "lower"))
            if log_p <= looks.log_alpha:
                yield at, found("f1", None, "outcome", live, before, n, rule, _f1(low), log_p, before - live)


class LabelRateRules:
    """The share of positive labels, against that of reference labels which took as long."""

    signals = frozenset({"label_rate"})
    tests = 1

    def __init__(self, layout: Layout, rules: Rules) -> None:
        self.layout, self.rules = layout, rules

    def findings(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        """Signals of the spans' joined rows."""
        rule = self.rules.label_rate
        p, n = looks.counted("positives").sum(axis=1), looks.counted("negatives").sum(axis=1)
        for at in label_rate_suspects(looks, p, p + n, rule.warn):
            vector, base = looks.vectors[at], looks.base(at)
            limits = share_at_same_age(self.layout, vector, base, "aged_positives", base.limits["label_rate"])
            k, total = float(p[at]), float(p[at] + n[at])
            for finding in share_findings(
                "label_rate", "label", "outcome", k, total, limits, rule, looks.log_alpha, two_sided=True
            ):
                yield at, finding


def _f1(jaccard: float) -> float:
    return 2.0 * jaccard / (1.0 + jaccard)
