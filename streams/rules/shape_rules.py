"""The distribution tests beside PSI: distribution functions over fine bins (KS), shares of many categories (L-infinity)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from detectors.binning import CategoryBins, NumericBins
from detectors.shares import lower_limit, upper_limit
from leadline.alert import Layer
from leadline.config import Rules
from streams.counting.features import FINE_BINS
from streams.counting.layout import Vector
from streams.counting.subjects import Subjects
from streams.rules.finding import Finding, found
from streams.rules.looks import Looks
from streams.rules.share_rule import LIMIT_ALPHA, share_findings

MANY_CATEGORIES = 50
Floats = npt.NDArray[np.float64]
Fine = tuple[Floats, Floats]
"""(valid rows [fine], distribution function [fine, bins])."""


class ShapeRules:
    """Features (and the score) of 100 bins or more, and features of more than 50 categories: places among the subjects."""

    signals = frozenset({"ks", "l_infinity"})

    def __init__(self, subjects: Subjects, rules: Rules) -> None:
        self.subjects, self.rules = subjects, rules
        self.fine = [
            at
            for at, feature in enumerate(subjects.all)
            if isinstance(feature.bins, NumericBins) and feature.bins.ordered >= FINE_BINS
        ]
        width = max((subjects.all[at].bins.ordered for at in self.fine), default=0)
        # Rows are of one width: beyond a feature's last bin a slot is repeated, and weighs nothing.
        self.slots = np.zeros((len(self.fine), width), dtype=np.int64)
        self.used = np.zeros((len(self.fine), width))
        for row, at in enumerate(self.fine):
            ordered = subjects.all[at].bins.ordered
            self.slots[row, :ordered] = subjects.starts[at] + np.arange(ordered)
            self.used[row, :ordered] = 1.0
        self.many = [
            at
            for at, feature in enumerate(subjects.all)
            if isinstance(feature.bins, CategoryBins)
            and len(feature.bins.top) + len(feature.bins.rest) > MANY_CATEGORIES
        ]
        self.tests = len(self.fine) + len(self.many)

    def distribution(self, vectors: Vector) -> Fine:
        """Of each feature with fine bins, [...] the leading dimensions of vectors [..., slots]."""
        if not self.fine:
            return np.zeros((*vectors.shape[:-1], 0)), np.zeros((*vectors.shape[:-1], 0, 0))
        ranks = (vectors[..., self.slots] * self.used).cumsum(axis=-1)
        n = ranks[..., -1]
        return n, ranks / np.maximum(n, 1.0)[..., None]

    def findings(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        """Signals of the spans' rows."""
        if self.fine:
            yield from self._gaps(looks)
        for at in self.many:
            yield from self._category(looks, at)

    def _layer(self, at: int) -> Layer:
        return "model" if self.subjects.sections[at] == "score" else "data"

    def _gaps(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        """KS: the largest gap of the distribution functions, by the bound on Kolmogorov's tail. Between bins the gap may be larger."""
        rule = self.rules.ks
        n, live = self.distribution(looks.vectors)
        gap = np.abs(live - looks.of_base("fine_shares")).max(axis=2)
        m = looks.of_base("fine_rows")
        far = (gap >= rule.warn) & (n >= self.rules.minimum_rows) & (m > 0)
        if not far.any():
            return
        size = n * m / np.maximum(n + m, 1.0)
        log_p = np.minimum(math.log(2.0) - 2.0 * (size * gap**2), 0.0)
        at_look, of_row = np.nonzero(far & (log_p <= looks.log_alpha))
        first = looks.first_of_cell(at_look, of_row)
        for look, row in zip(at_look[first].tolist(), of_row[first].tolist(), strict=True):
            at = self.fine[row]
            floor = math.sqrt((math.log(2.0) - looks.log_alpha) / (2.0 * size[look, row]))
            value, p = float(gap[look, row]), float(log_p[look, row])
            rows = float(n[look, row])
            yield look, found("ks", self.subjects.names[at], self._layer(at), value, 0.0, rows, rule, floor, p, value)

    def _category(self, looks: Looks, at: int) -> Iterator[tuple[int, Finding]]:
        """L-infinity: the category whose share changed most, by the exact binomial; the chance is shared among all categories."""
        feature, rule = self.subjects.all[at], self.rules.l_infinity
        slots = slice(self.subjects.starts[at], self.subjects.starts[at] + feature.bins.ordered)
        live, known = np.maximum(looks.vectors[:, slots], 0.0), looks.known(slots)
        n, m = live.sum(axis=1), known.sum(axis=1)
        delta = np.abs(live / np.maximum(n, 1.0)[:, None] - known / np.maximum(m, 1.0)[:, None])
        code = delta.argmax(axis=1)
        enough = (n >= self.rules.minimum_rows) & (m > 0) & (delta.max(axis=1) >= rule.warn)
        for look in np.flatnonzero(enough).tolist():
            moved = code[look]
            k, of = known[look, moved], m[look]
            limits = k / of, float(lower_limit(k, of, LIMIT_ALPHA)), float(upper_limit(k, of, LIMIT_ALPHA))
            for finding in share_findings(
                "l_infinity",
                self.subjects.names[at],
                self._layer(at),
                float(live[look, moved]),
                float(n[look]),
                limits,
                rule,
                looks.log_alpha - math.log(live.shape[1]),
                two_sided=True,
            ):
                yield look, finding._replace(detail=f"share of {feature.bins.labels[moved]!r}")
