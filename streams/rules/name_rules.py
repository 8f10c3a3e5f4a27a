"""Tests of names that a baseline knows: the pipeline that made the features, the libraries that a service runs."""

from __future__ import annotations

from collections.abc import Iterator

from leadline.config import Rules
from streams.counting.layout import Layout, Vector
from streams.rules.baseline import Baseline
from streams.rules.finding import Finding
from streams.rules.share_rule import LIMIT_ALPHA, share_findings

NAMED = (("pipeline_fingerprint", "pipeline"), ("runtime_version", "runtime"))


class NameRules:
    """The share of rows with a name that the baseline has never seen. Names are hashed: one in a few dozen hides behind a known one."""

    def __init__(self, layout: Layout, rules: Rules) -> None:
        self.layout, self.rules = layout, rules
        self.tests = len(NAMED)

    def findings(self, vector: Vector, base: Baseline, log_alpha: float) -> Iterator[Finding]:
        """Signals of the span's rows; nothing where the baseline knows no name."""
        for signal, section in NAMED:
            n = self.layout.one(vector, f"{section}_rows")
            m = self.layout.one(base.vector, f"{section}_rows")
            if n < self.rules.minimum_rows or m < self.rules.minimum_rows:
                continue
            unknown = self.layout.part(vector, section)[self.layout.part(base.vector, section) <= 0]
            # A row states several libraries: each is counted by itself, the most frequent unknown one is told.
            k = float(unknown.max(initial=0.0))
            if k > 0:
                limits = (0.0, 0.0, 1 - LIMIT_ALPHA ** (1 / m))
                yield from share_findings(signal, None, "schema", k, n, limits, getattr(self.rules, signal), log_alpha)
