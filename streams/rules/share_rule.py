"""The test of a share: the exact binomial against the confidence limit of the reference's share."""

from __future__ import annotations

import math
from collections.abc import Iterator

from detectors.shares import binomial_log_tail
from leadline.alert import Layer
from leadline.config import Limits
from streams.rules.finding import Finding, found
from streams.rules.screen import share_is_likely

LIMIT_Z = 3.0902323061678  # normal quantile of LIMIT_ALPHA
LIMIT_ALPHA = 1e-3  # the reference's confidence limit: spent once per reference, not once per look


def share_findings(
    signal: str,
    subject: str | None,
    layer: Layer,
    k: float,
    n: float,
    limits: tuple[float, float, float],
    rule: Limits,
    log_alpha: float,
    *,
    two_sided: bool = False,
    side: str = "upper",
) -> Iterator[Finding]:
    """`limits` are the reference's share and the confidence limits of it; k of n is the span's."""
    reference, low, high = limits
    delta = k / n - reference
    effect = abs(delta) if two_sided else (delta if side == "upper" else -delta)
    if effect < rule.warn:
        return
    rises = delta > 0
    bound = high if rises else low
    if share_is_likely(k, n, bound, log_alpha):
        return
    log_p = float(binomial_log_tail(k, n, bound, "upper" if rises else "lower"))
    if two_sided:
        log_p = min(log_p + math.log(2.0), 0.0)
    if log_p <= log_alpha:
        yield found(signal, subject, layer, k / n, reference, n, rule, bound, log_p, effect)
