"""A scaler that was fitted again, on live data, before a model that knows raw values: what it shows the model is near N(0, 1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from leadline.config import Limits
from streams.counting.references import Reference
from streams.counting.subjects import Subjects
from streams.rules.finding import LN10, Finding, found
from streams.rules.looks import Looks

NEAR_MEAN, NEAR_STD = 0.3, 1.4  # standardised: mean within 0.3 of 0, deviation within a factor of 1.4 of 1
FAR_MEAN, FAR_STD = 1.0, 2.0  # the reference is not: mean beyond 1, deviation beyond a factor of 2
SHOWN = 8
SEEN = Limits(warn=1.0, critical=1.0)


class RefittedScaler:
    """Which features' references are far from standardised, and which spans show them as if they were."""

    def __init__(self, reference: Reference, subjects: Subjects, least: float) -> None:
        self.subjects, self.least = subjects, least
        features = [reference.features[at] for at in subjects.numeric]
        self.center = np.array([feature.center for feature in features])
        self.scale = np.array([feature.scale for feature in features])

    def findings(self, looks: Looks, moved: Mapping[int, Sequence[Finding]]) -> Iterator[tuple[int, Finding]]:
        """One finding a look that names the features, of those whose distribution or mean has `moved`: as unlikely as they say."""
        usual, spread = looks.of_base("mean_z"), looks.of_base("sd_z")
        known, known_std = self.center + self.scale * usual, self.scale * spread
        raw = (np.abs(known) > FAR_MEAN) & ~((known_std >= 1 / FAR_STD) & (known_std <= FAR_STD))
        if not raw.any():
            return
        subjects, vectors = self.subjects, looks.vectors
        numeric, missing, invalid = subjects.numeric, subjects.missing, subjects.invalid
        n = looks.grouped[:, numeric].sum(axis=2) - vectors[:, missing[numeric]] - vectors[:, invalid[numeric]]
        count = np.maximum(n, 1.0)
        mean_z = vectors[:, subjects.z] / count
        std = self.scale * np.maximum(vectors[:, subjects.zz] / count - mean_z**2, 0.0) ** 0.5
        standardised = (np.abs(self.center + self.scale * mean_z) <= NEAR_MEAN) & (std >= 1 / NEAR_STD)
        suspect = raw & standardised & (std <= NEAR_STD) & (n >= self.least)
        for look in np.flatnonzero(suspect.any(axis=1)).tolist():
            surest: dict[str | None, float] = {}
            for finding in moved.get(look, ()):
                surest[finding.subject] = min(finding.log10_p, surest.get(finding.subject, 0.0))
            places = [at for at in np.flatnonzero(suspect[look]).tolist() if subjects.names[numeric[at]] in surest]
            if places:
                names = [subjects.names[numeric[at]] for at in places]
                log_p = min(surest[name] for name in names) * LN10
                rows = float(n[look, places].max())
                told = found("refitted_scaler", None, "schema", float(len(names)), 0.0, rows, SEEN, 0.0, log_p, 1.0)
                more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
                yield look, told._replace(detail=", ".join(names[:SHOWN]) + more)
