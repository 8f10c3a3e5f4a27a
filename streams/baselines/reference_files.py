"""Training rows or a built JSON to a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from detectors.binning import CategoryBins, category
from detectors.embedding import CLIP, FrozenPca
from detectors.errors import BadValues
from leadline.events import ClassValue
from streams.baselines.reference_order import BLOCK_ROWS, order_variation
from streams.baselines.stored_reference import load_reference
from streams.baselines.training_tables import DESCRIBING, read_table, unpacked
from streams.counting.features import TOP_CATEGORIES, BadReference, Feature, categorical_feature, numeric_feature
from streams.counting.layout import Task, Vector
from streams.counting.measure import binary_class, class_index, measure
from streams.counting.optional_fields import (
    tally_confidence,
    tally_embedding,
    tally_latency,
    tally_layer,
    tally_pipeline,
    tally_resource,
    tally_runtime,
)
from streams.counting.references import Reference
from streams.counting.tally import Indices, Sparse, Tally
from streams.counting.tally_outcomes import JoinedRows, age_bins, tally_business, tally_delays, tally_outcomes
from streams.counting.tally_predictions import tally_joint, tally_predictions

FEATURE_PREFIX = "feature__"  # for features that are called like another column: feature__stage
SEGMENT_PREFIX = "segment__"
VALUE_PREFIX = "value__"
CLASS_PREFIX = "score__"
RESOURCE_PREFIX = "resource__"
RUNTIME_PREFIX = "runtime__"
PROBE_PREFIX = "probe__"  # probe__LAYER__mean, probe__LAYER__std
PREFIXES = (FEATURE_PREFIX, SEGMENT_PREFIX, CLASS_PREFIX, VALUE_PREFIX, RESOURCE_PREFIX, RUNTIME_PREFIX, PROBE_PREFIX)
PROBE_PARTS = ("mean", "std")
MEASURED = frozenset(  # columns of what services publish beside `features`
    {
        "score",
        "prediction",
        "label",
        "latency_ms",
        "confidence",
        "embedding_norm",
        "pipeline_fingerprint",
        "label_delay_s",
    }
)
RESERVED = MEASURED | DESCRIBING
MAX_SEGMENTS = 200
LEAST_JOINT, MOST_JOINT = 3, 500  # numeric features whose joint distribution is watched
LEAST_JOINT_ROWS, ROWS_A_COLUMN = 200, 10  # with fewer reference rows the main directions are noise
EXPLAINED, MOST_DIRECTIONS = 0.8, 16  # directions are taken until they hold this share of the variance

Columns = Mapping[str, Sequence[Any]]


def read_reference(
    path: Path,
    *,
    task: Literal["auto", "binary", "regression", "multiclass"] = "auto",
    positive_label: ClassValue | None = None,
    threshold: float = 0.5,
    business: Sequence[str] = (),
    probes: Sequence[str] = (),
    resources: Sequence[str] = (),
) -> Reference:
    """A built reference (`.json`), or training rows (`.csv`, `.csv.gz`, `.parquet`). BadReference says what is wrong."""
    if not path.exists():
        raise BadReference(
            f"{path} does not exist; give the JSON of `leadline reference build`, or CSV or Parquet of training rows"
        )
    if ".json" in path.suffixes:
        return load_reference(unpacked(path), str(path)).keeping(probes, resources)
    columns = read_table(path)
    return build_reference(
        columns,
        task=task,
        positive_label=positive_label,
        threshold=threshold,
        business=business,
        source=path.name,
        probes=probes,
        resources=resources,
    )


def build_reference(
    columns: Columns,
    *,
    task: Literal["auto", "binary", "regression", "multiclass"] = "auto",
    positive_label: ClassValue | None = None,
    threshold: float = 0.5,
    business: Sequence[str] = (),
    source: str = "",
    learned: bool = False,
    probes: Sequence[str] = (),
    resources: Sequence[str] = (),
) -> Reference:
    """Edges, then counts of all rows and of every segment value, by the same code that counts live rows."""
    n = len(next(iter(columns.values()), ()))
    if n == 0:
        raise BadReference("the reference holds no rows")
    segments = {name[len(SEGMENT_PREFIX) :]: columns[name] for name in columns if name.startswith(SEGMENT_PREFIX)}
    class_columns = {name[len(CLASS_PREFIX) :]: columns[name] for name in columns if name.startswith(CLASS_PREFIX)}
    scores: Sequence[Any] = columns.get("score", ())
    if class_columns:
        scores = [{name: float(values[at] or 0.0) for name, values in class_columns.items()} for at in range(n)]
    labels = columns.get("label")
    found = task if task != "auto" else _task(scores, labels, positive_label)
    given = feature_columns(columns)
    features = [feature for name, values in given.items() if (feature := _feature(name, values)) is not None]
    numeric_scores = [value for value in scores if isinstance(value, float)]
    if found == "multiclass":
        tops = [max(row.values()) for row in scores if isinstance(row, Mapping) and row]
        score = numeric_feature("score", np.array(tops)) if tops else None
    else:
        score = numeric_feature("score", np.array(numeric_scores)) if numeric_scores else None
    classes = _classes(scores, labels) if found == "multiclass" else ()
    made = partial(
        Reference,
        task=found,
        features=features,
        score=score,
        classes=classes,
        business=business,
        learned=learned,
        source=source,
        probes=[*probes, *_layers(columns)],
        resources=[*resources, *(name[len(RESOURCE_PREFIX) :] for name in columns if name.startswith(RESOURCE_PREFIX))],
        joint=_main_directions(features, given),
    )
    cells, blocks = _count(made(), columns, given, scores, labels, segments, positive_label, threshold)
    return made(cells=cells, varies=order_variation(made(cells=cells), blocks))


def feature_columns(columns: Columns) -> dict[str, Sequence[Any]]:
    """The columns that are features, by the features' names. One that is called like another column is given as `feature__NAME`."""
    found = {name: values for name, values in columns.items() if name not in RESERVED and not name.startswith(PREFIXES)}
    for name, values in columns.items():
        if name.startswith(FEATURE_PREFIX):
            feature = name.removeprefix(FEATURE_PREFIX)
            if feature in found:
                raise BadReference(f"the columns {feature!r} and {name!r} are one feature; which of the two is meant?")
            found[feature] = values
    return found


def _layers(columns: Columns) -> list[str]:
    ends = tuple(f"__{part}" for part in PROBE_PARTS)
    probes = [name.removeprefix(PROBE_PREFIX) for name in columns if name.startswith(PROBE_PREFIX)]
    odd = [name for name in probes if not name.endswith(ends)]
    if odd:
        raise BadReference(
            f"column '{PROBE_PREFIX}{odd[0]}' is no {PROBE_PREFIX}LAYER__mean or {PROBE_PREFIX}LAYER__std"
        )
    return [name.rpartition("__")[0] for name in probes]


def _main_directions(features: Sequence[Feature], columns: Columns) -> FrozenPca | None:
    """The fewest directions that hold most of what the numeric features say together; None where rows are too few to know."""
    numeric = [feature for feature in features if feature.kind == "numeric"]
    if not LEAST_JOINT <= len(numeric) <= MOST_JOINT:
        return None
    table = np.zeros((len(columns[numeric[0].name]), len(numeric)))
    if len(table) < max(LEAST_JOINT_ROWS, ROWS_A_COLUMN * len(numeric)):
        return None
    for at, feature in enumerate(numeric):
        values = feature.assign(columns[feature.name])[1]
        assert values is not None
        table[:, at] = np.nan_to_num((values - feature.center) / feature.scale, nan=0.0, posinf=0.0, neginf=0.0)
    clipped = np.clip(table, -CLIP, CLIP)
    held = np.linalg.eigvalsh(np.cov(clipped, rowvar=False))[::-1].cumsum()
    k = int(np.searchsorted(held, EXPLAINED * held[-1])) + 1
    return FrozenPca.fit(table, min(k, MOST_DIRECTIONS, len(numeric) - 1))


def _task(scores: Sequence[Any], labels: Sequence[Any] | None, positive_label: ClassValue | None) -> Task:
    if any(isinstance(score, Mapping) for score in scores):
        return "multiclass"
    inside = all(isinstance(score, float) and 0.0 <= score <= 1.0 for score in scores if score is not None)
    if labels is None or positive_label is not None:
        return "binary" if inside else "regression"
    binary = all(binary_class(label) in (0.0, 1.0) for label in labels if label is not None)
    return "binary" if inside and binary else "regression"


def _feature(name: str, values: Sequence[Any]) -> Feature | None:
    present = [value for value in values if value is not None]
    if not present:
        return None  # a column that was always null says nothing about what is usual
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in present):
        numbers = np.array(present, dtype=np.float64)
        return numeric_feature(name, numbers) if np.isfinite(numbers).any() else None
    try:
        return categorical_feature(name, CategoryBins.from_reference(present, top=TOP_CATEGORIES))
    except BadValues as error:
        raise BadReference(f"column {name!r}: {error}") from None


def _classes(scores: Sequence[Any], labels: Sequence[Any] | None) -> tuple[str, ...]:
    names = {name for row in scores if isinstance(row, Mapping) for name in row}
    names |= {name for label in labels or () if label is not None and (name := category(label)) is not None}
    return tuple(sorted(names))


def _count(
    reference: Reference,
    columns: Columns,
    features: Columns,
    scores: Sequence[Any],
    labels: Sequence[Any] | None,
    segments: Mapping[str, Sequence[Any]],
    positive_label: ClassValue | None,
    threshold: float,
) -> tuple[dict[str | None, Vector], list[Vector]]:
    """Vectors of all rows and of each segment, and those of `BLOCK_ROWS` rows at a time, in the order of the file."""
    n = len(next(iter(columns.values())))
    rows = [dict(zip(features, values, strict=True)) for values in zip(*features.values(), strict=True)] or [{}] * n
    missing: Any = {} if reference.task == "multiclass" else float("nan")
    answers = [value if value is not None else missing for value in scores] if len(scores) else [missing] * n
    measured = measure(reference, answers, columns.get("prediction") or [None] * n, rows, threshold)
    tally = Tally(reference.layout)
    everything = np.arange(n)
    tally_predictions(tally, measured, everything)
    if measured.unexplained is not None:
        # The directions were fitted to the even rows: on those the error is too small.
        tally_joint(tally, everything[1::2], measured.unexplained[1::2])
    _count_optional(tally, everything, columns)
    if labels is not None:
        truth = read_labels(reference, labels, positive_label)
        known = np.flatnonzero(np.isfinite(truth))
        tally.one("joined", known)
        tally.one("outcomes", known)
        delays = _numbers(columns.get("label_delay_s"))
        if delays is not None:
            delayed = np.flatnonzero(np.isfinite(delays) & np.isfinite(truth))
            tally_delays(tally, delayed, delays[delayed])
        joined = JoinedRows(
            measured.score,
            measured.predicted,
            truth,
            age_bins(delays) if delays is not None else np.full(n, -1),
            measured.score_codes,
            measured.class_scores,
        )
        tally_outcomes(tally, known, joined.of(np.isfinite(truth)), reference)
    for name in reference.layout.business:
        amounts = _numbers(columns.get(VALUE_PREFIX + name))
        if amounts is not None:
            given = [{name: amount} if np.isfinite(amount) else None for amount in amounts.tolist()]
            tally_business(tally, everything, given, 1.0)
    keys = np.full((n, 2 + len(segments)), -1, dtype=np.int64)
    keys[:, 0] = 0
    found: list[str | None] = [None]
    for at, (segment, values) in enumerate(segments.items(), start=1):
        texts = [category(value) if value is not None else None for value in values]
        frequency: dict[str, int] = {}
        for text in texts:
            if text is not None:
                frequency[text] = frequency.get(text, 0) + 1
        for text in sorted(frequency, key=lambda item: (-frequency[item], item))[:MAX_SEGMENTS]:
            keys[[other == text for other in texts], at] = len(found)
            found.append(f"{segment}={text}")
    blocks = n // BLOCK_ROWS
    keys[: blocks * BLOCK_ROWS, -1] = len(found) + everything[: blocks * BLOCK_ROWS] // BLOCK_ROWS
    vectors = [_dense(reference, sparse) for sparse in tally.fold(keys, len(found) + blocks)]
    return dict(zip(found, vectors[: len(found)], strict=True)), vectors[len(found) :]


def _count_optional(tally: Tally, rows: Indices, columns: Columns) -> None:
    """What services publish beside features and score, where training rows say it."""
    layout = tally.layout
    for name, count in (
        ("latency_ms", tally_latency),
        ("confidence", tally_confidence),
    ):
        numbers = _numbers(columns.get(name))
        if numbers is not None:
            count(tally, rows, numbers)
    if "embedding_norm" in columns:
        tally_embedding(tally, rows, [_optional(value) for value in columns["embedding_norm"]])
    for name in layout.resources:
        numbers = _numbers(columns.get(RESOURCE_PREFIX + name))
        if numbers is not None:
            tally_resource(tally, rows, name, numbers)
    for layer in layout.probes:
        for part in PROBE_PARTS:
            numbers = _numbers(columns.get(f"{PROBE_PREFIX}{layer}__{part}"))
            if numbers is not None:
                tally_layer(tally, rows, layer, part, numbers)
    if "pipeline_fingerprint" in columns:
        tally_pipeline(tally, rows, [_word(value) for value in columns["pipeline_fingerprint"]])
    runtimes = [name for name in columns if name.startswith(RUNTIME_PREFIX)]
    if runtimes:
        stated = [
            {
                name.removeprefix(RUNTIME_PREFIX): word
                for name, value in zip(runtimes, row, strict=True)
                if (word := _word(value)) is not None
            }
            for row in zip(*(columns[name] for name in runtimes), strict=True)
        ]
        tally_runtime(tally, rows, stated)


def _optional(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else None


def _word(value: Any) -> str | None:
    """A version as text: in CSV 2.1 is read as a number."""
    return None if value is None else category(value)


def _dense(reference: Reference, sparse: Sparse) -> Vector:
    vector = np.zeros(reference.layout.size)
    vector[sparse.indices] = sparse.counts
    vector[sparse.sum_indices] = sparse.sums
    return vector


def _numbers(values: Sequence[Any] | None) -> np.ndarray | None:
    if values is None:
        return None
    return np.array([float(value) if isinstance(value, int | float) else np.nan for value in values])


def read_labels(
    reference: Reference, labels: Sequence[ClassValue | None], positive_label: ClassValue | None
) -> np.ndarray:
    """Labels as numbers of the reference's task: 0 or 1, a class index, or a value; NaN for what is none."""
    if reference.task == "binary":
        if positive_label is None and set(map(type, labels)) == {float}:
            numbers = np.array(labels, dtype=np.float64)
            return np.where((numbers == 0.0) | (numbers == 1.0), numbers, np.nan)
        return np.array([np.nan if label is None else binary_class(label, positive_label) for label in labels])
    if reference.task == "multiclass":
        return np.array([np.nan if label is None else class_index(reference, label) for label in labels])
    return np.array([float(label) if isinstance(label, int | float) else np.nan for label in labels])
