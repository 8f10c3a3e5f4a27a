"""What is followed of spans, to know how far they vary by themselves: statistics, each a row of a small table that a vector gives.

Histograms of features, score and answers; shares of rows, or of some of them; means; and rankings, which alone do not add.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.auc import auc_from_histograms, average_precision, hanley_mcneil_se
from detectors.dependence import Excess, histogram_excess, mean_excess, share_excess
from streams.counting.layout import Layout, Vector
from streams.counting.means import means_of
from streams.counting.references import Reference
from streams.counting.stated import NEARLY_ALL, baseline_stated, stated_fields

Floats = npt.NDArray[np.float64]
Key = tuple[str, str | None]
Part = tuple[str | int, float]
"""A section, or a slot, with the weight it is counted with."""

MOST_HELD = 0.9
RANKED = ("auc", "average_precision")


class Table(NamedTuple):
    """The statistics of one span, or the sums of many spans but for rankings, which do not add."""

    histograms: Floats
    """[histograms, bins]"""
    shares: Floats
    """[shares, (hits, rows)]"""
    means: Floats
    """[means, (rows, sum, sum of squares)]"""
    rankings: Floats
    """[rankings, (value, standard error)], NaN where a class is missing"""


def excess_of(table: Table, usual: Table, held: bool) -> Excess:
    """How far a span lies from what is usual, [histograms + shares + means]. `held`: its own rows are part of the usual."""

    def share(n: Floats, m: Floats) -> Floats | float:
        return np.clip(n / np.maximum(m, 1.0), 0.0, MOST_HELD) if held else 0.0

    n, m = table.histograms.sum(axis=1), usual.histograms.sum(axis=1)
    of_histograms = histogram_excess(table.histograms, usual.histograms, share(n, m))
    k, n = table.shares.T
    of, m = usual.shares.T
    of_shares = share_excess(k, n, of, m, share(n, m))
    n, total, _ = table.means.T
    m, usual_total, squares = usual.means.T
    mean = usual_total / np.maximum(m, 1.0)
    variance = squares / np.maximum(m, 1.0) - mean**2
    known = np.where(variance > 0, variance, np.nan)
    of_means = mean_excess(n, total / np.maximum(n, 1.0), m, mean, known, share(n, m))
    return Excess(*(np.concatenate(parts) for parts in zip(of_histograms, of_shares, of_means, strict=True)))


class Tracked:
    """The statistics of one reference. `keys` are their names, in the order histograms, shares, means, rankings."""

    def __init__(self, reference: Reference, slow: int, least_per_class: float) -> None:
        """`slow` is the first bin of the latency that counts as slow."""
        layout, subjects, self.least = reference.layout, reference.subjects, least_per_class
        self.layout, self.binary = layout, reference.task == "binary"
        self._entries: list[tuple[int, int, float]] = []
        self._at = 0
        self.width = max(subjects.width - 2, len(reference.classes) + 1, 2)
        keys: list[Key] = []
        for at, name in enumerate(subjects.names):
            feature, start = subjects.all[at], int(subjects.starts[at])
            for code, group in enumerate(feature.groups[: feature.bins.ordered].tolist()):
                self._entries.append((start + code, self._at + group, 1.0))
            keys.append(("values", name))
            self._at += self.width
        if "predicted" in layout.slots:
            self._bins([(slot, 1.0) for slot in range(*_ends(layout, "predicted"))])
            keys.append(("predicted_share", None))
        self.histograms = len(keys)
        shares = list(_shares(reference, slow))
        for _, hits, rows in shares:
            self._sum(hits)
            self._sum(rows)
        means = list(_means(layout))
        for _, sections in means:
            for section in sections:
                self._sum([(section, 1.0)])
        self.shares, self.means = len(shares), len(means)
        rankings: list[Key] = [(name, None) for name in RANKED] if self.binary else []
        self.keys = [*keys, *(key for key, _, _ in shares), *(key for key, _ in means), *rankings]
        self.place = {key: at for at, key in enumerate(self.keys)}
        slots, places, weights = (np.array(part) for part in zip(*self._entries, strict=True))
        self._slots, self._places, self._weights = (
            slots.astype(np.int64),
            places.astype(np.int64),
            weights.astype(float),
        )

    def _bins(self, parts: Sequence[tuple[int, float]]) -> None:
        self._entries += [(slot, self._at + at, weight) for at, (slot, weight) in enumerate(parts)]
        self._at += self.width

    def _sum(self, parts: Sequence[Part]) -> None:
        for name, weight in parts:
            slots = range(*_ends(self.layout, name)) if isinstance(name, str) else (name,)
            self._entries += [(slot, self._at, weight) for slot in slots]
        self._at += 1

    def table(self, vector: Vector) -> Table:
        """The statistics of one vector."""
        weights = self._weights * vector[self._slots]
        sums = np.bincount(self._places, weights=weights, minlength=self._at).astype(np.float64)
        first = self.histograms * self.width
        then = first + 2 * self.shares
        return Table(
            np.maximum(sums[:first], 0.0).reshape(self.histograms, self.width),
            np.maximum(sums[first:then].reshape(self.shares, 2), 0.0),
            sums[then:].reshape(self.means, 3),
            self._rankings(vector),
        )

    def _rankings(self, vector: Vector) -> Floats:
        if not self.binary:
            return np.zeros((0, 2))
        pos, neg = (np.maximum(self.layout.part(vector, name), 0.0) for name in ("positives", "negatives"))
        p, n = float(pos.sum()), float(neg.sum())
        if min(p, n) < self.least:
            return np.full((len(RANKED), 2), np.nan)
        some = np.flatnonzero(pos + neg)
        auc = float(auc_from_histograms(pos[some], neg[some]).value)
        precision = float(average_precision(pos[some], neg[some]).value)
        return np.array(
            [
                [auc, float(hanley_mcneil_se(auc, p, n))],
                [precision, (max(precision * (1.0 - precision), 1e-6) / p) ** 0.5],
            ]
        )


def _ends(layout: Layout, section: str) -> tuple[int, int]:
    part = layout.slots[section]
    return int(part.start), int(part.stop)


def _shares(reference: Reference, slow: int) -> Sequence[tuple[Key, list[Part], list[Part]]]:
    """(key, what counts as a hit, what counts as a row)."""
    layout, subjects = reference.layout, reference.subjects
    rows: list[Part] = [("rows", 1.0)]
    found: list[tuple[Key, list[Part], list[Part]]] = []
    for at, name in enumerate(subjects.names):
        found.append((("null_rate", name), [(int(subjects.missing[at]), 1.0)], rows))
        found.append((("invalid_rate", name), [(int(subjects.invalid[at]), 1.0)], rows))
    for at, slot in subjects.categorical:
        found.append((("new_category_rate", subjects.names[at]), [(slot, 1.0)], rows))
    for at, slot in enumerate(subjects.absent.tolist()):
        found.append((("absent_rate", subjects.names[at]), [(slot, 1.0)], rows))
    found.append((("extra_feature_rate", None), [("extra", 1.0)], rows))
    found.append((("out_of_distribution_rate", None), [("out_of_distribution", 1.0)], rows))
    whole = reference.cell(None)
    if whole is not None:
        stated, asked = baseline_stated(layout, whole)
        for at in np.flatnonzero((asked > 0) & (stated >= NEARLY_ALL * asked)).tolist():
            section = layout.optional[at]
            without: list[Part] = [*rows, (section, -1.0)]
            if section == "embedding_rows":
                without.append(("embedding_invalid", -1.0))
            found.append((("missing_rate", stated_fields(layout)[at]), without, rows))
    first, last = _ends(layout, "latency")
    found.append(
        (
            ("latency_over_slo", "latency_ms"),
            [(slot, 1.0) for slot in range(min(first + slow, last), last)],
            [("latency_rows", 1.0)],
        )
    )
    if reference.task == "binary":
        tn, fp, fn, tp = ((slot, 1.0) for slot in range(*_ends(layout, "confusion")))
        found += [
            (("predicted_positive_rate", "prediction"), [("predicted_positive", 1.0)], rows),
            (("label_rate", "label"), [("calibration_positives", 1.0)], [("calibration_rows", 1.0)]),
            (("accuracy", None), [tn, tp], [tn, fp, fn, tp]),
            (("false_negative_rate", None), [fn], [fn, tp]),
            (("recall", None), [tp], [fn, tp]),
            (("precision", None), [tp], [tp, fp]),
            # F1 rises with the share of hits among all that is positive or was called so, which alone is a share of rows.
            (("f1", None), [tp], [tp, fp, fn]),
        ]
    elif reference.task == "multiclass":
        start, width = _ends(layout, "confusion")[0], len(reference.classes) + 1
        everything: list[Part] = [("confusion", 1.0)]
        right: list[Part] = [(start + at * width + at, 1.0) for at in range(width - 1)]
        found.append((("accuracy", None), right, everything))
        for at, name in enumerate(reference.classes):
            of_class: list[Part] = [(start + at * width + other, 1.0) for other in range(width)]
            found.append((("label_rate", name), of_class, everything))
    return found


def _means(layout: Layout) -> Sequence[tuple[Key, tuple[str, str, str]]]:
    """(key, the sections of its rows, sum and squares)."""
    found: list[tuple[Key, tuple[str, str, str]]] = [
        ((mean.signal, mean.subject), (mean.rows, mean.total, mean.squares)) for mean in means_of(layout)
    ]
    if layout.task == "regression":
        for name, squares in (
            ("error", "squared_error"),
            ("absolute_error", "squared_error"),
            ("squared_error", "squared_error_squares"),
        ):
            found.append(((name, None), ("error_rows", name, squares)))
    else:
        found.append((("entropy", None), ("entropy_rows", "entropy_sum", "entropy_squares")))
        counted = "scored_rows" if layout.task == "multiclass" else "calibration_rows"
        found += [((name, None), (counted, name, f"{name}_squares")) for name in ("log_loss", "squared_loss")]
    return found + [
        (("value", name), (f"value_rows:{name}", f"value:{name}", f"value_squares:{name}")) for name in layout.business
    ]
