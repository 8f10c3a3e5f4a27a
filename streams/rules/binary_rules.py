"""Outcome rules of a binary model."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from detectors.auc import auc_from_histograms, average_precision, hanley_mcneil_se
from detectors.cbpe import CalibrationMap, Departure, accuracy_departure, auc_departure, positives_departure
from detectors.shares import binomial_log_tail, normal_log_p
from leadline.config import Rules
from streams.counting.layout import Vector
from streams.counting.references import Reference
from streams.rules.baseline import Baseline
from streams.rules.finding import Finding, found
from streams.rules.outcome_tests import accuracy_findings, calibration_findings, loss_findings, share_at_same_age
from streams.rules.screen import SLACK, average_precision_of, departure_is_likely, highest_precision
from streams.rules.share_rule import share_findings

LARGER_REFERENCE = 5.0  # labelled reference rows for each live one, where the error of the calibration map is left out


class BinaryRules:
    """Ranking, thresholded metrics, calibration, losses, and what the same scores used to mean."""

    tests = 13

    def __init__(self, reference: Reference, rules: Rules) -> None:
        self.reference, self.rules, self.layout = reference, rules, reference.layout

    def findings(self, vector: Vector, base: Baseline, alpha: float, outcomes: float) -> Iterator[Finding]:
        """Signals of the span's joined rows."""
        rules, layout, log_alpha = self.rules, self.layout, math.log(alpha)
        pos, neg = np.maximum(layout.part(vector, "positives"), 0), np.maximum(layout.part(vector, "negatives"), 0)
        p, n = float(pos.sum()), float(neg.sum())
        if p + n < rules.minimum_rows or base.positives + base.negatives == 0:
            return
        if min(p, n) >= rules.minimum_per_class and math.isfinite(base.auc):
            yield from self._ranking(pos, neg, base, log_alpha)
        yield from self._confusion(vector, base, log_alpha)
        yield from share_findings(
            "label_rate",
            "label",
            "outcome",
            p,
            p + n,
            share_at_same_age(layout, vector, base, "aged_positives", base.limits["label_rate"]),
            rules.label_rate,
            log_alpha,
            two_sided=True,
        )
        yield from calibration_findings(layout, rules, vector, base, alpha)
        yield from loss_findings(layout, rules, vector, base, log_alpha)
        if base.calibration is not None and self.reference.score is not None:
            yield from self._departures(vector, base, base.calibration, log_alpha)

    def _ranking(self, pos: Vector, neg: Vector, base: Baseline, log_alpha: float) -> Iterator[Finding]:
        rules, p, n = self.rules, float(pos.sum()), float(neg.sum())
        auc = auc_from_histograms(pos, neg)
        drop = base.auc - (float(auc.value) + float(auc.bound))
        if drop >= rules.auc.warn:
            error = (float(hanley_mcneil_se(base.auc, p, n)) ** 2 + base.auc_se**2) ** 0.5
            log_p = float(normal_log_p(drop / error, "upper"))
            # An alarm's alpha lies far beyond three errors; what compares cells asks for the drop alone.
            if log_p <= log_alpha:
                value = float(auc.value)
                yield found("auc", None, "outcome", value, base.auc, p + n, rules.auc, 3 * error, log_p, drop)
        # Average precision falls with the share of positives, without any fault: the reference's is taken at the live share.
        rule = rules.average_precision
        weight = n / p * base.positives / base.negatives
        known, others = self.layout.part(base.vector, "positives"), weight * self.layout.part(base.vector, "negatives")
        highest = highest_precision(pos, neg)
        if 1.0 - highest < rule.warn - SLACK or average_precision_of(known, others) - highest < rule.warn - SLACK:
            return
        live = average_precision(pos, neg)
        usual = float(average_precision(known, others).value)
        drop = usual - float(live.high)
        if drop < rule.warn:
            return
        error = (max(usual * (1.0 - usual), 1e-6) * (1.0 / p + 1.0 / base.positives)) ** 0.5
        log_p = float(normal_log_p(drop / error, "upper"))
        if log_p <= log_alpha:
            value = float(live.value)
            yield found("average_precision", None, "outcome", value, usual, p + n, rule, 3 * error, log_p, drop)

    def _confusion(self, vector: Vector, base: Baseline, log_alpha: float) -> Iterator[Finding]:
        rules, layout = self.rules, self.layout
        tn, fp, fn, tp = np.maximum(layout.part(vector, "confusion"), 0).tolist()
        yield from accuracy_findings(layout, rules, vector, base, tn + tp, tn + fp + fn + tp, log_alpha)
        for signal, k, n, rule, side in (
            ("false_negative_rate", fn, fn + tp, rules.false_negative_rate, "upper"),
            ("recall", tp, fn + tp, rules.recall, "lower"),
            ("precision", tp, tp + fp, rules.precision, "lower"),
        ):
            if n >= rules.minimum_per_class and signal in base.limits:
                yield from share_findings(
                    signal, None, "outcome", k, n, base.limits[signal], rule, log_alpha, side=side
                )
        union = tp + fp + fn
        if union >= rules.minimum_per_class and "f1" in base.limits:
            # F1 = 2 J / (1 + J) with J = tp / (tp + fp + fn), a share: its tail is the binomial's.
            usual, low, _ = base.limits["f1"]
            live, before = _f1(tp / union), _f1(usual)
            if before - live >= rules.f1.warn:
                log_p = float(binomial_log_tail(tp, union, low, "lower"))
                if log_p <= log_alpha:
                    floor = _f1(low)
                    yield found("f1", None, "outcome", live, before, union, rules.f1, floor, log_p, before - live)

    def _departures(self, vector: Vector, base: Baseline, mu: CalibrationMap, log_alpha: float) -> Iterator[Finding]:
        """Realised outcomes against what the same scores promised in the reference: the sign of concept drift."""
        assert self.reference.score is not None
        assert base.label_noise is not None
        layout, rule = self.layout, self.rules.realised_minus_estimated
        ordered = self.reference.score.bins.ordered
        labelled, hits, chosen = (
            np.maximum(layout.part(vector, name)[:ordered], 0)
            for name in ("labelled", "labelled_positives", "labelled_chosen")
        )
        n, positives = float(labelled.sum()), float(hits.sum())
        if n <= 0:
            return
        noise = float(labelled @ base.label_noise)
        miss = abs(positives - float(labelled @ mu.share))
        if miss >= rule.warn * n and not departure_is_likely(miss, noise, log_alpha):
            yield from self._departure("label", positives_departure(positives, labelled, mu), n, log_alpha)
        tn, fp, fn, tp = np.maximum(layout.part(vector, "confusion"), 0).tolist()
        if tn + fp + fn + tp == n:
            promised = float(chosen @ mu.share + (labelled - chosen) @ (1.0 - mu.share))
            miss = abs(tp + tn - promised)
            if miss >= rule.warn * n and not departure_is_likely(miss, noise, log_alpha):
                gap = accuracy_departure(tp + tn, chosen, labelled - chosen, mu)
                yield from self._departure("accuracy", gap, n, log_alpha)
        least, before = self.rules.minimum_per_class, base.positives + base.negatives
        if min(positives, n - positives) >= least and before >= LARGER_REFERENCE * n:
            yield from self._departure("auc", auc_departure(hits, labelled - hits, mu), n, log_alpha)

    def _departure(self, subject: str, gap: Departure, n: float, log_alpha: float) -> Iterator[Finding]:
        rule, delta = self.rules.realised_minus_estimated, abs(float(gap.delta))
        if delta >= rule.warn and float(gap.log_p) <= log_alpha:
            yield found(
                "realised_minus_estimated",
                subject,
                "outcome",
                float(gap.realised),
                float(gap.estimated),
                n,
                rule,
                3 * float(gap.se),
                float(gap.log_p),
                delta,
            )


def _f1(jaccard: float) -> float:
    return 2.0 * jaccard / (1.0 + jaccard)
