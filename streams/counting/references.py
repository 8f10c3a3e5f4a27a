"""A reference: what a model's features, score and outcomes looked like in training, as edges and counts.

Built from rows (CSV or Parquet of training or hold-out data, or the first live rows). It gives the mapping from values to bins, and for
all traffic and every segment the count vector that live vectors are compared with. Its file is `streams/baselines/stored_reference.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from detectors.binning import NumericBins
from detectors.embedding import FrozenPca
from streams.counting.features import Feature
from streams.counting.layout import Layout, Task, Vector
from streams.counting.subjects import Subjects


class Reference:
    """Everything about one model's baseline. Immutable; `fingerprint` names it in every digest and report."""

    def __init__(
        self,
        *,
        task: Task,
        features: Sequence[Feature],
        score: Feature | None,
        classes: Sequence[str] = (),
        business: Sequence[str] = (),
        learned: bool = False,
        cells: Mapping[str | None, Vector] | None = None,
        source: str = "",
        probes: Sequence[str] = (),
        resources: Sequence[str] = (),
        joint: FrozenPca | None = None,
        varies: Mapping[tuple[str, str | None], Sequence[tuple[int, float]]] | None = None,
    ) -> None:
        self.task: Task = task
        self.features = tuple(features)
        self.score = score
        self.classes = tuple(classes)
        self.learned = learned
        self.source = source
        self.layout = Layout(
            task,
            tuple((feature.name, feature.size) for feature in self.features),
            score.size if score else 0,
            self.classes,
            tuple(business),
            tuple(sorted(set(probes))),
            tuple(sorted(set(resources))),
            joint is not None,
        )
        self.is_bare = learned and not features and score is None
        """No baseline yet: only the task is known, and a multiclass model's classes."""
        self.joint = joint
        """Main directions of the standardised numeric features: what they leave unexplained is a figure of each row."""
        self.numeric = [at for at, feature in enumerate(self.features) if feature.kind == "numeric"]
        self.varies = {key: tuple(steps) for key, steps in (varies or {}).items()}
        """Of statistics whose training rows depend on each other in the order of the file: (rows in a row, what they have in common)."""
        self.cells: dict[str | None, Vector] = dict(cells or {})
        self.centers = np.array([feature.center for feature in self.features])
        self.scales = np.array([feature.scale for feature in self.features])
        digest = hashlib.sha256(self.layout.fingerprint.encode())
        for feature in (*self.features, *([score] if score else [])):
            digest.update(feature.bins.fingerprint)
            digest.update(feature.groups.tobytes())
        if joint is not None:
            digest.update(joint.fingerprint)
        self.bins_fingerprint = digest.hexdigest()[:16]
        """Names the mapping: counts are added only where it is equal."""
        for segment in sorted(self.cells, key=str):
            digest.update(repr(segment).encode() + self.cells[segment].tobytes())
        if self.varies:
            digest.update(repr(sorted(self.varies.items(), key=repr)).encode())
        self.fingerprint = digest.hexdigest()[:16]

    @cached_property
    def truth_center(self) -> float:
        """What labels of a regression are counted from, so that large ones keep their digits: the middle of the score's edges.

        0 for a learned baseline: its first labels came before it.
        """
        if (
            self.learned
            or self.score is None
            or not isinstance(self.score.bins, NumericBins)
            or not self.score.bins.edges
        ):
            return 0.0
        return float(self.score.bins.edges[len(self.score.bins.edges) // 2])

    @cached_property
    def subjects(self) -> Subjects:
        """Where the counts of features and score stand in a vector."""
        return Subjects(self.layout, self.features, self.score)

    @cached_property
    def ranged_features(self) -> tuple[int, ...]:
        """Places of the numeric features that are not constant."""
        return tuple(at for at, one in enumerate(self.features) if one.kind == "numeric" and one.high > one.low)

    @property
    def rows(self) -> int:
        """Rows the baseline was counted on."""
        return int(self.layout.one(self.cells[None], "rows")) if None in self.cells else 0

    def cell(self, segment: str | None) -> Vector | None:
        """The baseline of a segment ("site=north") or, for None, of all traffic."""
        return self.cells.get(segment)

    def keeping(self, probes: Sequence[str], resources: Sequence[str]) -> Reference:
        """The same baseline with room for these layers and resources too."""
        if set(probes) <= set(self.layout.probes) and set(resources) <= set(self.layout.resources):
            return self
        probes, resources = [*self.layout.probes, *probes], [*self.layout.resources, *resources]
        wider = self._with({}, probes, resources)
        cells = {}
        for segment, vector in self.cells.items():
            cells[segment] = np.zeros(wider.layout.size)
            for name, part in self.layout.slots.items():
                cells[segment][wider.layout.slots[name]] = vector[part]
        return self._with(cells, probes, resources)

    def _with(self, cells: Mapping[str | None, Vector], probes: Sequence[str], resources: Sequence[str]) -> Reference:
        return Reference(
            task=self.task,
            features=self.features,
            score=self.score,
            classes=self.classes,
            business=self.layout.business,
            learned=self.learned,
            cells=cells,
            source=self.source,
            probes=probes,
            resources=resources,
            joint=self.joint,
            varies=self.varies,
        )


def bare(
    task: Task,
    business: Sequence[str] = (),
    classes: Sequence[str] = (),
    probes: Sequence[str] = (),
    resources: Sequence[str] = (),
) -> Reference:
    """The layout of a model that has no reference yet: rows, join states and outcomes, no features."""
    return Reference(
        task=task,
        features=(),
        score=None,
        business=business,
        learned=True,
        classes=classes,
        probes=probes,
        resources=resources,
    )
