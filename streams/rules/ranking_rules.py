"""How well a binary model's scores rank: AUC, and average precision at the live share of positives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from detectors.auc import auc_from_histograms, hanley_mcneil_se, highest_precision, tied_precision
from detectors.shares import normal_log_p
from leadline.config import Rules
from streams.rules.finding import Finding, found
from streams.rules.looks import Floats, Looks
from streams.rules.screen import SLACK, precision_at_most


class RankingRules:
    """Both classes must have come often enough, and the reference must have an AUC."""

    signals = frozenset({"auc", "average_precision"})
    tests = 2

    def __init__(self, rules: Rules) -> None:
        self.rules = rules

    def findings(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        """Signals of the spans' joined rows."""
        p, n = looks.counted("positives").sum(axis=1), looks.counted("negatives").sum(axis=1)
        heard = (np.minimum(p, n) >= self.rules.minimum_per_class) & np.isfinite(looks.of_base("auc"))
        at = np.flatnonzero(heard)
        if not len(at):
            return
        pos, neg = looks.counted("positives")[at], looks.counted("negatives")[at]
        for signal, find in (("auc", self._auc), ("average_precision", self._average_precision)):
            if not looks.wants(signal):
                continue
            for place, finding in find(looks, at.tolist(), pos, neg, p[at], n[at]):
                yield int(at[place]), finding

    def _auc(
        self, looks: Looks, at: list[int], pos: Floats, neg: Floats, p: Floats, n: Floats
    ) -> Iterator[tuple[int, Finding]]:
        rule = self.rules.auc
        some = np.flatnonzero((pos + neg).any(axis=0))  # integers: empty bins change nothing, not even a last digit
        auc = auc_from_histograms(pos[:, some], neg[:, some])
        usual = looks.of_base("auc")[at]
        drop = usual - (auc.value + auc.bound)
        fallen = np.flatnonzero(drop >= rule.warn)
        errors = hanley_mcneil_se(usual[fallen], p[fallen], n[fallen])
        for place, own in zip(fallen.tolist(), errors.tolist(), strict=True):
            base = looks.base(at[place])
            error, effect = (own**2 + base.auc_se**2) ** 0.5, float(drop[place])
            log_p = float(normal_log_p(effect / error, "upper"))
            # An alarm's alpha lies far beyond three errors; what compares cells asks for the drop alone.
            if log_p <= looks.log_alpha:
                value, rows = float(auc.value[place]), float(p[place] + n[place])
                yield place, found("auc", None, "outcome", value, base.auc, rows, rule, 3 * error, log_p, effect)

    def _average_precision(
        self, looks: Looks, at: list[int], pos: Floats, neg: Floats, p: Floats, n: Floats
    ) -> Iterator[tuple[int, Finding]]:
        """It falls with the share of positives, without any fault: the reference's is taken at the live share."""
        rule = self.rules.average_precision
        bases = [looks.base(look) for look in at]
        weights = [
            rows / hits * base.positives / base.negatives
            for hits, rows, base in zip(p.tolist(), n.tolist(), bases, strict=True)
        ]
        most = np.array([base.precision.at_most(weight) for base, weight in zip(bases, weights, strict=True)])
        suspects = np.flatnonzero(most >= rule.warn - SLACK)
        suspects = suspects[(most[suspects] - precision_at_most(pos[suspects], neg[suspects])) >= rule.warn - SLACK]
        if not len(suspects):
            return
        high = highest_precision(pos[suspects], neg[suspects])
        known = np.array([bases[place].precision.pos for place in suspects])
        others = np.array([weights[place] * bases[place].precision.neg for place in suspects])
        usual = tied_precision(known, others)
        fallen = np.flatnonzero(usual - high >= rule.warn)
        values = tied_precision(pos[suspects[fallen]], neg[suspects[fallen]])
        for q, value in zip(fallen.tolist(), values.tolist(), strict=True):
            place, before, drop = int(suspects[q]), float(usual[q]), float(usual[q]) - float(high[q])
            hits, rows = float(p[place]), float(n[place])
            error = (max(before * (1.0 - before), 1e-6) * (1.0 / hits + 1.0 / bases[place].positives)) ** 0.5
            log_p = float(normal_log_p(drop / error, "upper"))
            if log_p <= looks.log_alpha:
                n_all, floor = hits + rows, 3 * error
                yield (
                    place,
                    found("average_precision", None, "outcome", value, before, n_all, rule, floor, log_p, drop),
                )
