"""Which looks' accuracy and label rate may be off, against reference labels that took as long: all at once, before the full test."""

from __future__ import annotations

import numpy as np

from detectors.classification import mean_from_sums
from detectors.coverage import same_age_baseline
from detectors.shares import Estimate
from leadline.config import Rules
from streams.counting.delay_mix import LEAST_AGED
from streams.rules.looks import Floats, Looks
from streams.rules.screen import SLACK


def accuracy_suspects(looks: Looks, right: Floats, total: Floats, rules: Rules) -> list[int]:
    """Looks whose accuracy is so far below the reference's that `rules` ask for its test."""
    expected = 1.0 - _expected(looks, "aged_errors", 1.0 - looks.limits("accuracy")[:, 0])
    drop = expected - right / np.maximum(total, 1.0)
    return _at((total >= rules.minimum_rows) & (drop >= rules.accuracy.warn - SLACK))


def label_rate_suspects(looks: Looks, k: Floats, n: Floats, warn: float) -> list[int]:
    """Looks whose share of positive labels is so far from the reference's that it must be tested."""
    moved = np.abs(k / np.maximum(n, 1.0) - _expected(looks, "aged_positives", looks.limits("label_rate")[:, 0]))
    return _at(moved >= warn - SLACK)


def _at(mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> list[int]:
    found: list[int] = np.flatnonzero(mask).tolist()
    return found


def _expected(looks: Looks, section: str, plain: Floats) -> Floats:
    """The reference's share at the delays that the live labels have; as it stands where the reference knows none of them. [looks]."""
    if not looks.bases.stack("aged").any():
        return plain
    known = looks.known(looks.layout.slots["aged"])
    hits = looks.known(looks.layout.slots[section])
    live = looks.counted("aged")
    weight = np.where(known >= LEAST_AGED, live, 0.0)
    heard = (weight.sum(axis=1) > 0) & (weight.sum(axis=1) >= 0.5 * live.sum(axis=1)) & (looks.of_base("aged") > 0)
    each = mean_from_sums(known, hits, hits)
    at_age = same_age_baseline(Estimate(each.value, each.se, each.n), weight).value
    return np.where(heard, at_age, plain)
