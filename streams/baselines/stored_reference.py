"""A reference as one readable JSON file: edges, categories and counts by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np

from detectors.binning import CategoryBins, NumericBins
from detectors.embedding import FrozenPca
from streams.counting.features import BadReference, Feature, categorical_feature, numeric_from_edges
from streams.counting.layout import Task, Vector
from streams.counting.references import Reference

REFERENCE_VERSION = 3


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


class _VariesFile(msgspec.Struct):
    """What so many rows in a row had in common, relative to the variance of one row."""

    statistic: str
    subject: str | None
    rows: list[int]
    common: list[float]


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
    varies: list[_VariesFile] = []


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
        varies=[
            _VariesFile(statistic, subject, [rows for rows, _ in steps], [common for _, common in steps])
            for (statistic, subject), steps in sorted(reference.varies.items(), key=repr)
        ],
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
    if file.version not in range(1, REFERENCE_VERSION + 1):
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
            varies={
                (entry.statistic, entry.subject): list(zip(entry.rows, entry.common, strict=True))
                for entry in file.varies
            },
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
    # Files of earlier versions were fingerprinted over layouts with fewer sections.
    if file.version == REFERENCE_VERSION and reference.fingerprint != file.fingerprint:
        raise BadReference(f"{where} does not match its fingerprint: it was edited or cut short; build it again")
    return reference
