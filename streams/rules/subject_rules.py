"""Tests of the distribution of every feature and of the score: PSI, JS, KS, L-infinity, nulls, invalid values, means."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from detectors.divergence import js_divergence
from detectors.shares import normal_log_p
from leadline.alert import Layer
from leadline.config import Limits, Rules
from streams.counting.layout import Vector
from streams.counting.references import Reference
from streams.rules.baseline import Baseline
from streams.rules.finding import Finding, found
from streams.rules.refitted_scaler import refitted
from streams.rules.shapes import Shapes
from streams.rules.share_rule import share_findings
from streams.rules.subjects import Subjects


class SubjectRules:
    """All subjects at once; those that cannot pass are screened before their full test."""

    def __init__(self, reference: Reference, rules: Rules, subjects: Subjects) -> None:
        self.reference, self.rules, self.subjects = reference, rules, subjects
        self.psi_limits = [rules.score_psi if section == "score" else rules.psi for section in subjects.sections]
        self.psi_warn = np.array([limits.warn for limits in self.psi_limits])
        self.shapes = Shapes(subjects, rules)
        self.tests = len(subjects.all) * 3 + len(subjects.numeric) + self.shapes.tests

    def findings(self, vector: Vector, base: Baseline, alpha: float) -> Iterator[Finding]:
        """Signals of the span's rows."""
        rules, log_alpha = self.rules, math.log(alpha)
        if not self.subjects.all:
            return
        live = self.subjects.grouped(vector)
        totals = np.maximum(live.sum(axis=1), 1)
        moved = list(self._divergences(live, totals, base, alpha))
        moved += self._means(vector, live, base, log_alpha)
        yield from moved
        if moved and rules.refitted_scaler:
            yield from refitted(self.reference, self.subjects, moved, vector, base, rules.minimum_rows)
        yield from self.shapes.gaps(vector, base.fine, log_alpha)
        yield from self.shapes.categories(vector, base.vector, log_alpha)
        yield from self._special(
            "null_rate",
            vector[self.subjects.missing],
            totals,
            base.null_share,
            base.null_limits,
            rules.null_rate,
            log_alpha,
        )
        yield from self._special(
            "invalid_rate",
            vector[self.subjects.invalid],
            totals,
            base.invalid_share,
            base.invalid_limits,
            rules.invalid_rate,
            log_alpha,
        )

    def _divergences(
        self, live: npt.NDArray[np.int64], totals: npt.NDArray[np.int64], base: Baseline, alpha: float
    ) -> Iterator[Finding]:
        n = int(totals[0])
        if (totals != n).any():
            return  # a row counts once for every subject; where it did not, a layout is mixed up and shares mean nothing
        shift = base.pooled.shift(live, n, alpha)
        suspects = np.flatnonzero((shift.psi > shift.floor) & (shift.debiased >= self.psi_warn))
        if not len(suspects):
            return
        plain = self._plain_psi(live, base)
        of_js = js_divergence(live[suspects], base.groups[suspects])
        for at, js in zip(suspects.tolist(), of_js.tolist(), strict=True):
            if plain[at] >= self.psi_warn[at]:
                layer: Layer = "model" if self.subjects.sections[at] == "score" else "data"
                floor, effect = float(shift.floor[at]), float(shift.debiased[at])
                log_p = shift.log_p(at)
                yield found(
                    "psi",
                    self.subjects.names[at],
                    layer,
                    float(plain[at]),
                    0.0,
                    n,
                    self.psi_limits[at],
                    floor,
                    log_p,
                    effect,
                )
                # To second order JS is PSI / 8 and obeys the same law: where PSI is no noise, JS is none.
                bias = float((shift.bins[at] - 1) * shift.noise[at]) / 8
                if js - bias >= self.rules.js_divergence.warn:
                    limits = self.rules.js_divergence
                    name = self.subjects.names[at]
                    yield found("js_divergence", name, layer, js, 0.0, n, limits, floor / 8, log_p, js - bias)

    @staticmethod
    def _plain_psi(live: npt.NDArray[np.int64], base: Baseline) -> npt.NDArray[np.float64]:
        """`detectors.divergence.psi` of all subjects, without its checks: for people, before rare bins are pooled."""
        used = (live > 0) | base.occupied
        a, b = (live + 0.5) * used, (base.groups + 0.5) * used
        a /= np.maximum(a.sum(axis=1, keepdims=True), 1.0)
        b /= np.maximum(b.sum(axis=1, keepdims=True), 1.0)
        ratio = np.divide(a, b, out=np.ones_like(a), where=used)
        total: npt.NDArray[np.float64] = ((a - b) * np.log(ratio)).sum(axis=1)
        return total

    def _special(
        self,
        signal: str,
        counted: Vector,
        totals: npt.NDArray[np.int64],
        shares: npt.NDArray[np.float64],
        limits: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
        rule: Limits,
        log_alpha: float,
    ) -> Iterator[Finding]:
        delta = counted / totals - shares
        for at in np.flatnonzero(np.abs(delta) >= rule.warn).tolist():
            triple = (float(shares[at]), float(limits[0][at]), float(limits[1][at]))
            layer: Layer = "model" if self.subjects.sections[at] == "score" else "data"
            yield from share_findings(
                signal,
                self.subjects.names[at],
                layer,
                float(counted[at]),
                float(totals[at]),
                triple,
                rule,
                log_alpha,
                two_sided=True,
            )

    def _means(
        self, vector: Vector, live: npt.NDArray[np.int64], base: Baseline, log_alpha: float
    ) -> Iterator[Finding]:
        rules = self.rules
        if self.subjects.numeric:
            special = (
                vector[self.subjects.missing][self.subjects.numeric]
                + vector[self.subjects.invalid][self.subjects.numeric]
            )
            valid = live[self.subjects.numeric].sum(axis=1) - special
            enough = valid >= rules.minimum_rows
            count = np.where(enough, valid, 1.0)
            mean = vector[self.subjects.z] / count
            shift = np.abs(mean - base.mean_z) / base.sd_z
        if self.subjects.numeric and (enough & (shift >= rules.mean_shift.warn)).any():
            variance = np.maximum(vector[self.subjects.zz] / count - mean**2, 0.0)
            error = np.sqrt(variance / count + base.sd_z**2 / base.valid) / base.sd_z
            with np.errstate(divide="ignore", invalid="ignore"):
                log_p = normal_log_p(np.where(error > 0, shift / error, np.where(shift > 0, 1e3, 0.0)))
            for place in np.flatnonzero(enough & (shift >= rules.mean_shift.warn) & (log_p <= log_alpha)).tolist():
                at = self.subjects.numeric[place]
                feature = self.reference.features[at]
                yield found(
                    "mean_shift",
                    self.subjects.names[at],
                    "data",
                    feature.center + feature.scale * float(mean[place]),
                    feature.center + feature.scale * float(base.mean_z[place]),
                    float(valid[place]),
                    rules.mean_shift,
                    3 * float(error[place]),
                    float(log_p[place]),
                    float(shift[place]),
                )
