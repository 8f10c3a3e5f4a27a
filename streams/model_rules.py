"""Tests of the model layer beside the score's distribution: its mean, collapsed answers, latency."""

from __future__ import annotations

import math
from collections.abc import Iterator

from detectors.shares import binomial_log_tail, normal_log_p
from leadline.config import Limits, Rules
from streams.baseline import Baseline
from streams.finding import Finding, found
from streams.layout import Vector
from streams.log_bins import LATENCY_MS
from streams.references import Reference


class ModelRules:
    """What the model answered, and how fast."""

    def __init__(self, reference: Reference, rules: Rules, latency_slo_ms: float | None) -> None:
        self.reference, self.rules, self.layout = reference, rules, reference.layout
        self.latency_slo_ms = latency_slo_ms
        self.slow = LATENCY_MS.middles() > (latency_slo_ms if latency_slo_ms is not None else math.inf)
        self.tests = 3

    def findings(self, vector: Vector, base: Baseline, alpha: float, rows: float) -> Iterator[Finding]:
        """Signals of the span's rows."""
        rules, log_alpha = self.rules, math.log(alpha)
        if self.reference.score is not None:
            mean_score = self.layout.one(vector, "score_sum") / rows
            variance_score = max(self.layout.one(vector, "score_squares") / rows - mean_score**2, 0.0)
            moved = abs(mean_score - base.score_mean) / base.score_sd
            spread = (variance_score / rows + base.score_sd**2 / base.score_valid) ** 0.5 / base.score_sd
            if moved >= rules.score_mean_shift.warn and spread > 0:
                p = float(normal_log_p(moved / spread))
                if p <= log_alpha:
                    yield found(
                        "mean_shift",
                        "score",
                        "model",
                        mean_score,
                        base.score_mean,
                        rows,
                        rules.score_mean_shift,
                        3 * spread,
                        p,
                        moved,
                    )
        top = float(self.layout.part(vector, "collapse").max())
        if top > rules.output_collapse.warn * rows:
            reference = base.limits["output_collapse"]
            if reference[0] < rules.output_collapse.warn / 2:
                log_p = float(binomial_log_tail(top, rows, reference[2]))
                if log_p <= log_alpha:
                    yield found(
                        "output_collapse",
                        "score",
                        "model",
                        top / rows,
                        reference[0],
                        rows,
                        rules.output_collapse,
                        reference[2],
                        log_p,
                        top / rows,
                    )
        if self.latency_slo_ms is not None:
            counted = self.layout.part(vector, "latency")
            slow = float(counted[self.slow].sum())
            timed = float(counted.sum())
            if timed >= rules.minimum_rows and slow > 0.01 * timed:
                log_p = float(binomial_log_tail(slow, timed, 0.01))
                if log_p <= log_alpha:
                    yield found(
                        "latency_over_slo",
                        "latency_ms",
                        "model",
                        slow / timed,
                        0.01,
                        timed,
                        Limits(warn=0.01, critical=0.05),
                        0.01,
                        log_p,
                        slow / timed,
                    )
