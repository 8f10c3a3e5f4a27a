"""Tests of the figures that are means of a value a row: embedding norms, confidence, layers, resources, what main directions leave."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from detectors.embedding import norm_shift
from detectors.moments import mean_shift_z
from detectors.shares import normal_log_p
from leadline.config import Limits, Rules
from streams.counting.layout import Layout, Vector
from streams.counting.means import means_of
from streams.rules.finding import Finding, found
from streams.rules.looks import Looks

MOST_Z = 1e3
SLACK = 1 - 1e-9  # for rounding: screening changes no finding
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class MeanRules:
    """All means of a layout at once: where rows are too few on either side, nothing is said."""

    def __init__(self, layout: Layout, rules: Rules) -> None:
        self.signals = frozenset(mean.signal for mean in means_of(layout))
        self.means = [mean for mean in means_of(layout) if mean.signal not in rules.disabled]
        self.least = rules.minimum_rows
        self.limits: list[Limits] = [getattr(rules, mean.signal) for mean in self.means]
        self.warn = np.array([limits.warn for limits in self.limits])
        self.rows, self.total, self.squares = (
            np.array([layout.offset(getattr(mean, part)) for mean in self.means], dtype=np.int64)
            for part in ("rows", "total", "squares")
        )
        self.relative = np.array([mean.kind == "relative" for mean in self.means], dtype=np.bool_)
        self.upper = np.array([mean.sides == "upper" for mean in self.means], dtype=np.bool_)
        self.tests = len(self.means)

    def moments(self, vectors: Vector) -> tuple[Floats, Floats, Floats]:
        """(rows, mean, standard deviation) of each, [..., means] of vectors [..., slots]; zeros where there is no row."""
        n = np.maximum(vectors[..., self.rows], 0.0)
        count = np.maximum(n, 1.0)
        mean = vectors[..., self.total] / count
        variance = vectors[..., self.squares] / count - mean**2
        # Below the rounding of the sums nothing varied.
        noise = 64 * np.finfo(np.float64).eps * mean**2
        return n, mean, np.sqrt(np.where(variance > noise, variance, 0.0))

    def findings(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        """Signals of the spans' rows against the moments of the baseline."""
        if not self.means:
            return
        rows, totals = looks.vectors[:, self.rows], looks.vectors[:, self.total]
        m, base_mean, base_std = looks.of_base("means").transpose(1, 0, 2)
        known = (rows >= self.least) & (m >= self.least)
        unit = np.where(self.relative, base_mean, base_std)
        # Almost every look ends here: the change alone is below what matters.
        far = known & (np.abs(totals - base_mean * rows) >= self.warn * unit * rows * SLACK)
        for look in np.flatnonzero(far.any(axis=1)).tolist():
            moments = self.moments(looks.vectors[look])
            for finding in self._of_one(
                moments, (m[look], base_mean[look], base_std[look]), known[look], looks.log_alpha
            ):
                yield look, finding

    def _of_one(
        self, live: tuple[Floats, Floats, Floats], base: tuple[Floats, Floats, Floats], known: Mask, log_alpha: float
    ) -> Iterator[Finding]:
        (n, mean, std), (m, base_mean, base_std) = live, base
        # Both take the larger of the two deviations: of a skewed value the live one is small just where its mean happens to be.
        in_deviations = mean_shift_z(n, mean, std, m, base_mean, base_std)
        in_shares = norm_shift(n, mean, std, m, base_mean, base_std)
        effect = np.where(self.relative, in_shares[0], in_deviations[0])
        error = np.where(self.relative, in_shares[1], in_deviations[1])
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(error > 0, np.minimum(effect / error, MOST_Z), MOST_Z)
            suspect = known & (effect >= self.warn) & ~(self.upper & (mean <= base_mean))
        for at in np.flatnonzero(suspect).tolist():
            log_p = float(normal_log_p(z[at]))
            if log_p <= log_alpha:
                kind = self.means[at]
                yield found(
                    kind.signal,
                    kind.subject,
                    kind.layer,
                    float(mean[at]),
                    float(base_mean[at]),
                    float(n[at]),
                    self.limits[at],
                    3 * float(error[at]),
                    log_p,
                    float(effect[at]),
                )
