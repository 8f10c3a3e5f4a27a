"""Realised outcomes against what the same scores promised in the reference: the sign of concept drift."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from detectors.cbpe import CalibrationMap, Departure, accuracy_departure, auc_departure, positives_departure
from leadline.config import Rules
from streams.rules.finding import Finding, found
from streams.rules.looks import Floats, Integers, Looks, Mask
from streams.rules.screen import departures_are_likely

LARGER_REFERENCE = 5.0  # labelled reference rows for each live one, where the error of the calibration map is left out


class DepartureRules:
    """Of a binary model with a score whose reference has labels: shares of positives and of right answers, and the ranking."""

    signals = frozenset({"realised_minus_estimated"})
    tests = 2

    def __init__(self, rules: Rules, ordered: int) -> None:
        """`ordered`: bins of the score without missing and invalid."""
        self.rules, self.rule, self.ordered = rules, rules.realised_minus_estimated, ordered

    def findings(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        """Signals of the spans' joined rows."""
        labelled, hits = (looks.counted(name)[:, : self.ordered] for name in ("labelled", "labelled_positives"))
        share, signal = looks.of_base("label_share"), "realised_minus_estimated"
        n, positives = labelled.sum(axis=1), hits.sum(axis=1)
        known = (n > 0) & ~np.isnan(share[:, 0])
        noise = _dot(labelled, looks.of_base("label_noise"))
        if looks.wants(signal, "label"):
            for at in self._suspects(np.abs(positives - _dot(labelled, share)), n, noise, known, looks):
                gap = positives_departure(float(positives[at]), labelled[at], _map(looks, at))
                yield from self._departure("label", at, gap, float(n[at]), looks.log_alpha)
        if looks.wants(signal, "accuracy"):
            yield from self._accuracy(looks, labelled, share, noise, known, n)
        before = looks.of_base("positives") + looks.of_base("negatives")
        larger = known & (before >= LARGER_REFERENCE * n)
        enough = np.flatnonzero(larger & (np.minimum(positives, n - positives) >= self.rules.minimum_per_class))
        if len(enough) and looks.wants(signal, "auc"):
            yield from self._ranking(looks, enough, hits[enough], labelled[enough], share[enough], n[enough])

    def _accuracy(
        self, looks: Looks, labelled: Floats, share: Floats, noise: Floats, known: Mask, n: Floats
    ) -> Iterator[tuple[int, Finding]]:
        chosen, confusion = looks.counted("labelled_chosen")[:, : self.ordered], looks.counted("confusion")
        right = confusion[:, 3] + confusion[:, 0]
        promised = _dot(chosen, share) + _dot(labelled - chosen, 1.0 - share)
        same = known & (confusion.sum(axis=1) == n)
        for at in self._suspects(np.abs(right - promised), n, noise, same, looks):
            gap = accuracy_departure(float(right[at]), chosen[at], labelled[at] - chosen[at], _map(looks, at))
            yield from self._departure("accuracy", at, gap, float(n[at]), looks.log_alpha)

    def _suspects(self, miss: Floats, n: Floats, noise: Floats, known: Mask, looks: Looks) -> list[int]:
        far = known & (miss >= self.rule.warn * n)
        if far.any():
            far &= ~departures_are_likely(miss, noise, looks.log_alpha)
        found_at: list[int] = np.flatnonzero(far).tolist()
        return found_at

    def _ranking(
        self, looks: Looks, at: Integers, hits: Floats, labelled: Floats, share: Floats, n: Floats
    ) -> Iterator[tuple[int, Finding]]:
        nothing = np.zeros(0)
        mu = CalibrationMap(share, nothing.astype(np.int64), nothing)  # of a ranking only the shares are asked
        gaps = auc_departure(hits, labelled - hits, mu)
        far = (np.abs(gaps.delta) >= self.rule.warn) & (gaps.log_p <= looks.log_alpha)
        for place in np.flatnonzero(far).tolist():
            gap = Departure(*(part[place] for part in gaps))
            yield from self._departure("auc", int(at[place]), gap, float(n[place]), looks.log_alpha)

    def _departure(
        self, subject: str, at: int, gap: Departure, n: float, log_alpha: float
    ) -> Iterator[tuple[int, Finding]]:
        delta, log_p, rule = abs(float(gap.delta)), float(gap.log_p), self.rule
        if delta >= rule.warn and log_p <= log_alpha:
            signal, value, usual = "realised_minus_estimated", float(gap.realised), float(gap.estimated)
            floor = 3 * float(gap.se)
            yield at, found(signal, subject, "outcome", value, usual, n, rule, floor, log_p, delta)


def _map(looks: Looks, at: int) -> CalibrationMap:
    mu = looks.base(at).calibration
    assert mu is not None
    return mu


def _dot(rows: Floats, weights: Floats) -> Floats:
    """Inner product of each row, as `rows[at] @ weights[at]` gives it to the last digit."""
    return np.asarray(np.matmul(rows[:, None, :], weights[:, :, None])[:, 0, 0])
