"""Outcome rules of a regression."""

from __future__ import annotations

from collections.abc import Iterator

from detectors.classification import mean_from_sums
from detectors.shares import Estimate, normal_log_p
from leadline.config import Rules
from streams.counting.delay_mix import aged_sums, same_age
from streams.counting.figure import number
from streams.counting.layout import Vector
from streams.counting.references import Reference
from streams.figures.value_figures import value_metrics
from streams.rules.baseline import Baseline
from streams.rules.finding import Finding, found
from streams.rules.looks import Looks
from streams.rules.outcome_tests import mean_findings


class ValueRules:
    """Mean and root mean square of the errors, bias, R2."""

    signals = frozenset({"mae", "rmse", "bias", "r2"})
    tests = 4

    def __init__(self, reference: Reference, rules: Rules) -> None:
        self.rules, self.layout = rules, reference.layout

    def findings(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        """Signals of the spans' joined rows; effects are shares of what the reference had."""
        for at in range(len(looks)):
            for finding in self._of_one(looks.vectors[at], looks.base(at), looks.log_alpha):
                yield at, finding

    def _of_one(self, vector: Vector, base: Baseline, log_alpha: float) -> Iterator[Finding]:
        layout, rules = self.layout, self.rules
        n, m = layout.one(vector, "error_rows"), layout.one(base.vector, "error_rows")
        if n < rules.minimum_rows or m < rules.minimum_rows:
            return
        usual_rmse = (max(layout.one(base.vector, "squared_error"), 0.0) / m) ** 0.5
        if usual_rmse <= 0:
            return
        yield from self._mean_absolute_error(vector, base, log_alpha)
        live, usual = self._mean(vector, "squared_error"), self._mean(base.vector, "squared_error")
        growth = max(number(live.value) / number(usual.value), 0.0) ** 0.5 - 1.0
        # By the mean square, whose error is the mean's; what is shown is its root.
        for finding in mean_findings("rmse", None, live, usual, rules.root_mean_squared_error, log_alpha, growth):
            value = finding.value**0.5
            yield finding._replace(value=value, reference=usual_rmse, floor=finding.floor / (value + usual_rmse))
        live, usual = self._mean(vector, "error"), self._mean(base.vector, "error")
        moved = abs(number(live.value) - number(usual.value)) / usual_rmse
        yield from mean_findings("bias", None, live, usual, rules.bias, log_alpha, moved)
        yield from self._explained(vector, base, log_alpha)

    def _mean(self, vector: Vector, section: str) -> Estimate:
        squares = {
            "error": "squared_error",
            "absolute_error": "squared_error",
            "squared_error": "squared_error_squares",
        }
        layout = self.layout
        return mean_from_sums(
            layout.one(vector, "error_rows"), layout.one(vector, section), layout.one(vector, squares[section])
        )

    def _mean_absolute_error(self, vector: Vector, base: Baseline, log_alpha: float) -> Iterator[Finding]:
        """Against reference labels that took as long, where the reference knows how long they took."""
        live, usual = self._mean(vector, "absolute_error"), self._mean(base.vector, "absolute_error")
        if base.aged:
            compared = same_age(aged_sums(self.layout, vector), aged_sums(self.layout, base.vector))
            if compared is not None and number(compared.live.n) >= 0.5 * number(live.n):
                live, usual = compared
        growth = number(live.value) / number(usual.value) - 1.0 if number(usual.value) > 0 else 0.0
        yield from mean_findings("mae", None, live, usual, self.rules.mean_absolute_error, log_alpha, growth)

    def _explained(self, vector: Vector, base: Baseline, log_alpha: float) -> Iterator[Finding]:
        """R2 that fell. Its error takes the tails of the live errors, and the normal law for the spread of the labels."""
        live, usual = value_metrics(self.layout, vector), value_metrics(self.layout, base.vector)
        value, before, n = number(live.r2.value), number(usual.r2.value), number(live.r2.n)
        rule = self.rules.r2
        drop = before - value
        if not drop >= rule.warn:
            return
        square = self._mean(vector, "squared_error")
        of_errors = (number(square.se) / number(square.value)) ** 2
        error = (1.0 - value) * (of_errors + 4.0 / n + 4.0 / number(usual.r2.n)) ** 0.5
        log_p = float(normal_log_p(drop / error, "upper"))
        if log_p <= log_alpha:
            yield found("r2", None, "outcome", value, before, n, rule, 3 * error, log_p, drop)
