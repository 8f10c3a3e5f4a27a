"""Tests of the data layer that are not of one distribution: unknown categories, schema, rows out of distribution."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from detectors.shares import upper_limit
from leadline.config import Rules
from streams.counting.layout import Vector
from streams.counting.references import Reference
from streams.rules.baseline import Baseline
from streams.rules.finding import Finding
from streams.rules.share_rule import LIMIT_ALPHA, share_findings
from streams.rules.subjects import Subjects


class DataRules:
    """Needs features; a reference without any has nothing to test here."""

    def __init__(self, reference: Reference, rules: Rules, subjects: Subjects) -> None:
        self.layout, self.rules, self.subjects = reference.layout, rules, subjects
        self.whole = reference.cell(None)
        self.tests = len(subjects.all) + len(subjects.absent) + 2

    def findings(self, vector: Vector, base: Baseline, alpha: float, rows: float) -> Iterator[Finding]:
        """Signals of the span's rows."""
        rules, log_alpha = self.rules, math.log(alpha)
        if not self.subjects.all:
            return
        for at, slot in self.subjects.categorical:
            k = vector[slot]
            if k > 0:
                # Against the whole reference, never a small segment's: there a known value may simply not have come.
                m = self.layout.one(self.whole, "rows") if self.whole is not None else base.rows
                yield from share_findings(
                    "new_category_rate",
                    self.subjects.names[at],
                    "data",
                    k,
                    rows,
                    (0.0, 0.0, 1 - LIMIT_ALPHA ** (1 / max(m, 1))),
                    rules.new_category_rate,
                    log_alpha,
                )
        for at in np.flatnonzero(vector[self.subjects.absent] > 0).tolist():
            limits = (0.0, 0.0, float(upper_limit(0, base.rows, LIMIT_ALPHA)))
            yield from share_findings(
                "absent_rate",
                self.subjects.names[at],
                "schema",
                vector[self.subjects.absent[at]],
                rows,
                limits,
                rules.schema_rate,
                log_alpha,
            )
        extra = self.layout.one(vector, "extra")
        if extra:
            yield from share_findings(
                "extra_feature_rate",
                None,
                "schema",
                extra,
                rows,
                base.limits["extra"],
                rules.schema_rate,
                log_alpha,
            )
        out = self.layout.one(vector, "out_of_distribution")
        yield from share_findings(
            "out_of_distribution_rate",
            None,
            "data",
            out,
            rows,
            base.limits["out_of_distribution_rate"],
            rules.out_of_distribution_rate,
            log_alpha,
        )
