"""A finding: one signal of one span that is past its effect limit and past what noise alone could do."""

from __future__ import annotations

import math
from typing import NamedTuple

from leadline.alert import Layer
from leadline.config import Limits

LN10 = math.log(10.0)


class Finding(NamedTuple):
    """One signal of one span. `strength` is the effect over its warning limit; `log10_p` under no change."""

    signal: str
    subject: str | None
    layer: Layer
    value: float
    reference: float
    n: int
    threshold: float
    critical: float
    floor: float
    log10_p: float
    strength: float
    detail: str = ""
    """In words: which category, class or name it is about."""
    design_effect: float = 1.0
    """How many of its rows are worth one independent row: `log10_p` says so already."""

    @property
    def key(self) -> tuple[str, str | None]:
        return (self.signal, self.subject)

    @property
    def severity(self) -> str:
        return "critical" if self.strength * self.threshold >= self.critical else "warn"


def found(
    signal: str,
    subject: str | None,
    layer: Layer,
    value: float,
    reference: float,
    n: float,
    limits: Limits,
    floor: float,
    log_p: float,
    effect: float,
) -> Finding:
    """`log_p` is natural, `effect` in the unit of `limits`."""
    return Finding(
        signal,
        subject,
        layer,
        float(value),
        float(reference),
        round(float(n)),
        limits.warn,
        limits.critical,
        float(floor),
        float(log_p) / LN10,
        float(effect) / limits.warn,
    )
