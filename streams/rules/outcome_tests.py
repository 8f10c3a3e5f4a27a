"""Tests of outcomes that models of several tasks share: means, business values, accuracy at the same age."""

from __future__ import annotations

from collections.abc import Iterator

from detectors.ratios import lift
from detectors.shares import Estimate, lower_limit, normal_log_p, upper_limit
from leadline.config import Limits, Rules
from streams.counting.delay_mix import aged_sums, same_age
from streams.counting.figure import number
from streams.counting.layout import Layout, Vector
from streams.figures.outcome_figures import business_mean
from streams.rules.baseline import Baseline
from streams.rules.finding import Finding, found
from streams.rules.share_rule import LIMIT_ALPHA, LIMIT_Z, share_findings

LEAST_HITS = 355.0  # rows over squared skewness before a normal error may be trusted (Kohavi et al. 2014)


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
