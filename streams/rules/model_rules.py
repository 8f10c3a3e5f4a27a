"""Tests of the model layer beside the score's distribution: its mean, shares of answers, collapse, entropy, latency."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from detectors.entropy import Spread, spread_from_sums
from detectors.shares import binomial_log_tail, lower_limit, normal_log_p, upper_limit
from leadline.config import Limits, Rules
from streams.counting.layout import Vector
from streams.counting.log_bins import LATENCY_MS
from streams.counting.references import Reference
from streams.rules.baseline import entropy_variance
from streams.rules.finding import Finding, found
from streams.rules.looks import Floats, Looks
from streams.rules.share_looks import shares_of_looks
from streams.rules.share_rule import LIMIT_ALPHA, share_findings


class ModelRules:
    """What the model answered, and how fast."""

    signals = frozenset(
        {"mean_shift", "output_collapse", "predicted_positive_rate", "predicted_share", "entropy_spread"}
        | {"latency_over_slo", "latency_shift"}
    )

    def __init__(self, reference: Reference, rules: Rules, latency_slo_ms: float | None) -> None:
        self.reference, self.rules, self.layout = reference, rules, reference.layout
        self.latency_slo_ms = latency_slo_ms
        slo_ms = latency_slo_ms if latency_slo_ms is not None else math.inf
        self.slow = int(np.searchsorted(LATENCY_MS.middles(), slo_ms, side="right"))
        """The first bin of latencies over the SLO."""
        self.classes = [*reference.classes, "(unknown class)"]
        self.most_nats = math.log(max(len(reference.classes), 2))
        self.tests = 5 + (len(self.classes) if reference.task == "multiclass" else 0)

    def findings(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        """Signals of the spans' rows."""
        if self.reference.score is not None:
            yield from self._mean(looks)
        yield from self._collapse(looks)
        if self.reference.task == "binary":
            k, limits = looks.one("predicted_positive"), looks.limits("predicted_positive_rate")
            yield from shares_of_looks(
                looks,
                "predicted_positive_rate",
                "prediction",
                "model",
                k,
                looks.rows,
                limits,
                self.rules.predicted_positive_rate,
                two_sided=True,
            )
        elif self.reference.task == "multiclass":
            yield from self._answers(looks)
        yield from self._entropy(looks)
        yield from self._latency(looks)

    def _mean(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        rule, rows = self.rules.score_mean_shift, looks.rows
        mean, usual, deviation = looks.one("score_sum") / rows, looks.of_base("score_mean"), looks.of_base("score_sd")
        moved = np.abs(mean - usual) / deviation
        for at in np.flatnonzero(moved >= rule.warn).tolist():
            n, value = float(rows[at]), float(mean[at])
            variance = max(float(looks.one("score_squares")[at]) / n - value**2, 0.0)
            base = looks.base(at)
            spread = (variance / n + base.score_sd**2 / base.score_valid) ** 0.5 / base.score_sd
            if spread > 0:
                effect = float(moved[at])
                p = float(normal_log_p(effect / spread))
                if p <= looks.log_alpha:
                    yield (
                        at,
                        found("mean_shift", "score", "model", value, base.score_mean, n, rule, 3 * spread, p, effect),
                    )

    def _collapse(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        rule, rows = self.rules.output_collapse, looks.rows
        top, limits = looks.part("collapse").max(axis=1), looks.limits("output_collapse")
        for at in np.flatnonzero((top > rule.warn * rows) & (limits[:, 0] < rule.warn / 2)).tolist():
            k, n, usual, high = float(top[at]), float(rows[at]), float(limits[at, 0]), float(limits[at, 2])
            log_p = float(binomial_log_tail(k, n, high))
            if log_p <= looks.log_alpha:
                yield at, found("output_collapse", "score", "model", k / n, usual, n, rule, high, log_p, k / n)

    def _answers(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        """Shares of the classes that were answered."""
        rule, least = self.rules.predicted_share, self.rules.minimum_rows
        live, known = np.maximum(looks.part("predicted"), 0.0), looks.known(self.layout.slots["predicted"])
        n, m = live.sum(axis=1), known.sum(axis=1)
        delta = np.abs(live / np.maximum(n, 1.0)[:, None] - known / np.maximum(m, 1.0)[:, None])
        far = (delta >= rule.warn) & ((n >= least) & (m > 0))[:, None]
        for look, at in np.argwhere(far).tolist():
            k, of, name, p = known[look, at], m[look], self.classes[at], looks.log_alpha
            limits = k / of, float(lower_limit(k, of, LIMIT_ALPHA)), float(upper_limit(k, of, LIMIT_ALPHA))
            hits, rows = float(live[look, at]), float(n[look])
            for finding in share_findings(
                "predicted_share", name, "model", hits, rows, limits, rule, p, two_sided=True
            ):
                yield look, finding

    def _entropy(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        """The spread of the answers' entropy, with an error that needs no fourth powers: entropy is bounded."""
        rule = self.rules.entropy_spread
        live, known = self._variance(looks.vectors), looks.of_base("entropy_variance")
        grown = 1.0 + rule.warn
        for at in np.flatnonzero((known > 0.0) & (live >= grown * grown * known * (1 - 1e-9))).tolist():
            spread, of_base = self._spread(looks.vectors[at]), self._spread(looks.base(at).vector)
            growth = float(spread.value / of_base.value) - 1.0
            error = float(np.hypot(spread.se, of_base.se))
            if growth < rule.warn or error <= 0:
                continue
            log_p = float(normal_log_p((spread.value - of_base.value) / error, "upper"))
            if log_p <= looks.log_alpha:
                value, usual, n = float(spread.value), float(of_base.value), float(spread.n)
                floor = 3 * error / usual
                yield at, found("entropy_spread", "score", "model", value, usual, n, rule, floor, log_p, growth)

    def _variance(self, vectors: Vector) -> Floats:
        """Of the entropy, nats squared; 0 where too few rows state one."""
        return entropy_variance(self.layout, vectors, self.rules.minimum_rows)

    def _spread(self, vector: Vector) -> Spread:
        n = self.layout.one(vector, "entropy_rows")
        total, squares = self.layout.one(vector, "entropy_sum"), self.layout.one(vector, "entropy_squares")
        return spread_from_sums(n, total, squares, self.most_nats)

    def _latency(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        rules, counted = self.rules, looks.part("latency")
        timed = counted.sum(axis=1)
        enough = timed >= rules.minimum_rows
        if not enough.any():
            return
        if self.latency_slo_ms is not None:
            limits, usual = Limits(warn=0.01, critical=0.05), 0.01
            slow = counted[:, self.slow :].sum(axis=1)
            for at in np.flatnonzero(enough & (slow > usual * timed)).tolist():
                k, n = float(slow[at]), float(timed[at])
                log_p = float(binomial_log_tail(k, n, usual))
                if log_p <= looks.log_alpha:
                    part, subject = k / n, "latency_ms"
                    yield at, found("latency_over_slo", subject, "model", part, usual, n, limits, usual, log_p, part)
        elif rules.latency_shift is not None:
            of_base = looks.of_base("slow_from").tolist()
            slow = np.array([float(row[first:].sum()) for row, first in zip(counted, of_base, strict=True)])
            limits_of_share = looks.limits("latency_shift")
            yield from shares_of_looks(
                looks,
                "latency_shift",
                "latency_ms",
                "model",
                slow,
                timed,
                limits_of_share,
                rules.latency_shift,
                least=rules.minimum_rows,
            )
