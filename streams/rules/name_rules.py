"""Tests of names that a baseline knows: the pipeline that made the features, the libraries that a service runs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from leadline.config import Rules
from streams.counting.layout import Layout
from streams.rules.finding import Finding
from streams.rules.looks import Looks
from streams.rules.share_rule import LIMIT_ALPHA, share_findings

NAMED = (("pipeline_fingerprint", "pipeline"), ("runtime_version", "runtime"))


class NameRules:
    """The share of rows with a name that the baseline has never seen. Names are hashed: one in a few dozen hides behind a known one."""

    signals = frozenset(signal for signal, _ in NAMED)
    tests = len(NAMED)

    def __init__(self, layout: Layout, rules: Rules) -> None:
        self.layout, self.rules = layout, rules

    def findings(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        """Signals of the spans' rows; nothing where the baseline knows no name."""
        layout, least = self.layout, self.rules.minimum_rows
        for signal, section in NAMED:
            stated = looks.one(f"{section}_rows")
            for at in np.flatnonzero(stated >= least).tolist():
                known = looks.base(at).vector
                m = layout.one(known, f"{section}_rows")
                if m < least:
                    continue
                unknown = layout.part(looks.vectors[at], section)[layout.part(known, section) <= 0]
                # A row states several libraries: each is counted by itself, the most frequent unknown one is told.
                k = float(unknown.max(initial=0.0))
                if k > 0:
                    limits, rule = (0.0, 0.0, 1 - LIMIT_ALPHA ** (1 / m)), getattr(self.rules, signal)
                    n = float(stated[at])
                    for finding in share_findings(signal, None, "schema", k, n, limits, rule, looks.log_alpha):
                        yield at, finding
