"""The test of a share over a stack of looks: all effects at once, then the exact test of those that matter."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from leadline.alert import Layer
from leadline.config import Limits
from streams.rules.finding import Finding
from streams.rules.looks import Floats, Looks
from streams.rules.share_rule import share_findings


def shares_of_looks(
    looks: Looks,
    signal: str,
    subject: str | None,
    layer: Layer,
    k: Floats,
    n: Floats,
    limits: Floats,
    rule: Limits,
    *,
    two_sided: bool = False,
    side: str = "upper",
    least: float = 1.0,
) -> Iterator[tuple[int, Finding]]:
    """`share_findings` of k of n, [looks] each, where n is at least `least`; `limits` [looks, 3], NaN where the reference has none."""
    delta = k / np.maximum(n, 1.0) - limits[:, 0]
    effect = np.abs(delta) if two_sided else (delta if side == "upper" else -delta)
    for at in np.flatnonzero((effect >= rule.warn) & (n >= least)).tolist():
        usual, low, high = limits[at].tolist()
        for finding in share_findings(
            signal,
            subject,
            layer,
            float(k[at]),
            float(n[at]),
            (usual, low, high),
            rule,
            looks.log_alpha,
            two_sided=two_sided,
            side=side,
        ):
            yield at, finding
