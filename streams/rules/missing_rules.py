"""Tests of the fields that a service may leave out: those that nearly all rows of the baseline state, and that no longer come."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from detectors.shares import lower_limit, upper_limit
from leadline.config import Rules
from streams.counting.layout import Layout, Vector
from streams.counting.stated import NEARLY_ALL, baseline_stated, rows_stating, stated_fields
from streams.rules.baseline import Baseline
from streams.rules.finding import Finding
from streams.rules.looks import Looks
from streams.rules.share_rule import LIMIT_ALPHA, share_findings


class MissingRules:
    """The share of rows without a field. A field that the baseline often lacks is nobody's promise: nothing is said of it."""

    signals = frozenset({"missing_rate"})
    tests = 0  # as many as the baseline states fields: `expected`

    def __init__(self, layout: Layout, rules: Rules) -> None:
        self.layout, self.rules, self.subjects = layout, rules, stated_fields(layout)
        self.disabled = "missing_rate" in rules.disabled

    def expected(self, baseline: Baseline | None) -> int:
        """How many fields are tested against a baseline."""
        return 0 if baseline is None or self.disabled else int(np.isfinite(baseline.unstated[:, 0]).sum())

    def limits(self, baseline: Vector) -> npt.NDArray[np.float64]:
        """[fields, 3]: the share of the baseline's rows without the field and its limits; NaN where it was not nearly always stated."""
        stated, asked = baseline_stated(self.layout, baseline)
        expected = (asked >= self.rules.minimum_rows) & (stated >= NEARLY_ALL * asked)
        limits = np.full((len(self.subjects), 3), np.nan)
        if expected.any():
            n = asked[expected]
            missing = np.maximum(n - stated[expected], 0.0)
            bounds = lower_limit(missing, n, LIMIT_ALPHA), upper_limit(missing, n, LIMIT_ALPHA)
            limits[expected] = np.stack([missing / n, *bounds], axis=1)
        return limits

    def findings(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        """Signals of the spans' rows."""
        if self.disabled:
            return
        rule, limits, rows = self.rules.missing_rate, looks.of_base("unstated"), looks.rows
        missing = np.maximum(rows[:, None] - rows_stating(self.layout, looks.vectors), 0.0)
        # NaN, where nothing is expected, is no rise.
        far = missing / np.maximum(rows, 1.0)[:, None] - limits[:, :, 0] >= rule.warn
        for look, at in np.argwhere(far).tolist():
            usual, low, high = limits[look, at].tolist()
            k, n = float(missing[look, at]), float(rows[look])
            for finding in share_findings(
                "missing_rate", self.subjects[at], "schema", k, n, (usual, low, high), rule, looks.log_alpha
            ):
                yield look, finding
