"""Rules between cells: values of a protected segment name against each other, and treatments against the control group.

Gaps between groups are held against the reference's own gap. Their limits are exact or hold without any approximation (Clopper &
Pearson, Bernstein): among many small groups the largest gap is large by noise alone. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from detectors.fairness import GroupGap, calibration_difference, calibration_gaps, largest_gap
from detectors.shares import lower_limit, upper_limit
from leadline.alert import Layer
from leadline.config import Limits, Model, Rules
from streams.counting.layout import Layout, Vector
from streams.figures.outcome_figures import business_mean
from streams.judge.incidents import Firing, Where
from streams.judge.spans import Spans
from streams.rules.finding import Finding, found
from streams.rules.outcome_tests import lift_findings

LIMIT_ERRORS = 3.0  # the reference's own gap may be so many of its standard errors larger
RATES = {
    "demographic_parity_difference": "model",
    "true_positive_rate_difference": "outcome",
    "false_positive_rate_difference": "outcome",
}
FAIRNESS = (*RATES, "calibration_difference")


class Counted(NamedTuple):
    """Hits of rows, [groups] each."""

    hits: Vector
    rows: Vector


def rates(layout: Layout, table: Vector) -> dict[str, Counted]:
    """What the gaps compare: `table` [groups, slots] of a binary model."""
    table = np.maximum(table, 0.0)
    tn, fp, fn, tp = layout.part(table, "confusion").T
    rows = layout.part(table, "rows")[:, 0]
    return {
        "demographic_parity_difference": Counted(layout.part(table, "predicted_positive")[:, 0], rows),
        "true_positive_rate_difference": Counted(tp, tp + fn),
        "false_positive_rate_difference": Counted(fp, fp + tn),
    }


def calibration(layout: Layout, table: Vector) -> tuple[Vector, Vector, Vector]:
    """Rows, sum of scores and positives of each group."""
    table = np.maximum(table, 0.0)
    rows, scores, hits = (
        layout.part(table, f"calibration_{part}").sum(axis=1) for part in ("rows", "scores", "positives")
    )
    return rows, scores, hits


class GroupRules:
    """Of one model. `reference` gives the reference's vectors by segment."""

    def __init__(self, layout: Layout, reference: Mapping[str | None, Vector], rules: Rules, model: Model) -> None:
        self.layout, self.reference, self.rules = layout, reference, rules
        self.protected = model.protected if layout.task == "binary" else ()
        self.control = model.control if layout.business else None
        self.tests = len(FAIRNESS) * len(self.protected) + (len(layout.business) if self.control else 0)

    def names(self) -> list[str]:
        """Segment names whose cells are to be compared."""
        control = [self.control.partition("=")[0]] if self.control else []
        return sorted({*self.protected, *control})

    def firings(
        self,
        cells: Mapping[Where, Spans],
        closing: Iterable[tuple[int, int, Where]],
        pane_s: float,
        when: float,
        alpha: float,
    ) -> list[Firing]:
        """Over the spans that all traffic is looked at: `closing` are its (level, block, cell), `when` their end."""
        found_now: list[Firing] = []
        for level, block, whole in closing:
            for count, _ in cells[whole].looks(level, block, self.rules.minimum_rows):
                start = (block - count + 1 << level) * pane_s
                for name in self.names():
                    groups = {
                        where.segment: spans.dense(members)
                        for where, spans in cells.items()
                        if where.segment is not None
                        and where[:2] == whole[:2]
                        and where.segment.startswith(f"{name}=")
                        and (members := spans.members(level, count, block))
                    }
                    for segment, finding in self.findings(groups, alpha):
                        where = whole._replace(segment=segment)
                        found_now.append(Firing(where, finding, start, when, (level, count, block)))
        return found_now

    def findings(self, groups: Mapping[str, Vector], alpha: float) -> Iterator[tuple[str | None, Finding]]:
        """`groups` are the segments of one name. Yields (segment that it is about, None for all of them, finding)."""
        name = next(iter(groups), "").partition("=")[0]
        if name in self.protected:
            for finding in self._fairness(name, groups, alpha):
                if finding.signal not in self.rules.disabled:
                    yield None, finding
        if self.control in groups and "business_lift_control" not in self.rules.disabled:
            yield from self._against_control(groups, math.log(alpha))

    def _against_control(self, groups: Mapping[str, Vector], log_alpha: float) -> Iterator[tuple[str | None, Finding]]:
        assert self.control is not None
        for value in self.layout.business:
            usual = business_mean(self.layout, groups[self.control], value)
            if usual is None:
                continue
            for segment, vector in groups.items():
                live = business_mean(self.layout, vector, value) if segment != self.control else None
                if live is not None:
                    for finding in lift_findings("business_lift_control", value, live, usual, self.rules, log_alpha):
                        yield segment, finding

    def _fairness(self, name: str, groups: Mapping[str, Vector], alpha: float) -> Iterator[Finding]:
        both = [segment for segment in sorted(groups) if segment in self.reference]
        if len(both) < 2:
            return
        table = np.array([groups[segment] for segment in both])
        usual = np.array([self.reference[segment] for segment in both])
        live_rates, usual_rates = rates(self.layout, table), rates(self.layout, usual)
        pairs = len(both) * (len(both) - 1) / 2
        for signal, layer in RATES.items():
            live, before = live_rates[signal], usual_rates[signal]
            own = largest_gap(before.hits, before.rows)
            gap = largest_gap(live.hits, live.rows)
            if not float(gap.value) - float(own.value) >= self.rules.fairness.warn:
                continue
            low = lower_limit(live.hits, live.rows, alpha / (2 * pairs))
            high = upper_limit(live.hits, live.rows, alpha / (2 * pairs))
            sure = float((low[:, None] - high[None, :]).max())
            yield from self._past(signal, name, layer, gap, own, sure, float(live.rows.sum()), alpha)
        rows, scores, hits = calibration(self.layout, table)
        gap = calibration_difference(calibration_gaps(rows, scores, hits))
        own = calibration_difference(calibration_gaps(*calibration(self.layout, usual)))
        if float(gap.value) - float(own.value) >= self.rules.fairness.warn:
            width = _bernstein(rows, scores, hits, math.log(2 * pairs / alpha))
            miss = np.where(rows > 0, (scores - hits) / np.maximum(rows, 1.0), np.nan)
            sure = float(np.nanmax((miss - width)[:, None] - (miss + width)[None, :]))
            yield from self._past("calibration_difference", name, "outcome", gap, own, sure, float(rows.sum()), alpha)

    def _past(
        self, signal: str, name: str, layer: str, gap: GroupGap, own: GroupGap, sure: float, n: float, alpha: float
    ) -> Iterator[Finding]:
        """`sure`: what a pair differs by at the least. It must pass the reference's own gap with its errors."""
        value, usual, error = (float(part) for part in (gap.value, own.value, own.se))
        rule: Limits = self.rules.fairness
        if sure > usual + LIMIT_ERRORS * error and n >= self.rules.minimum_rows:
            kind: Layer = "model" if layer == "model" else "outcome"
            floor = value - sure
            yield found(signal, name, kind, value, usual, n, rule, floor, math.log(alpha), value - usual)


def _bernstein(rows: Vector, scores: Vector, hits: Vector, exponent: float) -> Vector:
    """How far a group's share of positives strays from what its scores mean, at odds of exp(-exponent)."""
    mean, seen = (np.clip(part / np.maximum(rows, 1.0), 0.0, 1.0) for part in (scores, hits))
    variance = np.maximum(mean * (1.0 - mean), seen * (1.0 - seen))
    third = exponent / 3.0
    return np.asarray((third + np.sqrt(third**2 + 2.0 * rows * variance * exponent)) / np.maximum(rows, 1.0))
