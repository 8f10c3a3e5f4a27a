"""Who is affected: the smallest set of rows that explains a finding, and the most causal signal seen there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from streams.counting.layout import Vector
from streams.judge.incidents import Firing, Where
from streams.judge.recovery import scaled
from streams.judge.spans import Look, Spans
from streams.judge.variation import Variation
from streams.rules.baseline import Baseline
from streams.rules.evaluate import Evaluator
from streams.rules.fact_rules import FACTS
from streams.rules.finding import Finding

CLEAN_SHARE = 0.25  # a complement with less than this share of the effect is not affected
SAME_EFFECT = 0.6  # cells within this share of the largest effect are affected alike: the largest of them is named
LEAST_COMPLEMENT = 0.15  # a complement smaller than this share of the cell proves nothing
UPSTREAM_ALPHA = 1e-4
LEAST_ROWS, LEAST_PER_CLASS = (
    10,
    5,
)  # a cell's share of an alarm's rows is small: what compares effects needs fewer than what alarms
LEAST_FACTS = 5  # a single row with NaN lies in some segment: that says nothing of the segment
NOISE_SHRINKS = ("psi", "js_divergence")  # their noise floors fall as 1/n
SOLID_ROWS = (
    20  # the largest effect is taken over cells of at least so many rows: in smaller ones noise alone is larger
)


class Affected(NamedTuple):
    """Where the fault is, its finding there, and the share of the span's rows that it holds."""

    where: Where
    finding: Finding
    share: float


class Scoper:
    """Compares a finding's effect in each cell with what is left without that cell."""

    def __init__(self, evaluator: Evaluator, variation: Variation) -> None:
        self.evaluator, self.variation = evaluator, variation
        fewer = {"minimum_rows": LEAST_ROWS, "minimum_per_class": LEAST_PER_CLASS}
        sensitive = scaled(evaluator.rules, 1e-3).model_copy(update=fewer)
        self.sensitive = Evaluator(evaluator.reference, sensitive, evaluator.latency_slo_ms)
        self._complements: dict[str, Baseline | None] = {}

    @staticmethod
    def _told(finding: Finding | None, like: Finding) -> Finding:
        """The cell's figures under the limit that people set, and the noise floor of an alarm for so many rows: comparing used neither."""
        if finding is None or finding.threshold <= 0:
            return like
        floor = like.floor * like.n / max(finding.n, 1) if like.signal in NOISE_SHRINKS and like.n else finding.floor
        strength = finding.strength * finding.threshold / like.threshold
        return finding._replace(threshold=like.threshold, critical=like.critical, strength=strength, floor=floor)

    def _effect(self, vector: Vector, baseline: Baseline, like: Finding) -> tuple[float, Finding | None]:
        finding = self.sensitive.first(vector, baseline, 0.5, like)
        return (finding.strength * finding.threshold, finding) if finding is not None else (0.0, None)

    def _complement(self, segment: str) -> Baseline | None:
        """The reference without a segment; None where too few rows are left of it. Worked out once a reference."""
        if segment not in self._complements:
            whole, own = self.evaluator.baseline(None), self.evaluator.baseline(segment)
            assert whole is not None
            assert own is not None
            left = whole.vector - own.vector
            enough = left[self.evaluator.layout.offset("rows")] >= self.evaluator.rules.minimum_rows
            self._complements[segment] = self.evaluator.prepare(left) if enough else None
        return self._complements[segment]

    def narrow(self, firing: Firing, cells: Mapping[Where, Spans]) -> Affected:
        """The smallest cell whose absence leaves the rest of the traffic as it should be; the whole where there is none."""
        level, count, block = firing.look
        whole = Where(None, firing.where.stage, None)
        like = firing.finding
        rows_slot = self.evaluator.layout.offset("outcomes" if firing.finding.layer == "outcome" else "rows")

        def span(where: Where) -> Vector | None:
            spans = cells.get(where)
            members = spans.members(level, count, block) if spans is not None else []
            return spans.dense(members) if spans is not None and members else None

        everything, base = span(whole), self.evaluator.baseline(None)
        if everything is None or base is None:
            return Affected(firing.where, firing.finding, 1.0)
        total = max(float(everything[rows_slot]), 1.0)
        acceptable: list[tuple[float, float, Where]] = []
        few = like.signal in FACTS and like.value * like.n < LEAST_FACTS
        for where in () if few else cells:
            if where == whole or where.stage != whole.stage:
                continue
            vector, own_base = span(where), self.evaluator.baseline(where.segment)
            if vector is None or own_base is None:
                continue
            own, _ = self._effect(vector, own_base, like)
            rest_rows = total - vector[rows_slot]
            if own <= 0 or rest_rows < max(LEAST_ROWS, LEAST_COMPLEMENT * vector[rows_slot]):
                continue
            rest_base: Baseline | None = base
            if where.segment is not None and where.version is None:
                rest_base = self._complement(where.segment)
                if rest_base is None:
                    continue
            assert rest_base is not None
            rest, _ = self._effect(everything - vector, rest_base, like)
            if rest <= CLEAN_SHARE * own:
                acceptable.append((own, float(vector[rows_slot]), where))
        if not acceptable:
            effect, finding = self._effect(everything, base, like)
            told = self._among_spans(whole, firing.look, self._told(finding, like))
            # Of all traffic the same may be no news: then it is the cell's that fired.
            return Affected(whole, told, 1.0) if effect > 0 and told is not None else Affected(firing.where, like, 1.0)
        solid = [own for own, rows, _ in acceptable if rows >= SOLID_ROWS]
        best = max(solid or [own for own, _, _ in acceptable])
        _, rows, where = max(
            ((own, rows, where) for own, rows, where in acceptable if own >= SAME_EFFECT * best),
            key=lambda item: (item[1], str(item[2])),
        )
        if where == firing.where:
            return Affected(where, like, rows / total)
        vector, own_base = span(where), self.evaluator.baseline(where.segment)
        assert vector is not None
        assert own_base is not None
        _, finding = self._effect(vector, own_base, like)
        told = self._among_spans(where, firing.look, self._told(finding, like))
        return Affected(where, told if told is not None else like, rows / total)

    def _among_spans(self, where: Where, look: Look, finding: Finding) -> Finding | None:
        """The finding with what is left of its chance in that cell; None where such spans are so by themselves."""
        judged, passes = self.variation.judged(where, look, finding, math.log(UPSTREAM_ALPHA))
        return judged if passes or judged.design_effect <= 1.0 else None

    def causes(self, firing: Firing, where: Where, cells: Mapping[Where, Spans]) -> list[Finding]:
        """What else stands out in that cell and span: a weaker door than an alert's, because something is known to be wrong."""
        level, count, block = firing.look
        spans = cells.get(where)
        base = self.evaluator.baseline(where.segment)
        if spans is None or base is None:
            return []
        found = self.evaluator.findings(spans.dense(spans.members(level, count, block)), base, UPSTREAM_ALPHA)
        judged = self.variation.among(where, firing.look, found, math.log(UPSTREAM_ALPHA))
        return [finding for finding, passes in judged if passes]
