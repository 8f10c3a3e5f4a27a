"""Tests of the model layer beside the score's distribution: its mean, shares of answers, collapse, entropy, latency."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from detectors.entropy import Spread, spread_from_sums
from detectors.shares import binomial_log_tail, lower_limit, normal_log_p, upper_limit
from leadline.config import Limits, Rules
from streams.counting.layout import Vector
from streams.counting.log_bins import LATENCY_MS, slower_than
from streams.counting.references import Reference
from streams.rules.baseline import Baseline
from streams.rules.finding import Finding, found
from streams.rules.share_rule import LIMIT_ALPHA, share_findings


class ModelRules:
    """What the model answered, and how fast."""

    def __init__(self, reference: Reference, rules: Rules, latency_slo_ms: float | None) -> None:
        self.reference, self.rules, self.layout = reference, rules, reference.layout
        self.latency_slo_ms = latency_slo_ms
        self.slow = LATENCY_MS.middles() > (latency_slo_ms if latency_slo_ms is not None else math.inf)
        self.classes = [*reference.classes, "(unknown class)"]
        self.most_nats = math.log(max(len(reference.classes), 2))
        self.tests = 5 + (len(self.classes) if reference.task == "multiclass" else 0)

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
        yield from self._answers(vector, base, rows, log_alpha)
        yield from self._entropy(vector, base, log_alpha)
        yield from self._latency(vector, base, log_alpha)

    def _answers(self, vector: Vector, base: Baseline, rows: float, log_alpha: float) -> Iterator[Finding]:
        """Shares of what was answered."""
        rules, layout = self.rules, self.layout
        if "predicted_positive_rate" in base.limits:
            yield from share_findings(
                "predicted_positive_rate",
                "prediction",
                "model",
                layout.one(vector, "predicted_positive"),
                rows,
                base.limits["predicted_positive_rate"],
                rules.predicted_positive_rate,
                log_alpha,
                two_sided=True,
            )
        if "predicted" not in layout.slots:
            return
        live, known = np.maximum(layout.part(vector, "predicted"), 0.0), layout.part(base.vector, "predicted")
        n, m = float(live.sum()), float(known.sum())
        if n < rules.minimum_rows or m == 0:
            return
        for at in np.flatnonzero(np.abs(live / n - known / m) >= rules.predicted_share.warn).tolist():
            limits = (
                known[at] / m,
                float(lower_limit(known[at], m, LIMIT_ALPHA)),
                float(upper_limit(known[at], m, LIMIT_ALPHA)),
            )
            yield from share_findings(
                "predicted_share",
                self.classes[at],
                "model",
                float(live[at]),
                n,
                limits,
                rules.predicted_share,
                log_alpha,
                two_sided=True,
            )

    def _entropy(self, vector: Vector, base: Baseline, log_alpha: float) -> Iterator[Finding]:
        """The spread of the answers' entropy, with an error that needs no fourth powers: entropy is bounded."""
        live, known = self._variance(vector), self._variance(base.vector)
        grown = 1.0 + self.rules.entropy_spread.warn
        # Almost every look ends here: without arrays.
        if known <= 0.0 or live < grown * grown * known * (1 - 1e-9):
            return
        spread, of_base = self._spread(vector), self._spread(base.vector)
        growth = float(spread.value / of_base.value) - 1.0
        error = float(np.hypot(spread.se, of_base.se))
        if growth < self.rules.entropy_spread.warn or error <= 0:
            return
        log_p = float(normal_log_p((spread.value - of_base.value) / error, "upper"))
        if log_p <= log_alpha:
            yield found(
                "entropy_spread",
                "score",
                "model",
                float(spread.value),
                float(of_base.value),
                float(spread.n),
                self.rules.entropy_spread,
                3 * error / float(of_base.value),
                log_p,
                growth,
            )

    def _variance(self, vector: Vector) -> float:
        """Of the entropy, nats squared; 0 where too few rows state one."""
        n = self.layout.one(vector, "entropy_rows")
        if n < self.rules.minimum_rows:
            return 0.0
        mean = self.layout.one(vector, "entropy_sum") / n
        return max(self.layout.one(vector, "entropy_squares") / n - mean * mean, 0.0)

    def _spread(self, vector: Vector) -> Spread:
        n = self.layout.one(vector, "entropy_rows")
        total, squares = self.layout.one(vector, "entropy_sum"), self.layout.one(vector, "entropy_squares")
        return spread_from_sums(n, total, squares, self.most_nats)

    def _latency(self, vector: Vector, base: Baseline, log_alpha: float) -> Iterator[Finding]:
        rules = self.rules
        counted = self.layout.part(vector, "latency")
        timed = float(counted.sum())
        if timed < rules.minimum_rows:
            return
        if self.latency_slo_ms is not None:
            slow = float(counted[self.slow].sum())
            if slow > 0.01 * timed:
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
        elif rules.latency_shift is not None and "latency_shift" in base.limits:
            known = self.layout.part(base.vector, "latency")
            slow = float(counted[slower_than(known, 0.99) :].sum())
            yield from share_findings(
                "latency_shift",
                "latency_ms",
                "model",
                slow,
                timed,
                base.limits["latency_shift"],
                rules.latency_shift,
                log_alpha,
            )
