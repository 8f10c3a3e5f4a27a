"""Tests of the outcome layer: what the labels say against the reference's."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from detectors.auc import auc_from_histograms, hanley_mcneil_se
from detectors.calibration import expected_calibration_error
from detectors.cbpe import positives_departure
from detectors.shares import normal_log_p
from leadline.config import Rules
from streams.baseline import Baseline
from streams.finding import Finding, found
from streams.layout import Vector
from streams.references import Reference
from streams.screen import SLACK, calibration_floor, departure_is_likely
from streams.share_rule import share_findings


class OutcomeRules:
    """By the task of the model."""

    def __init__(self, reference: Reference, rules: Rules) -> None:
        self.reference, self.rules, self.layout = reference, rules, reference.layout
        self.tests = 6

    def findings(self, vector: Vector, base: Baseline, alpha: float, outcomes: float) -> Iterator[Finding]:
        """Signals of the span's joined rows."""
        task = self.reference.task
        log_alpha = math.log(alpha)
        if task == "binary":
            yield from self._binary(vector, base, alpha, log_alpha)
        elif task == "multiclass" and "accuracy" in base.limits:
            width = len(self.reference.classes) + 1
            matrix = self.layout.part(vector, "confusion").reshape(width, width)
            right, total = float(np.trace(matrix[: width - 1, : width - 1])), float(matrix.sum())
            if total >= self.rules.minimum_rows:
                yield from share_findings(
                    "accuracy",
                    None,
                    "outcome",
                    right,
                    total,
                    base.limits["accuracy"],
                    self.rules.accuracy,
                    log_alpha,
                    side="lower",
                )
        elif task == "regression":
            yield from self._regression(vector, base, log_alpha, outcomes)

    def _binary(self, vector: Vector, base: Baseline, alpha: float, log_alpha: float) -> Iterator[Finding]:
        rules, layout = self.rules, self.layout
        pos, neg = np.maximum(layout.part(vector, "positives"), 0), np.maximum(layout.part(vector, "negatives"), 0)
        p, n = float(pos.sum()), float(neg.sum())
        total = p + n
        if total < rules.minimum_rows or base.positives + base.negatives == 0:
            return
        least = rules.minimum_per_class
        if min(p, n) >= least and math.isfinite(base.auc):
            auc = auc_from_histograms(pos, neg)
            drop = base.auc - (float(auc.value) + float(auc.bound))
            if drop >= rules.auc.warn:
                error = (float(hanley_mcneil_se(base.auc, p, n)) ** 2 + base.auc_se**2) ** 0.5
                log_p = float(normal_log_p(drop / error, "upper"))
                if drop > 3 * error and log_p <= log_alpha:
                    yield found(
                        "auc", None, "outcome", float(auc.value), base.auc, total, rules.auc, 3 * error, log_p, drop
                    )
        tn, fp, fn, tp = np.maximum(layout.part(vector, "confusion"), 0).tolist()
        if tn + fp + fn + tp >= rules.minimum_rows and "accuracy" in base.limits:
            yield from share_findings(
                "accuracy",
                None,
                "outcome",
                tn + tp,
                tn + fp + fn + tp,
                base.limits["accuracy"],
                rules.accuracy,
                log_alpha,
                side="lower",
            )
        if fn + tp >= least and "false_negative_rate" in base.limits:
            yield from share_findings(
                "false_negative_rate",
                None,
                "outcome",
                fn,
                fn + tp,
                base.limits["false_negative_rate"],
                rules.false_negative_rate,
                log_alpha,
            )
        yield from share_findings(
            "label_rate",
            "label",
            "outcome",
            p,
            total,
            base.limits["label_rate"],
            rules.label_rate,
            log_alpha,
            two_sided=True,
        )
        parts = [np.maximum(layout.part(vector, f"calibration_{name}"), 0) for name in ("rows", "scores", "positives")]
        rough = float(np.abs(parts[1] - parts[2]).sum()) / max(float(parts[0].sum()), 1.0)
        if rough >= rules.ece.warn:
            yield from self._calibration(parts, base, alpha, log_alpha, total)
        if base.calibration is not None and self.reference.score is not None:
            yield from self._departure(vector, base, log_alpha)

    def _calibration(
        self, parts: list[Vector], base: Baseline, alpha: float, log_alpha: float, total: float
    ) -> Iterator[Finding]:
        rules = self.rules
        rows, scores, positives = parts
        # The ECE itself, short of rounding, against its floor: the rest is worked out for those that pass.
        if float(np.abs(scores - positives).sum()) <= (1 - SLACK) * float(rows.sum()) * calibration_floor(
            rows, scores, alpha
        ):
            return
        calibration = expected_calibration_error(rows, scores, positives, alpha)
        excess = float(calibration.debiased)
        usual = base.ece if excess >= rules.ece.warn else 0.0
        if excess - usual >= rules.ece.warn and float(calibration.ece) > float(calibration.floor) + usual:
            yield found(
                "ece",
                None,
                "outcome",
                float(calibration.ece),
                usual,
                total,
                rules.ece,
                float(calibration.floor),
                log_alpha,
                excess - usual,
            )

    def _departure(self, vector: Vector, base: Baseline, log_alpha: float) -> Iterator[Finding]:
        """Realised positives against what the same scores promised in the reference: the sign of concept drift."""
        assert self.reference.score is not None
        assert base.calibration is not None
        assert base.label_noise is not None
        layout, rule = self.layout, self.rules.realised_minus_estimated
        ordered = self.reference.score.bins.ordered
        labelled = np.maximum(layout.part(vector, "labelled")[:ordered], 0)
        hits, n = float(layout.part(vector, "labelled_positives")[:ordered].sum()), float(labelled.sum())
        miss = abs(hits - float(labelled @ base.calibration.share))
        if n <= 0 or miss < rule.warn * n or departure_is_likely(miss, float(labelled @ base.label_noise), log_alpha):
            return
        gap = positives_departure(hits, labelled, base.calibration)
        if float(gap.log_p) <= log_alpha:
            yield found(
                "realised_minus_estimated",
                "label",
                "outcome",
                float(gap.realised),
                float(gap.estimated),
                n,
                rule,
                3 * float(gap.se),
                float(gap.log_p),
                abs(float(gap.delta)),
            )

    def _regression(self, vector: Vector, base: Baseline, log_alpha: float, outcomes: float) -> Iterator[Finding]:
        layout, rule = self.layout, self.rules.mean_absolute_error
        before = layout.one(base.vector, "outcomes")
        if before < self.rules.minimum_rows:
            return
        mean, usual = (
            layout.one(vector, "absolute_error") / outcomes,
            layout.one(base.vector, "absolute_error") / before,
        )
        if usual <= 0:
            return
        growth = mean / usual - 1.0
        variance = max(layout.one(vector, "squared_error") / outcomes - mean**2, 0.0)
        usual_variance = max(layout.one(base.vector, "squared_error") / before - usual**2, 0.0)
        error = (variance / outcomes + usual_variance / before) ** 0.5 / usual
        if growth >= rule.warn and error > 0:
            log_p = float(normal_log_p(growth / error, "upper"))
            if log_p <= log_alpha:
                yield found("mae", None, "outcome", mean, usual, outcomes, rule, 3 * error * usual, log_p, growth)
