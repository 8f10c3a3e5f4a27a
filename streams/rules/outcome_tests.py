"""Tests of outcomes that models of several tasks share: calibration, losses, means, business values, accuracy at the same age."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from detectors.calibration import expected_calibration_error
from detectors.ratios import lift
from detectors.shares import Estimate, lower_limit, normal_log_p, upper_limit
from leadline.config import Limits, Rules
from streams.counting.delay_mix import aged_sums, same_age
from streams.counting.figure import number
from streams.counting.layout import Layout, Vector
from streams.figures.binary_figures import mean_loss
from streams.figures.outcome_figures import business_mean
from streams.rules.baseline import Baseline
from streams.rules.finding import Finding, found
from streams.rules.screen import SLACK, calibration_floor
from streams.rules.share_rule import LIMIT_ALPHA, share_findings

LARGEST_LOG_LOSS = 36.05  # nats that one row can cost, see `measure.LOG_FLOOR`
LIMIT_Z = 3.0902323061678  # normal quantile of LIMIT_ALPHA: how far the reference's own mean may be off
LEAST_HITS = 355.0  # rows over squared skewness before a normal error may be trusted (Kohavi et al. 2014)


def calibration_findings(
    layout: Layout, rules: Rules, vector: Vector, base: Baseline, alpha: float
) -> Iterator[Finding]:
    """The debiased ECE, past the reference's own and past the floor that holds for any calibrated model."""
    rows, scores, positives = (
        np.maximum(layout.part(vector, f"calibration_{name}"), 0) for name in ("rows", "scores", "positives")
    )
    total = float(rows.sum())
    miss = float(np.abs(scores - positives).sum())
    if miss < rules.ece.warn * max(total, 1.0):
        return
    # The ECE itself, short of rounding, against its floor: the rest is worked out for those that pass.
    if miss <= (1 - SLACK) * total * calibration_floor(rows, scores, alpha):
        return
    calibration = expected_calibration_error(rows, scores, positives, alpha)
    excess = float(calibration.debiased)
    usual = base.ece
    if excess - usual >= rules.ece.warn and float(calibration.ece) > float(calibration.floor) + usual:
        value, floor = float(calibration.ece), float(calibration.floor)
        yield found("ece", None, "outcome", value, usual, total, rules.ece, floor, math.log(alpha), excess - usual)


def loss_findings(layout: Layout, rules: Rules, vector: Vector, base: Baseline, log_alpha: float) -> Iterator[Finding]:
    """Log loss and Brier score that rose. Bernstein's bound at the upper limit of the reference's mean: one row can cost 36 nats."""
    for signal, section, largest, rule in (
        ("log_loss", "log_loss", LARGEST_LOG_LOSS, rules.log_loss),
        ("brier", "squared_loss", 2.0 if layout.task == "multiclass" else 1.0, rules.brier),
    ):
        usual = base.losses.get(signal)
        if usual is None or usual.n < rules.minimum_rows:
            continue
        live = mean_loss(layout, vector, section)
        n = number(live.n)
        effect = number(live.value) - number(usual.value)
        if n < rules.minimum_rows or not effect >= rule.warn:
            continue
        margin = LIMIT_Z * number(usual.se)
        variance = max(number(live.se) ** 2 * n, number(usual.se) ** 2 * number(usual.n))
        past = effect - margin
        if past <= 0:
            continue
        log_p = -n * past**2 / (2.0 * (variance + past * largest / 3.0))
        if log_p <= log_alpha:
            floor = margin + _bernstein(variance, largest, n, log_alpha)
            yield found(signal, None, "outcome", number(live.value), number(usual.value), n, rule, floor, log_p, effect)


def _bernstein(variance: float, largest: float, n: float, log_alpha: float) -> float:
    """The mean's excess that noise passes with probability alpha."""
    third = largest / 3.0 * -log_alpha
    return (third + math.sqrt(third**2 - 2.0 * n * variance * log_alpha)) / n


def mean_findings(
    signal: str,
    subject: str | None,
    live: Estimate,
    usual: Estimate,
    rule: Limits,
    log_alpha: float,
    effect: float,
) -> Iterator[Finding]:
    """A change of a mean by normal errors. The larger of both spreads counts: rows that lack a tail would claim to be sure."""
    n, m = number(live.n), number(usual.n)
    if not effect >= rule.warn or n < 2 or m < 2:
        return
    variance = max(number(live.se) ** 2 * n, number(usual.se) ** 2 * m)
    error = (variance / n + number(usual.se) ** 2) ** 0.5
    gap = abs(number(live.value) - number(usual.value))
    if not error > 0:
        return
    log_p = float(normal_log_p(gap / error))
    if log_p <= log_alpha:
        value, before = number(live.value), number(usual.value)
        yield found(signal, subject, "outcome", value, before, n, rule, 3 * error, log_p, effect)


def business_findings(
    layout: Layout, rules: Rules, vector: Vector, base: Baseline, log_alpha: float
) -> Iterator[Finding]:
    """Lift of each business value that has limits, against the reference."""
    for name in layout.business:
        live, usual = business_mean(layout, vector, name), base.business.get(name)
        if live is not None and usual is not None:
            yield from lift_findings("business_lift", name, live, usual, rules, log_alpha)


def lift_findings(
    signal: str, name: str, live: Estimate, usual: Estimate, rules: Rules, log_alpha: float
) -> Iterator[Finding]:
    """A relative change in the direction that hurts."""
    limits = rules.lift.get(name)
    if limits is None or number(live.n) < rules.minimum_rows or number(usual.n) < rules.minimum_rows:
        return
    change = number(lift(live, usual).value)
    effect = {"down": -change, "up": change, "both": abs(change)}[limits.direction]
    if not effect >= limits.warn:
        return
    # Rises of skewed values: a handful of large orders is no news. For values of 0 and 1 these are the expected hits.
    square = number(usual.se) ** 2 * number(usual.n) + number(usual.value) ** 2
    if change > 0 and number(live.n) * number(usual.value) ** 2 < LEAST_HITS * square:
        return
    yield from mean_findings(signal, name, live, usual, limits, log_alpha, effect)


def share_at_same_age(
    layout: Layout, vector: Vector, base: Baseline, section: str | None, plain: tuple[float, float, float]
) -> tuple[float, float, float]:
    """A share of the reference and its limits, at the delays that the live labels have; as it stands where the reference knows none."""
    if not base.aged:
        return plain
    compared = same_age(aged_sums(layout, vector, section), aged_sums(layout, base.vector, section))
    if compared is None or number(compared.live.n) < 0.5 * layout.part(vector, "aged").sum():
        return plain
    expected, n = number(compared.expected.value), number(compared.expected.n)
    hits = expected * n
    low, high = float(lower_limit(hits, n, LIMIT_ALPHA)), float(upper_limit(hits, n, LIMIT_ALPHA))
    # The errors of the delays' shares add up in full: where that is more, the limits give way.
    margin = LIMIT_Z * number(compared.expected.se)
    return expected, max(min(low, expected - margin), 0.0), min(max(high, expected + margin), 1.0)


def accuracy_findings(
    layout: Layout, rules: Rules, vector: Vector, base: Baseline, right: float, total: float, log_alpha: float
) -> Iterator[Finding]:
    """Accuracy that fell, against that of reference labels which took as long."""
    plain = base.limits.get("accuracy")
    if plain is None or total < rules.minimum_rows:
        return
    error, low, high = share_at_same_age(layout, vector, base, None, (1 - plain[0], 1 - plain[2], 1 - plain[1]))
    limits = (1 - error, 1 - high, 1 - low)
    yield from share_findings(
        "accuracy", None, "outcome", right, total, limits, rules.accuracy, log_alpha, side="lower"
    )
