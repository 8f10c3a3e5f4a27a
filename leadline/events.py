"""The wire contracts: what services publish and what Leadline publishes back.

JSON on Kafka, UTF-8. Predictions and labels are keyed by request id, digests by model id, alerts by incident id. The structs are
msgspec structs, because the worker decodes them by the hundred thousand; `docs/schemas/` holds their JSON Schema, checked in CI.

Absent and null mean the same for every optional field. Unknown fields are ignored, so that producers may be newer than we are.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Timestamp = Annotated[float | str, Meta(description="epoch seconds, or an RFC 3339 string with an offset")]
FeatureValue = float | str | bool | None
ClassValue = float | str | bool
Identifier = Annotated[str, Meta(min_length=1, max_length=512)]
ModelId = Annotated[str, Meta(min_length=1, max_length=200)]
Version = Annotated[str, Meta(min_length=1, max_length=200)]
Stage = Literal["live", "shadow", "canary"]


class Probe(msgspec.Struct, frozen=True, gc=False):
    """Statistics of one layer's activations for one request."""

    mean: float | None = None
    std: float | None = None
    has_nan: bool = False
    has_inf: bool = False


class Prediction(msgspec.Struct, gc=False):
    """One answer of one model. `score` is a probability, a value, or a class-to-probability map.

    Every field after the first five defaults to None: the duplicate-key check of `streams.core.decode` counts the fields that are set.
    """

    request_id: Identifier
    model_id: ModelId
    model_version: Version
    timestamp: Timestamp
    score: float | dict[str, float]
    prediction: ClassValue | None = None
    features: dict[str, FeatureValue] | None = None
    segments: dict[str, str] | None = None
    stage: Stage | None = None
    latency_ms: float | None = None
    resources: dict[str, float] | None = None
    confidence: float | None = None
    entity_id: str | None = None
    context: dict[str, FeatureValue] | None = None
    embedding: float | list[float] | None = None
    probes: dict[str, Probe] | None = None
    pipeline_fingerprint: str | None = None
    runtime: dict[str, str] | None = None


class Label(msgspec.Struct, gc=False):
    """The truth about one request, as it became known."""

    request_id: Identifier
    label: ClassValue
    timestamp: Timestamp
    values: dict[str, float] | None = None
    definition_version: str | None = None


ChangeKind = Literal["deploy", "rollback", "feature_pipeline", "schema", "label_definition", "traffic"]


class Change(msgspec.Struct, gc=False):
    """Something that people did to a model: an incident names the change that came just before it."""

    model_id: ModelId
    kind: ChangeKind
    timestamp: Timestamp
    version: str | None = None
    stage: Stage | None = None
    share: float | None = None
    note: str | None = None


class Rejected(msgspec.Struct, frozen=True):
    """Bad input and where it came from. `original` is the message, base64, cut at `rejected_original_bytes` of the configuration."""

    reason: str
    detail: str
    source_topic: str
    source_partition: int
    source_offset: int
    timestamp: float
    original: bytes
    original_size: int


Width = Literal[1, 2, 4, 8]


class DigestCell(msgspec.Struct, frozen=True, array_like=True):
    """Additive counts of one cell (version, stage, segment) for one arrival pane and one cohort day.

    `counts` and `sums` say how many entries of the digest's arrays are this cell's, behind those of the cells before it.
    """

    version: str
    stage: str
    segment: str | None
    pane: int
    day: int
    counts: int
    sums: int


class DigestSample(msgspec.Struct, frozen=True):
    """Single values for the sequential detectors, in order of arrival: the score, all numeric features, or the loss of joined rows.

    `values` holds one list for each stream of the kind, as long as `times`: levels 0..65535 over the reference's range, -1 for none.
    `order` are hashes that break ties of time.
    """

    version: str
    stage: str
    kind: Literal["score", "features", "loss"]
    times: list[float]
    order: list[int]
    values: list[list[int]]


class LearningRow(msgspec.Struct, frozen=True):
    """One row of a model that has no reference yet: the first of them become its baseline."""

    pane: int
    day: int
    time: float
    order: int
    version: str
    stage: str
    segments: list[str]
    score: float | dict[str, float]
    features: dict[str, FeatureValue]
    prediction: ClassValue | None = None


class Digest(msgspec.Struct, frozen=True):
    """The mergeable summary of one batch of one source partition for one model; with an empty model id, the partition's clock alone."""

    source: int
    sequence: int
    model_id: str
    layout: str
    clock: float
    sent_at: float
    cells: list[DigestCell] = []
    slots: bytes = b""
    """The slots (docs/digests.md) of every cell's counts, then of its sums, cell after cell: little-endian unsigned integers, base64."""
    counts: bytes = b""
    """The counts behind their slots: little-endian signed integers. A corrected label appears as negative and positive entries."""
    sums: bytes = b""
    """The real-valued sums behind theirs: little-endian doubles."""
    slot_bytes: Width = 2
    count_bytes: Width = 1
    samples: list[DigestSample] = []
    cohorts: list[tuple[int, int, int, int, int]] = []
    """(start of the quarter hour of the prediction, predictions, joined, late, start of the quarter hour in which that was seen):
    changes, so entries may be negative."""
    cohort_versions: list[tuple[str, int]] = []
    """(model version, how many of the next `cohorts` are of it); an empty version: of none that serves."""
    learning: list[LearningRow] = []
    schema_seen: dict[str, dict[str, int]] = {}
    """version to (pipeline fingerprint, runtime version, unknown feature or wrong type) to number of predictions."""
    renames: dict[str, list[int]] = {}
    """missing and unknown feature of the same rows, to values of the unknown one by the missing one's coarse bins."""
    task: Literal["", "binary", "regression", "multiclass"] = ""
    """Of a model without a baseline: what its scores have said so far; the layout follows from it and `classes`."""
    classes: list[str] = []
    definitions: list[tuple[int, str, int]] = []
    """(arrival pane, version of the label's definition, labels in time that name it)."""


WIRE: dict[str, type[msgspec.Struct]] = {
    "prediction": Prediction,
    "label": Label,
    "change": Change,
    "rejected": Rejected,
    "digest": Digest,
}


def json_schemas() -> dict[str, dict[str, object]]:
    """The JSON Schema of every wire struct, by name; `docs/schemas/NAME.json` holds the same text."""
    return {name: msgspec.json.schema(struct) for name, struct in WIRE.items()}
