"""A scaler that was fitted again, on live data, before a model that knows raw values: what it shows the model is near N(0, 1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from leadline.config import Limits
from streams.counting.layout import Vector
from streams.counting.references import Reference
from streams.rules.baseline import Baseline
from streams.rules.finding import LN10, Finding, found
from streams.rules.subjects import Subjects

NEAR_MEAN, NEAR_STD = 0.3, 1.4  # standardised: mean within 0.3 of 0, deviation within a factor of 1.4 of 1
FAR_MEAN, FAR_STD = 1.0, 2.0  # the reference is not: mean beyond 1, deviation beyond a factor of 2
SHOWN = 8
SEEN = Limits(warn=1.0, critical=1.0)


def refitted(
    reference: Reference, subjects: Subjects, moved: Sequence[Finding], vector: Vector, base: Baseline, least: float
) -> Iterator[Finding]:
    """One finding that names the features, of those whose distribution or mean has `moved`: by chance as unlikely as they say."""
    surest: dict[str | None, float] = {}
    for finding in moved:
        surest[finding.subject] = min(finding.log10_p, surest.get(finding.subject, 0.0))
    names: list[str] = []
    rows = 0.0
    for place, at in enumerate(subjects.numeric):
        name = subjects.names[at]
        if name not in surest:
            continue
        feature = reference.features[at]
        n = float(vector[subjects.starts[at] : subjects.starts[at] + feature.bins.ordered].sum())
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
            names.append(name)
            rows = max(rows, n)
    if names:
        log_p = min(surest[name] for name in names) * LN10
        told = found("refitted_scaler", None, "schema", float(len(names)), 0.0, rows, SEEN, 0.0, log_p, 1.0)
        yield told._replace(
            detail=", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        )
