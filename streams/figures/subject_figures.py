"""Figures of one distribution against its reference: a feature's, or the score's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from detectors.binning import CategoryBins
from detectors.divergence import js_divergence, l_infinity, psi, psi_debiased, psi_floor, used_bins
from detectors.ks import ks_floor, ks_p_value, ks_statistic
from detectors.shares import share
from streams.counting.features import Feature
from streams.counting.figure import FIGURE_ALPHA, NAN, Figure, Side, estimated, number
from streams.counting.layout import Layout, Vector


def subject_figures(
    feature: Feature, section: str, subject: str, layout: Layout, vector: Vector, baseline: Vector | None, layer: Side
) -> Iterator[Figure]:
    """Figures of the counts in `section`. `baseline` is the reference's vector of the same segment."""
    codes = np.maximum(np.rint(layout.part(vector, section)), 0).astype(np.int64)
    n = int(codes.sum())
    bins = feature.bins
    base = np.rint(layout.part(baseline, section)).astype(np.int64) if baseline is not None else None
    m = int(base.sum()) if base is not None else 0
    if n and base is not None and m:
        size = feature.group_count
        grouped = np.bincount(feature.groups, weights=codes, minlength=size).astype(np.int64)
        base_grouped = np.bincount(feature.groups, weights=base, minlength=size).astype(np.int64)
        used = number(used_bins(grouped, base_grouped))
        floor = number(psi_floor(n, m, used, FIGURE_ALPHA))
        yield Figure(layer, "psi", subject, number(psi(grouped, base_grouped)), n, 0.0, floor)
        yield Figure(layer, "psi_debiased", subject, number(psi_debiased(grouped, base_grouped)), n, 0.0, floor)
        yield Figure(layer, "js_divergence", subject, number(js_divergence(grouped, base_grouped)), n, 0.0, floor / 8)
        if isinstance(bins, CategoryBins):
            yield Figure(layer, "l_infinity", subject, number(l_infinity(grouped, base_grouped)), n, 0.0, NAN)
        else:
            valid, base_valid = codes[: bins.ordered], base[: bins.ordered]
            if valid.sum() and base_valid.sum():
                gap = number(ks_statistic(valid, base_valid))
                k, j = int(valid.sum()), int(base_valid.sum())
                yield Figure(layer, "ks", subject, gap, k, 0.0, number(ks_floor(k, j, FIGURE_ALPHA)))
                yield Figure(layer, "ks_p_value", subject, number(ks_p_value(gap, k, j)), k, NAN, NAN)
    for signal, code in (("null_rate", bins.missing), ("invalid_rate", bins.invalid)):
        yield estimated(
            layer, signal, share(codes[code], n), share(base[code], m) if base is not None and m else None, subject
        )
    if isinstance(bins, CategoryBins):
        yield estimated(layer, "new_category_rate", share(codes[bins.new], n), None, subject)
        return
    live, base_mean = _moments(feature, section, layout, vector), None
    if baseline is not None:
        base_mean = _moments(feature, section, layout, baseline)
    if live is None:
        return
    mean, std, k = live
    yield Figure(layer, "mean", subject, mean, k, base_mean[0] if base_mean else NAN, 3 * std / k**0.5)
    yield Figure(layer, "standard_deviation", subject, std, k, base_mean[1] if base_mean else NAN, NAN)
    if base_mean is not None and base_mean[1] > 0:
        shift = abs(mean - base_mean[0]) / base_mean[1]
        floor = 3 * (std**2 / k + base_mean[1] ** 2 / base_mean[2]) ** 0.5 / base_mean[1]
        yield Figure(layer, "mean_shift", subject, shift, k, 0.0, floor)


def _moments(feature: Feature, section: str, layout: Layout, vector: Vector) -> tuple[float, float, int] | None:
    """(mean, standard deviation, n) in the value's unit."""
    codes = layout.part(vector, section)
    n = round(float(codes[: feature.bins.ordered].sum()))
    if n <= 0:
        return None
    if section == "score":
        total, squares = layout.one(vector, "score_sum"), layout.one(vector, "score_squares")
        mean = total / n
        return mean, max(squares / n - mean**2, 0.0) ** 0.5, n
    mean_z = layout.one(vector, f"z:{feature.name}") / n
    variance = max(layout.one(vector, f"zz:{feature.name}") / n - mean_z**2, 0.0)
    return feature.center + feature.scale * mean_z, feature.scale * variance**0.5, n
