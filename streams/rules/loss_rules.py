"""How far scores are from outcomes: calibration (ECE), log loss, Brier score. Of models of two and of many classes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from detectors.calibration import expected_calibration_error
from detectors.shares import Estimate
from leadline.config import Limits, Rules
from streams.counting.figure import number
from streams.counting.layout import Layout, Vector
from streams.figures.binary_figures import mean_loss
from streams.rules.baseline import Baseline
from streams.rules.finding import Finding, found
from streams.rules.looks import Looks
from streams.rules.screen import SLACK, calibration_floors
from streams.rules.share_rule import LIMIT_Z

LARGEST_LOG_LOSS = 36.05  # nats that one row can cost, see `measure.LOG_FLOOR`


class LossRules:
    """The debiased ECE against the reference's own, and losses that rose. Rows are those with a label and a usable score."""

    signals = frozenset({"ece", "log_loss", "brier"})
    tests = 3

    def __init__(self, layout: Layout, rules: Rules) -> None:
        self.layout, self.rules = layout, rules
        self.losses = (
            ("log_loss", "log_loss", LARGEST_LOG_LOSS, rules.log_loss),
            ("brier", "squared_loss", 2.0 if layout.task == "multiclass" else 1.0, rules.brier),
        )

    def findings(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        """Signals of the spans' joined rows."""
        for at in self._miscalibrated(looks) if looks.wants("ece") else ():
            for finding in self._calibration(looks.vectors[at], looks.base(at), looks.alpha):
                yield at, finding
        if self.layout.task == "multiclass":
            n = looks.one("scored_rows")
        else:
            n = looks.counted("positives").sum(axis=1) + looks.counted("negatives").sum(axis=1)
        for signal, section, largest, rule in self.losses:
            if not looks.wants(signal):
                continue
            usual, margin, variance = np.array(
                [_usual(base, signal, self.rules.minimum_rows) for base in looks.bases.members]
            )[looks.at].T
            effect = looks.one(section) / np.maximum(n, 1.0) - usual
            past = np.maximum(effect - margin, 0.0) + SLACK
            # The live variance can only make it likelier.
            rare = -n * past**2 / (2.0 * (variance + past * largest / 3.0)) <= looks.log_alpha + SLACK
            for at in np.flatnonzero((effect >= rule.warn - SLACK) & rare & (n >= self.rules.minimum_rows)).tolist():
                of_base = looks.base(at).losses[signal]
                for finding in self._loss(signal, section, largest, rule, looks.vectors[at], of_base, looks.log_alpha):
                    yield at, finding

    def _miscalibrated(self, looks: Looks) -> list[int]:
        """Looks whose ECE, short of rounding, is past the limit and past its floor: the rest is worked out for those alone."""
        rows, scores, positives = (looks.counted(f"calibration_{name}") for name in ("rows", "scores", "positives"))
        total, miss = rows.sum(axis=1), np.abs(scores - positives).sum(axis=1)
        far = miss >= self.rules.ece.warn * np.maximum(total, 1.0)
        if far.any():
            far &= miss > (1 - SLACK) * total * calibration_floors(rows, scores, looks.alpha)
        found_at: list[int] = np.flatnonzero(far).tolist()
        return found_at

    def _calibration(self, vector: Vector, base: Baseline, alpha: float) -> Iterator[Finding]:
        rule, layout = self.rules.ece, self.layout
        sums = [np.maximum(layout.part(vector, f"calibration_{name}"), 0) for name in ("rows", "scores", "positives")]
        calibration = expected_calibration_error(sums[0], sums[1], sums[2], alpha)
        excess, usual = float(calibration.debiased) - base.ece, base.ece
        value, floor, total = float(calibration.ece), float(calibration.floor), float(sums[0].sum())
        if excess >= rule.warn and value > floor + usual:
            yield found("ece", None, "outcome", value, usual, total, rule, floor, math.log(alpha), excess)

    def _loss(
        self, signal: str, section: str, largest: float, rule: Limits, vector: Vector, usual: Estimate, log_alpha: float
    ) -> Iterator[Finding]:
        """Bernstein's bound at the upper limit of the reference's mean: one row can cost 36 nats."""
        live = mean_loss(self.layout, vector, section)
        n, value, before = number(live.n), number(live.value), number(usual.value)
        effect = value - before
        margin = LIMIT_Z * number(usual.se)
        variance = max(number(live.se) ** 2 * n, number(usual.se) ** 2 * number(usual.n))
        past = effect - margin
        if not effect >= rule.warn or past <= 0:
            return
        log_p = -n * past**2 / (2.0 * (variance + past * largest / 3.0))
        if log_p <= log_alpha:
            floor = margin + _bernstein(variance, largest, n, log_alpha)
            yield found(signal, None, "outcome", value, before, n, rule, floor, log_p, effect)


def _usual(base: Baseline, signal: str, least: float) -> tuple[float, float, float]:
    """The reference's mean, how far it may itself be off, and the variance of one row; NaN where it rests on too few rows."""
    usual = base.losses.get(signal)
    if usual is None or number(usual.n) < least:
        return math.nan, math.nan, math.nan
    return number(usual.value), LIMIT_Z * number(usual.se), number(usual.se) ** 2 * number(usual.n)


def _bernstein(variance: float, largest: float, n: float, log_alpha: float) -> float:
    """The mean's excess that noise passes with probability alpha."""
    third = largest / 3.0 * -log_alpha
    return (third + math.sqrt(third**2 - 2.0 * n * variance * log_alpha)) / n
