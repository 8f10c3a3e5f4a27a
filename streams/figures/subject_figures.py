"""Figures of every distribution against its reference: the features', and the score's. Those of one kind are worked out for all at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.binning import CategoryBins
from detectors.divergence import js_divergence, l_infinity, psi, psi_debiased, psi_floor, used_bins
from detectors.ks import ks_floor, ks_p_value, ks_statistic
from detectors.shares import share
from streams.counting.figure import FIGURE_ALPHA, FIGURE_Z, NAN, Figure, Side
from streams.counting.layout import Vector
from streams.counting.references import Reference
from streams.counting.subjects import Subjects

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Shares = tuple[Integers, Integers]


def subject_figures(reference: Reference, vector: Vector, baseline: Vector | None) -> list[list[Figure]]:
    """Of each feature, and of the score behind them where the reference knows one. `baseline` is the reference's vector of the segment."""
    if not reference.subjects.all:
        return []
    subjects = reference.subjects
    live = _Side.of(reference, vector)
    base = _Side.of(reference, baseline) if baseline is not None else None
    layers: list[Side] = ["model" if section == "score" else "data" for section in subjects.sections]
    found: list[list[Figure]] = [[] for _ in subjects.all]
    if base is not None:
        for at, figures in enumerate(_distances(subjects, layers, live, base)):
            found[at] += figures
    for figures, rates in zip(found, _rates(subjects, layers, live, base), strict=True):
        figures += rates
    for at, figures in enumerate(_means(subjects, layers, live, base)):
        found[at] += figures
    far = _rate(
        "out_of_distribution_rate", layers, subjects.names, live.far(subjects), base.far(subjects) if base else None
    )
    for at, feature in enumerate(reference.features):
        if feature.far_codes is not None:
            found[at].append(far[at])
    return found


class _Side(NamedTuple):
    """One vector, by subject."""

    grouped: Integers
    """[subjects, groups]"""
    rows: Integers
    ordered: Integers
    """[subjects, bins]: values by bin, without what is missing or invalid."""
    counts: Floats
    """The vector with a zero behind it, for indices that stand for no slot."""
    missing: Integers
    invalid: Integers
    mean: Floats
    std: Floats
    """In the values' unit; NaN where there is no value."""

    @classmethod
    def of(cls, reference: Reference, vector: Vector) -> _Side:
        subjects = reference.subjects
        grouped = subjects.grouped(vector)
        counts = np.append(np.maximum(np.rint(vector), 0.0), 0.0)
        ordered = counts[subjects.ordered].astype(np.int64)
        mean, std = _moments(reference, vector, ordered.sum(axis=1))
        missing, invalid = (counts[slots].astype(np.int64) for slots in (subjects.missing, subjects.invalid))
        return cls(grouped, grouped.sum(axis=1), ordered, counts, missing, invalid, mean, std)

    def far(self, subjects: Subjects) -> Shares:
        """Values beyond three deviations, and rows."""
        return self.counts[subjects.far].sum(axis=1).astype(np.int64), self.rows


def _moments(reference: Reference, vector: Vector, n: Integers) -> tuple[Floats, Floats]:
    subjects, layout = reference.subjects, reference.layout
    mean, std = np.full(len(n), np.nan), np.full(len(n), np.nan)
    numeric = subjects.numeric
    rows = np.where(n > 0, n, np.nan).astype(np.float64)
    mean_z = vector[subjects.z] / rows[numeric]
    variance = np.maximum(vector[subjects.zz] / rows[numeric] - mean_z**2, 0.0)
    scales = reference.scales[numeric]
    mean[numeric], std[numeric] = reference.centers[numeric] + scales * mean_z, scales * np.sqrt(variance)
    if reference.score is not None:
        mean[-1] = layout.one(vector, "score_sum") / rows[-1]
        std[-1] = np.sqrt(np.maximum(layout.one(vector, "score_squares") / rows[-1] - mean[-1] ** 2, 0.0))
    return mean, std


def _distances(subjects: Subjects, layers: list[Side], live: _Side, base: _Side) -> list[list[Figure]]:
    used = used_bins(live.grouped, base.grouped)
    floors = psi_floor(live.rows, base.rows, used, FIGURE_ALPHA)
    psis, debiased = psi(live.grouped, base.grouped), psi_debiased(live.grouped, base.grouped)
    js, largest = js_divergence(live.grouped, base.grouped), l_infinity(live.grouped, base.grouped)
    k, j = live.ordered.sum(axis=1), base.ordered.sum(axis=1)
    gaps = ks_statistic(live.ordered, base.ordered)
    gap_floors, gap_p = ks_floor(k, j, FIGURE_ALPHA), ks_p_value(gaps, k, j)
    columns = (live.rows, base.rows, psis, debiased, js, largest, floors, k, j, gaps, gap_floors, gap_p)
    found: list[list[Figure]] = []
    for feature, layer, name, row in zip(
        subjects.all, layers, subjects.names, zip(*(column.tolist() for column in columns), strict=True), strict=True
    ):
        n, m, of_psi, less_noise, of_js, most, floor, values, known, gap, gap_floor, p = row
        figures: list[Figure] = []
        found.append(figures)
        if not (n and m):
            continue
        figures += [
            Figure(layer, "psi", name, of_psi, n, 0.0, floor),
            Figure(layer, "psi_debiased", name, less_noise, n, 0.0, floor),
            Figure(layer, "js_divergence", name, of_js, n, 0.0, floor / 8),
        ]
        if isinstance(feature.bins, CategoryBins):
            figures.append(Figure(layer, "l_infinity", name, most, n, 0.0, NAN))
        elif values and known:
            figures.append(Figure(layer, "ks", name, gap, values, 0.0, gap_floor))
            figures.append(Figure(layer, "ks_p_value", name, p, values, NAN, NAN))
    return found


def _rate(signal: str, layers: list[Side], names: list[str], live: Shares, base: Shares | None) -> list[Figure]:
    """Shares of many subjects at once, (hits, rows), each against the share of the baseline."""
    of_live = share(*live)
    usual = share(*base) if base is not None else None
    references = usual.value.tolist() if usual is not None else [NAN] * len(names)
    errors = of_live.se**2 + (np.nan_to_num(usual.se) ** 2 if usual is not None else 0.0)
    floors = (FIGURE_Z * np.sqrt(errors)).tolist()
    return [
        Figure(layer, signal, name, value, n, reference, floor)
        for layer, name, value, n, reference, floor in zip(
            layers, names, of_live.value.tolist(), live[1].tolist(), references, floors, strict=True
        )
    ]


def _rates(subjects: Subjects, layers: list[Side], live: _Side, base: _Side | None) -> list[list[Figure]]:
    names = subjects.names
    nulls = _rate(
        "null_rate", layers, names, (live.missing, live.rows), (base.missing, base.rows) if base is not None else None
    )
    invalid = _rate(
        "invalid_rate",
        layers,
        names,
        (live.invalid, live.rows),
        (base.invalid, base.rows) if base is not None else None,
    )
    found = [list(both) for both in zip(nulls, invalid, strict=True)]
    for at, feature in enumerate(subjects.all):
        if isinstance(feature.bins, CategoryBins):
            new = live.counts[subjects.starts[at : at + 1] + feature.bins.new].astype(np.int64)
            found[at] += _rate("new_category_rate", [layers[at]], [names[at]], (new, live.rows[at : at + 1]), None)
    return found


def _means(subjects: Subjects, layers: list[Side], live: _Side, base: _Side | None) -> list[list[Figure]]:
    k = live.ordered.sum(axis=1).tolist()
    known = base.ordered.sum(axis=1).tolist() if base is not None else [0] * len(k)
    usual, spread = (base.mean.tolist(), base.std.tolist()) if base is not None else ([NAN] * len(k), [NAN] * len(k))
    found: list[list[Figure]] = []
    for at, (mean, std) in enumerate(zip(live.mean.tolist(), live.std.tolist(), strict=True)):
        layer, name, n, m = layers[at], subjects.names[at], k[at], known[at]
        figures: list[Figure] = []
        found.append(figures)
        if not n:
            continue
        figures.append(Figure(layer, "mean", name, mean, n, usual[at], 3 * std / n**0.5))
        figures.append(Figure(layer, "standard_deviation", name, std, n, spread[at], NAN))
        if m and spread[at] > 0:
            shift = abs(mean - usual[at]) / spread[at]
            floor = 3 * (std**2 / n + spread[at] ** 2 / m) ** 0.5 / spread[at]
            figures.append(Figure(layer, "mean_shift", name, shift, n, 0.0, floor))
    return found
