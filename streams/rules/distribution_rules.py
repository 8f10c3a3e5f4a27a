"""Tests of where the values of every feature and of the score lie: PSI, JS, means, and a scaler that was fitted again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import special

from detectors.shares import normal_log_p
from leadline.alert import Layer
from leadline.config import Rules
from streams.counting.references import Reference
from streams.counting.subjects import Subjects
from streams.rules.finding import Finding, found
from streams.rules.looks import Floats, Integers, Looks
from streams.rules.refitted_scaler import RefittedScaler
from streams.rules.screen import shifts


class DistributionRules:
    """All subjects of all looks at once; those that cannot pass are screened before their full test."""

    signals = frozenset({"psi", "js_divergence", "mean_shift", "refitted_scaler"})

    def __init__(self, reference: Reference, rules: Rules, subjects: Subjects) -> None:
        self.reference, self.rules, self.subjects = reference, rules, subjects
        self.psi_limits = [rules.score_psi if section == "score" else rules.psi for section in subjects.sections]
        self.psi_warn = np.array([limits.warn for limits in self.psi_limits])
        self.named = np.array(subjects.names)
        self.layers: list[Layer] = ["model" if section == "score" else "data" for section in subjects.sections]
        self.scaler = RefittedScaler(reference, subjects, rules.minimum_rows)
        self.tests = len(subjects.all) + len(subjects.numeric)

    def findings(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        """Signals of the spans' rows."""
        if not self.subjects.all:
            return
        moved: dict[int, list[Finding]] = {}
        for at, finding in (*self._divergences(looks), *self._means(looks)):
            moved.setdefault(at, []).append(finding)
            yield at, finding
        if moved and self.rules.refitted_scaler:
            yield from self.scaler.findings(looks, moved)

    def _divergences(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        totals = looks.totals
        # A row counts once for every subject; where it did not, a layout is mixed up and shares mean nothing.
        even = np.flatnonzero((totals == totals[:, :1]).all(axis=1))
        live, n = looks.grouped[even], totals[even, 0]
        shift = shifts(live, n, [looks.base(at).pooled for at in even.tolist()], looks.alpha)
        suspect = (shift.psi > shift.floor) & (shift.debiased >= self.psi_warn)
        if looks.only is not None and looks.only[1] is not None:
            suspect &= self.named == looks.only[1]
        place, subject = np.nonzero(suspect)
        if not len(place):
            return
        mine, theirs = live[place, subject], looks.groups()[even[place], subject]
        plain, log_p = _plain_psi(mine, theirs), shift.log_p(place, subject)
        past = np.flatnonzero(plain >= self.psi_warn[subject])
        for q in past[looks.first_of_cell(even[place[past]], subject[past])].tolist():
            i, at = int(place[q]), int(subject[q])
            look, name, layer, rows = int(even[i]), self.subjects.names[at], self.layers[at], int(n[i])
            floor, effect, p = float(shift.floor[i, at]), float(shift.debiased[i, at]), float(log_p[q])
            yield look, found("psi", name, layer, float(plain[q]), 0.0, rows, self.psi_limits[at], floor, p, effect)
        if not looks.wants("js_divergence"):
            return
        # To second order JS is PSI / 8 and obeys the same law: where PSI is no noise, JS is none.
        limits, of_js = self.rules.js_divergence, _js(mine, theirs)
        bias = (shift.bins[place, subject] - 1) * shift.noise[place, subject] / 8
        past = past[of_js[past] - bias[past] >= limits.warn]
        for q in past[looks.first_of_cell(even[place[past]], subject[past])].tolist():
            i, at = int(place[q]), int(subject[q])
            look, name, layer, rows = int(even[i]), self.subjects.names[at], self.layers[at], int(n[i])
            floor, effect, p = float(shift.floor[i, at]) / 8, float(of_js[q]) - float(bias[q]), float(log_p[q])
            yield look, found("js_divergence", name, layer, float(of_js[q]), 0.0, rows, limits, floor, p, effect)

    def _means(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        rule, subjects, numeric = self.rules.mean_shift, self.subjects, self.subjects.numeric
        if not numeric:
            return
        vectors = looks.vectors
        special = vectors[:, subjects.missing[numeric]] + vectors[:, subjects.invalid[numeric]]
        valid = looks.grouped[:, numeric].sum(axis=2) - special
        enough = valid >= self.rules.minimum_rows
        count = np.where(enough, valid, 1.0)
        mean = vectors[:, subjects.z] / count
        usual, spread = looks.of_base("mean_z"), looks.of_base("sd_z")
        shift = np.abs(mean - usual) / spread
        far = enough & (shift >= rule.warn)
        if not far.any():
            return
        variance = np.maximum(vectors[:, subjects.zz] / count - mean**2, 0.0)
        error = np.sqrt(variance / count + spread**2 / looks.of_base("valid")) / spread
        with np.errstate(divide="ignore", invalid="ignore"):
            log_p = normal_log_p(np.where(error > 0, shift / error, np.where(shift > 0, 1e3, 0.0)))
        for look, place in np.argwhere(far & (log_p <= looks.log_alpha)).tolist():
            at = numeric[place]
            feature = self.reference.features[at]
            yield (
                look,
                found(
                    "mean_shift",
                    subjects.names[at],
                    "data",
                    feature.center + feature.scale * float(mean[look, place]),
                    feature.center + feature.scale * float(usual[look, place]),
                    float(valid[look, place]),
                    rule,
                    3 * float(error[look, place]),
                    float(log_p[look, place]),
                    float(shift[look, place]),
                ),
            )


def _js(live: Integers, groups: Integers) -> Floats:
    """`detectors.divergence.js_divergence` of [pairs, bins] that both hold rows, without its checks."""
    a, b = live / live.sum(axis=1, keepdims=True), groups / groups.sum(axis=1, keepdims=True)
    middle = (a + b) / 2.0
    total: Floats = (special.rel_entr(a, middle) + special.rel_entr(b, middle)).sum(axis=1) / 2.0
    return np.maximum(total, 0.0)


def _plain_psi(live: Integers, groups: Integers) -> Floats:
    """`detectors.divergence.psi` of [pairs, bins], without its checks: for people, before rare bins are pooled."""
    used = (live > 0) | (groups > 0)
    a, b = (live + 0.5) * used, (groups + 0.5) * used
    a /= np.maximum(a.sum(axis=1, keepdims=True), 1.0)
    b /= np.maximum(b.sum(axis=1, keepdims=True), 1.0)
    ratio = np.divide(a, b, out=np.ones_like(a), where=used)
    total: Floats = ((a - b) * np.log(ratio)).sum(axis=1)
    return total
