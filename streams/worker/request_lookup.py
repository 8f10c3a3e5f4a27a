"""One request's row, found in Redis and put into words. Reads what the observers commit, claims nothing."""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from leadline.config import Config
from leadline.partition import partition_of
from streams.baselines.reference_files import read_reference
from streams.baselines.stored_reference import load_reference
from streams.core.request_keys import request_key
from streams.counting.features import BadReference
from streams.counting.references import Reference
from streams.observe.combinations import Combination
from streams.observe.partition_state import COMBINATIONS_TABLE, Checkpoint
from streams.observe.request_rows import RequestRows
from streams.observe.rows import (
    EARLY,
    JOINED,
    LATE_SEEN,
    REVISED,
    TOO_EARLY_SEEN,
    class_scores,
    codes_at,
    combination_of,
    has_flag,
    heads,
    kind_of,
    label_of,
    time_of,
    unpack_waiting,
)
from streams.store.store import Store
from streams.worker.learned import SUFFIX


def look_up(store: Store, config: Config, request_id: str) -> dict[str, Any] | None:
    """What is known of a request, as plain values; None where nothing is.

    The partition that Kafka's default partitioner gives comes first; a producer with another one is found all the same, and said.
    """
    prefix = config.redis.prefix
    partitions = known_partitions(store, prefix)
    if not partitions:
        return None
    expected = partition_of(request_id.encode(), max(partitions) + 1)
    for partition in sorted(partitions, key=lambda number: (number != expected, number)):
        owner = f"{prefix}:i:{{o:{partition}}}"
        packed = store.row(f"{owner}:meta", b"checkpoint")
        if packed is None:
            continue
        state = msgspec.msgpack.decode(packed, type=Checkpoint)
        for bucket in sorted(state.buckets, reverse=True):
            row = store.row(f"{owner}:t:{RequestRows.table(bucket)}", request_key(request_id))
            if row is not None:
                found = {
                    "request_id": request_id,
                    "partition": partition,
                    **_describe(store, config, owner, state, row),
                }
                if partition != expected:
                    found["warning"] = (
                        f"expected on partition {expected}: its producer does not use Kafka's murmur2 partitioner"
                    )
                return found
    return None


def known_partitions(store: Store, prefix: str) -> list[int]:
    """Partitions that an observer has ever claimed."""
    escaped = re.sub(r"([*?\[\]\\])", r"\\\1", prefix)
    return [int(key.rpartition("{o:")[2].partition("}")[0]) for key in store.keys(f"{escaped}:i:{{o:*}}:meta")]


def _describe(store: Store, config: Config, owner: str, state: Checkpoint, row: bytes) -> dict[str, Any]:
    watermark = state.watermark if math.isfinite(state.watermark) else None
    if kind_of(row) == EARLY:
        waiting = unpack_waiting(row)
        return {
            "state": "early"
            if watermark is None or waiting[0].time + config.join.early_tolerance >= watermark
            else "orphan",
            "meaning": "its label has come, its prediction has not",
            "timestamp": waiting[0].time,
            "labels": [label.label for label in waiting],
            "watermark": watermark,
        }
    packed = store.row(f"{owner}:t:{COMBINATIONS_TABLE}", str(combination_of(row)).encode())
    who = msgspec.msgpack.decode(packed, type=Combination) if packed else Combination("?", "?", "?", (), "")
    reference = _reference(store, config, who.model_id, who.bins)
    head, time = heads([row]), time_of(row)
    due = time + config.join.delay_window
    joined = kind_of(row) == JOINED
    if joined:
        name, meaning = "joined", "prediction and label were counted together"
    elif has_flag(row, LATE_SEEN):
        name, meaning = "late", "its label came after the delay window"
    elif watermark is not None and due < watermark:
        name, meaning = "expired", "no label came within the delay window"
    else:
        name, meaning = "pending", "waits for its label"
    found: dict[str, Any] = {
        "state": name,
        "meaning": meaning,
        "model_id": who.model_id,
        "model_version": who.version,
        "stage": who.stage,
        "segments": dict(who.segments),
        "timestamp": time,
        "due_at": due,
        "watermark": watermark,
        "score": _finite(float(head.score[0])),
        "predicted": _finite(float(head.predicted[0])),
    }
    if joined:
        found["label"] = _class(reference, label_of(row))
        found["revised"] = has_flag(row, REVISED)
    if has_flag(row, TOO_EARLY_SEEN):
        found["note"] = "a label stamped too long before its prediction was not counted"
    if reference is not None:
        found["predicted"] = _class(reference, found["predicted"])
        codes = row[codes_at(row) : codes_at(row) + len(reference.features)]
        found["features"] = {
            feature.name: feature.bins.labels[code] for feature, code in zip(reference.features, codes, strict=False)
        }
        found["out_of_distribution"] = far_features(reference, codes)
        if reference.task == "multiclass" and reference.classes:
            scores = class_scores([row], len(reference.classes))[0]
            found["score"] = {name: float(score) for name, score in zip(reference.classes, scores, strict=True)}
    return found


def far_features(reference: Reference, codes: bytes) -> list[str]:
    """Names of the numeric features that lay more than three of the reference's deviations off, by the bins of a stored row.

    A reference that was built before bins ended there does not tell of its features.
    """
    return [
        feature.name
        for feature, code in zip(reference.features, codes, strict=False)
        if feature.far_codes is not None and code in feature.far_codes
    ]


def _reference(store: Store, config: Config, model_id: str, fingerprint: str) -> Reference | None:
    """The reference whose bins the row was counted with; None where it is gone or cannot be read here."""
    model = config.model_for(model_id)
    try:
        if model.reference is not None:
            found = read_reference(
                model.reference,
                task=model.task,
                positive_label=model.positive_label,
                threshold=model.threshold,
                business=model.business,
                probes=model.probes,
                resources=model.resources,
            )
        else:
            text = store.text(f"{config.redis.prefix}:model:{model_id}{SUFFIX}")
            if text is None:
                return None
            found = load_reference(text)
    except (BadReference, OSError):
        return None  # the row itself is told all the same
    return found if found.bins_fingerprint == fingerprint else None


def _class(reference: Reference | None, value: float | None) -> float | str | None:
    """A class index as its name."""
    if value is None or not math.isfinite(value):
        return None
    if reference is None or reference.task != "multiclass":
        return value
    return reference.classes[int(value)] if 0 <= value < len(reference.classes) else "(unknown class)"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
