"""A scaler that was fitted again, on live data, before a model that knows raw values: what it shows the model is near N(0, 1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from leadline.config import Limits
from streams.baseline import Baseline
from streams.finding import LN10, Finding, found
from streams.layout import Vector
from streams.references import Reference
from streams.subjects import Subjects

NEAR_MEAN, NEAR_STD = 0.3, 1.4  # standardised: mean within 0.3 of 0, deviation within a factor of 1.4 of 1
FAR_MEAN, FAR_STD = 1.0, 2.0  # the reference is not: mean beyond 1, deviation beyond a factor of 2
SEEN = Limits(warn=1.0, critical=1.0)


def refitted(
    reference: Reference, subjects: Subjects, moved: Sequence[Finding], vector: Vector, base: Baseline, least: float
) -> Iterator[Finding]:
    """Of the features whose distribution or mean has `moved`: that it did so by chance is as unlikely as they say."""
    surest: dict[str | None, float] = {}
    for finding in moved:
        surest[finding.subject] = min(finding.log10_p, surest.get(finding.subject, 0.0))
    for place, at in enumerate(subjects.numeric):
        name = subjects.names[at]
        if name not in surest:
            continue
        feature = reference.features[at]
        codes = vector[subjects.starts[at] : subjects.starts[at] + feature.bins.ordered]
        n = float(codes.sum())
        if n < least:
            continue
        mean_z = float(vector[subjects.z[place]]) / n
        std_z = max(float(vector[subjects.zz[place]]) / n - mean_z**2, 0.0) ** 0.5
        mean, std = feature.center + feature.scale * mean_z, feature.scale * std_z
        known = feature.center + feature.scale * float(base.mean_z[place])
        known_std = feature.scale * float(base.sd_z[place])
        standardised = abs(mean) <= NEAR_MEAN and 1 / NEAR_STD <= std <= NEAR_STD
        raw = abs(known) > FAR_MEAN and not 1 / FAR_STD <= known_std <= FAR_STD
        if standardised and raw:
            told = found("refitted_scaler", name, "schema", mean, known, n, SEEN, 0.0, surest[name] * LN10, 1.0)
            words = f"mean {mean:.2g} and deviation {std:.2g}; the reference has {known:.4g} and {known_std:.4g}"
            yield told._replace(detail=words)
