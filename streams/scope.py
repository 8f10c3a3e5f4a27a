"""Who is affected: the smallest set of rows that explains a finding, and the most causal signal seen there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from leadline.config import Limits, Rules
from streams.baseline import Baseline
from streams.evaluate import Evaluator
from streams.finding import Finding
from streams.incidents import Firing, Where
from streams.layout import Vector
from streams.spans import Spans

CLEAN_SHARE = 0.25  # a complement with less than this share of the effect is not affected
SAME_EFFECT = 0.6  # cells within this share of the largest effect are affected alike: the largest of them is named
LEAST_COMPLEMENT = 0.15  # a complement smaller than this share of the cell proves nothing
UPSTREAM_ALPHA = 1e-4
LEAST_ROWS, LEAST_PER_CLASS = (
    10,
    5,
)  # a cell's share of an alarm's rows is small: what compares effects needs fewer than what alarms
SOLID_ROWS = (
    20  # the largest effect is taken over cells of at least so many rows: in smaller ones noise alone is larger
)


def scaled(rules: Rules, factor: float) -> Rules:
    """The same rules with every effect limit times `factor`."""
    limits = {
        name: Limits(warn=value.warn * factor, critical=value.critical)
        for name in Rules.model_fields
        if isinstance(value := getattr(rules, name), Limits) and name != "output_collapse"
    }
    lift = {name: value.model_copy(update={"warn": value.warn * factor}) for name, value in rules.lift.items()}
    return rules.model_copy(update={**limits, "lift": lift})


class Affected(NamedTuple):
    """Where the fault is, its finding there, and the share of the span's rows that it holds."""

    where: Where
    finding: Finding
    share: float


class Scoper:
    """Compares a finding's effect in each cell with what is left without that cell."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        fewer = {"minimum_rows": LEAST_ROWS, "minimum_per_class": LEAST_PER_CLASS}
        sensitive = scaled(evaluator.rules, 1e-3).model_copy(update=fewer)
        self.sensitive = Evaluator(evaluator.reference, sensitive, evaluator.latency_slo_ms)

    def _effect(self, vector: Vector, baseline: Baseline, key: tuple[str, str | None]) -> tuple[float, Finding | None]:
        for finding in self.sensitive.findings(vector, baseline, 0.5):
            if finding.key == key:
                return finding.strength * finding.threshold, finding
        return 0.0, None

    def narrow(self, firing: Firing, cells: Mapping[Where, Spans]) -> Affected:
        """The smallest cell whose absence leaves the rest of the traffic as it should be; the whole where there is none."""
        level, count, block = firing.look
        whole = Where(None, firing.where.stage, None)
        key = firing.finding.key
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
        for where in cells:
            if where == whole or where.stage != whole.stage:
                continue
            vector, own_base = span(where), self.evaluator.baseline(where.segment)
            if vector is None or own_base is None:
                continue
            own, _ = self._effect(vector, own_base, key)
            rest_rows = total - vector[rows_slot]
            if own <= 0 or rest_rows < max(LEAST_ROWS, LEAST_COMPLEMENT * vector[rows_slot]):
                continue
            rest_base = base
            if where.segment is not None and where.version is None:
                left = base.vector - own_base.vector
                if left[self.evaluator.layout.offset("rows")] < self.evaluator.rules.minimum_rows:
                    continue
                rest_base = self.evaluator.prepare(left)
            rest, _ = self._effect(everything - vector, rest_base, key)
            if rest <= CLEAN_SHARE * own:
                acceptable.append((own, float(vector[rows_slot]), where))
        if not acceptable:
            effect, finding = self._effect(everything, base, key)
            return (
                Affected(whole, finding or firing.finding, 1.0)
                if effect > 0
                else Affected(firing.where, firing.finding, 1.0)
            )
        solid = [own for own, rows, _ in acceptable if rows >= SOLID_ROWS]
        best = max(solid or [own for own, _, _ in acceptable])
        _, rows, where = max(
            ((own, rows, where) for own, rows, where in acceptable if own >= SAME_EFFECT * best),
            key=lambda item: (item[1], str(item[2])),
        )
        vector, own_base = span(where), self.evaluator.baseline(where.segment)
        assert vector is not None
        assert own_base is not None
        _, finding = self._effect(vector, own_base, key)
        return Affected(where, finding or firing.finding, rows / total)

    def causes(self, firing: Firing, where: Where, cells: Mapping[Where, Spans]) -> list[Finding]:
        """What else stands out in that cell and span: a weaker door than an alert's, because something is known to be wrong."""
        level, count, block = firing.look
        spans = cells.get(where)
        base = self.evaluator.baseline(where.segment)
        if spans is None or base is None:
            return []
        return self.evaluator.findings(spans.dense(spans.members(level, count, block)), base, UPSTREAM_ALPHA)
