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
from streams.counting.layout import Vector
from streams.counting.references import FINE_BINS
from streams.rules.finding import Finding, found
from streams.rules.share_rule import LIMIT_ALPHA, share_findings
from streams.rules.subjects import Subjects

MANY_CATEGORIES = 50
Floats = npt.NDArray[np.float64]
Fine = tuple[Floats, Floats]
"""(valid rows [fine], distribution function [fine, bins])."""


class Shapes:
    """Features (and the score) of 100 bins or more, and features of more than 50 categories: places among the subjects."""

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

    def distribution(self, vector: Vector) -> Fine:
        """Of each feature with fine bins."""
        if not self.fine:
            return np.zeros(0), np.zeros((0, 0))
        ranks = (vector.take(self.slots) * self.used).cumsum(axis=1)
        n = ranks[:, -1]
        return n, ranks / np.maximum(n, 1.0)[:, None]

    def _layer(self, at: int) -> Layer:
        return "model" if self.subjects.sections[at] == "score" else "data"

    def gaps(self, vector: Vector, base: Fine, log_alpha: float) -> Iterator[Finding]:
        """KS: the largest gap of the distribution functions, by the bound on Kolmogorov's tail. Between bins the gap may be larger."""
        if not self.fine:
            return
        n, live = self.distribution(vector)
        m, reference = base
        gap = np.abs(live - reference).max(axis=1)
        if gap.max() < self.rules.ks.warn:
            return
        for row in np.flatnonzero((gap >= self.rules.ks.warn) & (n >= self.rules.minimum_rows) & (m > 0)).tolist():
            size = n[row] * m[row] / (n[row] + m[row])
            log_p = min(math.log(2.0) - 2.0 * float(size * gap[row] ** 2), 0.0)
            if log_p <= log_alpha:
                at = self.fine[row]
                floor = math.sqrt((math.log(2.0) - log_alpha) / (2.0 * size))
                yield found(
                    "ks",
                    self.subjects.names[at],
                    self._layer(at),
                    float(gap[row]),
                    0.0,
                    float(n[row]),
                    self.rules.ks,
                    floor,
                    log_p,
                    float(gap[row]),
                )

    def categories(self, vector: Vector, base: Vector, log_alpha: float) -> Iterator[Finding]:
        """L-infinity: the category whose share changed most, by the exact binomial; the chance is shared among all categories."""
        for at in self.many:
            feature = self.subjects.all[at]
            slots = slice(self.subjects.starts[at], self.subjects.starts[at] + feature.bins.ordered)
            live, known = np.maximum(vector[slots], 0.0), base[slots]
            n, m = float(live.sum()), float(known.sum())
            if n < self.rules.minimum_rows or m == 0:
                continue
            delta = np.abs(live / n - known / m)
            code = int(delta.argmax())
            if delta[code] < self.rules.l_infinity.warn:
                continue
            limits = (
                known[code] / m,
                float(lower_limit(known[code], m, LIMIT_ALPHA)),
                float(upper_limit(known[code], m, LIMIT_ALPHA)),
            )
            for finding in share_findings(
                "l_infinity",
                self.subjects.names[at],
                self._layer(at),
                float(live[code]),
                n,
                limits,
                self.rules.l_infinity,
                log_alpha - math.log(len(live)),
                two_sided=True,
            ):
                yield finding._replace(detail=f"share of {feature.bins.labels[code]!r}")
