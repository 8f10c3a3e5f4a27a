"""The fields of a prediction that a service may leave out, as counts. What no row of a batch carries costs one look at its column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leadline.events import Prediction
from streams.log_bins import LATENCY_MS
from streams.measure import Floats
from streams.tally import Indices, Tally

MAX_SCHEMA_NAMES = 50  # fingerprints and runtime versions told of one model version in one batch


def tally_optional(tally: Tally, rows: Indices, events: Sequence[Prediction]) -> None:
    """Called once for each model of a batch. `rows` [n] index the keys of `Tally.fold`, one for each event."""
    latency_ms = _numbers([event.latency_ms for event in events])
    if latency_ms is not None:
        tally_latency(tally, rows, latency_ms)
    confidence = _numbers([event.confidence for event in events])
    if confidence is not None:
        stated = np.isfinite(confidence)
        tally.one("confidence_rows", rows[stated])
        tally.one("confidence_sum", rows[stated], confidence[stated])


def tally_latency(tally: Tally, rows: Indices, latency_ms: Floats) -> None:
    """Milliseconds [n], NaN where a row has none; what is below zero is no latency."""
    measured = np.isfinite(latency_ms) & (latency_ms >= 0)
    tally.one("latency_rows", rows[measured])
    tally.one("latency_sum", rows[measured], latency_ms[measured])
    tally.add(rows[measured], tally.layout.offset("latency") + LATENCY_MS.assign(latency_ms[measured]))


def count_schema(seen: dict[str, dict[str, int]], events: Sequence[Prediction]) -> None:
    """Adds the pipeline fingerprints and runtime versions that services publish: version to name to number of predictions."""
    silent = [event.pipeline_fingerprint is None and event.runtime is None for event in events]
    if all(silent):
        return
    for event, nothing in zip(events, silent, strict=True):
        if nothing:
            continue
        of_version = seen.setdefault(event.model_version, {})
        names = [f"runtime {name}={value}" for name, value in (event.runtime or {}).items()]
        if event.pipeline_fingerprint is not None:
            names.append(f"pipeline {event.pipeline_fingerprint}")
        for name in names:
            if name in of_version or len(of_version) < MAX_SCHEMA_NAMES:
                of_version[name] = of_version.get(name, 0) + 1


def _numbers(values: Sequence[float | None]) -> Floats | None:
    if values.count(None) == len(values):
        return None
    return np.array(values, dtype=np.float64)
