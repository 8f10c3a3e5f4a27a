"""Tests of the data layer that are shares of rows: nulls, invalid values, unknown categories, schema, rows out of distribution."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from detectors.shares import upper_limit
from leadline.alert import Layer
from leadline.config import Limits, Rules
from streams.counting.references import Reference
from streams.counting.subjects import Subjects
from streams.rules.finding import Finding
from streams.rules.looks import Looks
from streams.rules.share_looks import shares_of_looks
from streams.rules.share_rule import LIMIT_ALPHA, share_findings


class DataRules:
    """Needs features; a reference without any has nothing to test here."""

    signals = frozenset(
        {"null_rate", "invalid_rate", "new_category_rate", "absent_rate", "extra_feature_rate"}
        | {"out_of_distribution_rate"}
    )

    def __init__(self, reference: Reference, rules: Rules, subjects: Subjects) -> None:
        self.rules, self.subjects = rules, subjects
        whole = reference.cell(None)
        self.reference_rows = reference.layout.one(whole, "rows") if whole is not None else None
        self.tests = 3 * len(subjects.all) + len(subjects.absent) + 2

    def findings(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        """Signals of the spans' rows."""
        rules = self.rules
        if not self.subjects.all:
            return
        yield from self._special("null_rate", looks, rules.null_rate)
        yield from self._special("invalid_rate", looks, rules.invalid_rate)
        yield from self._never_seen(looks)
        of_rows: tuple[tuple[str, Layer, str, Limits], ...] = (
            ("extra_feature_rate", "schema", "extra", rules.schema_rate),
            ("out_of_distribution_rate", "data", "out_of_distribution", rules.out_of_distribution_rate),
        )
        for signal, layer, section, rule in of_rows:
            limits, k = looks.limits(signal), looks.one(section)
            yield from shares_of_looks(looks, signal, None, layer, k, looks.rows, limits, rule)

    def _special(self, signal: str, looks: Looks, rule: Limits) -> Iterator[tuple[int, Finding]]:
        """Shares of what is no value."""
        slots = self.subjects.missing if signal == "null_rate" else self.subjects.invalid
        counted, totals = looks.vectors[:, slots], looks.totals
        shares, limits = looks.of_base(f"{signal[:-5]}_share"), looks.of_base(f"{signal[:-5]}_limits")
        for look, at in np.argwhere(np.abs(counted / totals - shares) >= rule.warn).tolist():
            layer: Layer = "model" if self.subjects.sections[at] == "score" else "data"
            of_look = (float(shares[look, at]), float(limits[look, 0, at]), float(limits[look, 1, at]))
            k, n = float(counted[look, at]), float(totals[look, at])
            name = self.subjects.names[at]
            for finding in share_findings(signal, name, layer, k, n, of_look, rule, looks.log_alpha, two_sided=True):
                yield look, finding

    def _never_seen(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        """What the reference has not: unknown categories, and rows without a feature."""
        subjects, rules, vectors = self.subjects, self.rules, looks.vectors
        for at, slot in subjects.categorical:
            for look in np.flatnonzero(vectors[:, slot] > 0).tolist():
                # Against the whole reference, never a small segment's: there a known value may simply not have come.
                m = self.reference_rows if self.reference_rows is not None else looks.base(look).rows
                limits = (0.0, 0.0, 1 - LIMIT_ALPHA ** (1 / max(m, 1)))
                k, n, name = vectors[look, slot], float(looks.rows[look]), subjects.names[at]
                for finding in share_findings(
                    "new_category_rate", name, "data", k, n, limits, rules.new_category_rate, looks.log_alpha
                ):
                    yield look, finding
        absent = vectors[:, subjects.absent]
        for look, at in np.argwhere(absent > 0).tolist():
            limits = (0.0, 0.0, float(upper_limit(0, looks.base(look).rows, LIMIT_ALPHA)))
            k, n, name = absent[look, at], float(looks.rows[look]), subjects.names[at]
            for finding in share_findings(
                "absent_rate", name, "schema", k, n, limits, rules.schema_rate, looks.log_alpha
            ):
                yield look, finding
