"""A reference: what a model's features, score and outcomes looked like in training, as edges and counts.

Built from rows (CSV or Parquet of training or hold-out data, or the first live rows), kept as one readable JSON file. It gives the
mapping from values to bins, and for all traffic and every segment the count vector that live vectors are compared with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.binning import CategoryBins, Codes, NumericBins, as_numbers
from detectors.embedding import FrozenPca
from streams.counting.layout import Layout, Task, Vector

COARSE_BINS = 10
FINE_BINS = 100
FAR_Z = 3.0  # a value further out, in deviations of the reference, is out of distribution
TOP_CATEGORIES = 50
REFERENCE_VERSION = 2


class BadReference(ValueError):
    """The reference cannot be used. The text says which column or value, and what to do."""


@dataclass(frozen=True)
class Feature:
    """One feature's mapping. `groups` takes each code to its coarse group (the PSI's bins); specials are groups of their own."""

    name: str
    kind: Literal["numeric", "categorical"]
    bins: NumericBins | CategoryBins
    groups: npt.NDArray[np.int64]
    center: float
    scale: float
    low: float
    high: float

    @property
    def size(self) -> int:
        return self.bins.size

    @cached_property
    def group_count(self) -> int:
        return int(self.groups.max()) + 1

    def assign(self, values: Sequence[object]) -> tuple[Codes, npt.NDArray[np.float64] | None]:
        """Codes of decoded values and, for a number, the values as float64 (NaN where there is none)."""
        if isinstance(self.bins, CategoryBins):
            return self.bins.assign(values), None
        numbers, missing = as_numbers(values)
        return self.bins.assign(numbers, missing), numbers

    @cached_property
    def far_codes(self) -> npt.NDArray[np.int64] | None:
        """Codes of values beyond three deviations; None of a category, and where the edges do not tell."""
        if not isinstance(self.bins, NumericBins):
            return None
        edges = np.asarray(self.bins.edges)
        low = int(np.searchsorted(edges, self.center - FAR_Z * self.scale, side="left"))
        high = int(np.searchsorted(edges, self.center + FAR_Z * self.scale, side="right"))
        if low >= len(edges) or high >= len(edges):
            return None
        told = np.isclose(edges[low], self.center - FAR_Z * self.scale, rtol=1e-9, atol=1e-9 * self.scale)
        told &= np.isclose(edges[high], self.center + FAR_Z * self.scale, rtol=1e-9, atol=1e-9 * self.scale)
        return np.concatenate([np.arange(low + 1), np.arange(high + 1, self.bins.ordered)]) if told else None

    @cached_property
    def group_labels(self) -> tuple[str, ...]:
        """A name for each coarse group, for people."""
        if isinstance(self.bins, CategoryBins):
            return self.bins.labels
        coarse = [self.bins.labels[code] for code in range(self.bins.ordered)]
        names: list[str] = []
        for group in range(self.group_count - 2):
            members = [coarse[code] for code in np.flatnonzero(self.groups[: self.bins.ordered] == group)]
            names.append(members[0].split(",")[0] + "," + members[-1].split(",")[1])
        return (*names, "missing", "invalid")


def numeric_feature(name: str, values: npt.NDArray[np.float64]) -> Feature:
    """Edges from the finite values: about ten coarse bins (PSI), each cut into about ten fine ones (KS, onset)."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        raise BadReference(f"column {name!r} holds no finite number; leave it out of the reference, or give its values")
    coarse = NumericBins.from_reference(finite, COARSE_BINS)
    fine = NumericBins.fine(finite, FINE_BINS)
    center, scale = float(finite.mean()), float(finite.std()) or 1.0
    # Edges where a value begins to be out of distribution: a stored row's codes then say whether it was.
    far = {center - FAR_Z * scale, float(np.nextafter(center + FAR_Z * scale, np.inf))}
    edges = sorted(set(coarse.edges) | set(fine.edges) | {edge for edge in far if np.isfinite(edge)})
    return numeric_from_edges(
        name,
        edges,
        coarse.edges,
        center=center,
        scale=scale,
        low=float(np.quantile(finite, 0.001)),
        high=float(np.quantile(finite, 0.999)),
    )


def numeric_from_edges(
    name: str, edges: Sequence[float], coarse: Sequence[float], *, center: float, scale: float, low: float, high: float
) -> Feature:
    """The feature whose fine edges contain its coarse ones."""
    bins = NumericBins(tuple(edges))
    lowers = np.concatenate([[-np.inf], np.asarray(edges, dtype=np.float64)])
    groups = np.searchsorted(np.asarray(coarse, dtype=np.float64), lowers, side="right")
    last = int(groups[-1])
    return Feature(name, "numeric", bins, np.append(groups, [last + 1, last + 2]), center, scale, low, high)


def categorical_feature(name: str, bins: CategoryBins) -> Feature:
    return Feature(name, "categorical", bins, np.arange(bins.size), 0.0, 1.0, 0.0, 1.0)


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


class _FeatureFile(msgspec.Struct, omit_defaults=True):
    name: str
    kind: Literal["numeric", "categorical"]
    edges: list[float] = []
    coarse_edges: list[float] = []
    mean: float = 0.0
    standard_deviation: float = 1.0
    low: float = 0.0
    high: float = 1.0
    categories: list[str] = []
    rarer_categories: list[str] = []
    complete: bool = True
    counts: dict[str, int] = {}


class _JointFile(msgspec.Struct):
    """Columns are the numeric features in order, standardised by their mean and deviation."""

    centre: list[float]
    spread: list[float]
    directions: list[list[float]]
    rows: int
    mean: float
    standard_deviation: float


class _ReferenceFile(msgspec.Struct, omit_defaults=True):
    version: int
    task: Task
    rows: int
    source: str
    features: list[_FeatureFile]
    score: _FeatureFile | None
    classes: list[str]
    business: list[str]
    learned: bool
    cells: dict[str, dict[str, list[float]]]
    fingerprint: str
    probes: list[str] = []
    resources: list[str] = []
    joint: _JointFile | None = None


ALL = ""  # the key of all traffic in the file: no segment has an empty name


def dump_reference(reference: Reference) -> bytes:
    """The reference as JSON that people can read: edges, categories and counts by name, then every cell's non-zero slots."""
    layout = reference.layout
    everything = reference.cells.get(None)

    def describe(feature: Feature, section: str) -> _FeatureFile:
        file = _FeatureFile(feature.name, feature.kind)
        if isinstance(feature.bins, NumericBins):
            file.edges = list(feature.bins.edges)
            changes: list[int] = np.flatnonzero(np.diff(feature.groups[: feature.bins.ordered])).tolist()
            file.coarse_edges = [feature.bins.edges[at] for at in changes]
            file.mean, file.standard_deviation, file.low, file.high = (
                feature.center,
                feature.scale,
                feature.low,
                feature.high,
            )
        else:
            file.categories, file.rarer_categories, file.complete = (
                list(feature.bins.top),
                list(feature.bins.rest),
                feature.bins.complete,
            )
        if everything is not None:
            coarse = np.bincount(
                feature.groups, weights=layout.part(everything, section), minlength=feature.group_count
            )
            file.counts = {label: int(n) for label, n in zip(feature.group_labels, coarse, strict=True)}
        return file

    file = _ReferenceFile(
        version=REFERENCE_VERSION,
        task=reference.task,
        rows=reference.rows,
        source=reference.source,
        features=[describe(feature, f"feature:{feature.name}") for feature in reference.features],
        score=describe(reference.score, "score") if reference.score else None,
        classes=list(reference.classes),
        business=list(layout.business),
        learned=reference.learned,
        cells={
            segment or ALL: {
                name: [
                    float(at)
                    for pair in zip(np.flatnonzero(part), part[np.flatnonzero(part)], strict=True)
                    for at in pair
                ]
                for name in layout.slots
                if (part := layout.part(vector, name)).any()
            }
            for segment, vector in sorted(reference.cells.items(), key=lambda item: item[0] or ALL)
        },
        fingerprint=reference.fingerprint,
        probes=list(layout.probes),
        resources=list(layout.resources),
        joint=_joint_file(reference.joint) if reference.joint is not None else None,
    )
    return msgspec.json.format(msgspec.json.encode(file), indent=1)


def _joint_file(pca: FrozenPca) -> _JointFile:
    directions: list[list[float]] = pca.directions.tolist()
    return _JointFile(pca.centre.tolist(), pca.spread.tolist(), directions, pca.n, pca.mean, pca.std)


def _joint(file: _JointFile | None, where: str) -> FrozenPca | None:
    if file is None:
        return None
    columns = len(file.centre)
    if len(file.spread) != columns or any(len(row) != columns for row in file.directions):
        raise BadReference(f"{where}: its main directions do not fit its columns; build it again")
    return FrozenPca(
        np.array(file.centre),
        np.array(file.spread),
        np.array(file.directions).reshape(-1, columns),
        file.rows,
        file.mean,
        file.standard_deviation,
    )


def load_reference(data: bytes, where: str = "reference") -> Reference:
    """Reads `dump_reference`'s JSON. BadReference says what is wrong."""
    try:
        file = msgspec.json.decode(data, type=_ReferenceFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadReference(
            f"{where} is no reference of Leadline: {error}; build one with `leadline reference build`"
        ) from None
    if file.version not in (1, REFERENCE_VERSION):
        raise BadReference(
            f"{where} has version {file.version}, this Leadline reads {REFERENCE_VERSION}; build it again"
        )
    joint = _joint(file.joint, where)

    def feature(entry: _FeatureFile) -> Feature:
        if entry.kind == "categorical":
            bins = CategoryBins(tuple(entry.categories), tuple(entry.rarer_categories), entry.complete)
            return categorical_feature(entry.name, bins)
        return numeric_from_edges(
            entry.name,
            entry.edges,
            entry.coarse_edges,
            center=entry.mean,
            scale=entry.standard_deviation,
            low=entry.low,
            high=entry.high,
        )

    def build(cells: Mapping[str | None, Vector]) -> Reference:
        return Reference(
            task=file.task,
            features=[feature(entry) for entry in file.features],
            score=feature(file.score) if file.score else None,
            classes=file.classes,
            business=file.business,
            learned=file.learned,
            cells=cells,
            source=file.source,
            probes=file.probes,
            resources=file.resources,
            joint=joint,
        )

    layout = build({}).layout
    cells: dict[str | None, Vector] = {}
    for segment, sections in file.cells.items():
        vector = np.zeros(layout.size)
        for name, pairs in sections.items():
            if name not in layout.slots:
                raise BadReference(
                    f"{where}: cell {segment or 'all'!r} has an unknown section {name!r}; build it again"
                )
            vector[layout.offset(name) + np.asarray(pairs[0::2], dtype=np.int64)] = pairs[1::2]
        cells[segment or None] = vector
    reference = build(cells)
    # A file of version 1 was fingerprinted over a layout without the optional fields.
    if file.version == REFERENCE_VERSION and reference.fingerprint != file.fingerprint:
        raise BadReference(f"{where} does not match its fingerprint: it was edited or cut short; build it again")
    return reference
