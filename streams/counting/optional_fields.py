"""The fields of a prediction that a service may leave out, as counts. What no row of a batch carries costs one look at its column."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from detectors.embedding import norms
from leadline.events import Prediction, Probe
from streams.counting.layout import PIPELINE_SLOTS, RUNTIME_SLOTS
from streams.counting.log_bins import LATENCY_MS, RESOURCE
from streams.counting.means import LARGEST
from streams.counting.measure import Floats
from streams.counting.tally import Indices, Tally

MAX_SCHEMA_NAMES = 50  # fingerprints and runtime versions told of one model version in one batch


def tally_optional(tally: Tally, rows: Indices, column: Callable[[str], Sequence[Any]]) -> None:
    """Called once for each reference of a batch. `rows` [n] index the keys of `Tally.fold`; `column` gives a field's values [n]."""
    latency_ms = _numbers(column("latency_ms"))
    if latency_ms is not None:
        tally_latency(tally, rows, latency_ms)
    confidence = _numbers(column("confidence"))
    if confidence is not None:
        tally_confidence(tally, rows, confidence)
    embeddings = column("embedding")
    if embeddings.count(None) < len(embeddings):
        tally_embedding(tally, rows, embeddings)
    if tally.layout.resources:
        resources = column("resources")
        if resources.count(None) < len(resources):
            for name in tally.layout.resources:
                used = _numbers([None if row is None else row.get(name) for row in resources])
                if used is not None:
                    tally_resource(tally, rows, name, used)
    probes = column("probes")
    if probes.count(None) < len(probes):
        _probes(tally, rows, probes)
    prints = column("pipeline_fingerprint")
    if prints.count(None) < len(prints):
        tally_pipeline(tally, rows, prints)
    runtimes = column("runtime")
    if runtimes.count(None) < len(runtimes):
        tally_runtime(tally, rows, runtimes)


def tally_latency(tally: Tally, rows: Indices, latency_ms: Floats) -> None:
    """Milliseconds [n], NaN where a row has none; what is below zero is no latency."""
    measured = np.isfinite(latency_ms) & (latency_ms >= 0)
    rows, latency_ms = rows[measured], np.minimum(latency_ms[measured], LARGEST)
    tally.one("latency_rows", rows)
    tally.one("latency_sum", rows, latency_ms)
    tally.one("latency_squares", rows, latency_ms**2)
    tally.add(rows, tally.layout.offset("latency") + LATENCY_MS.assign(latency_ms))


def tally_confidence(tally: Tally, rows: Indices, confidence: Floats) -> None:
    """The model's own word for how sure it is [n], NaN where a row has none."""
    tally_mean(tally, rows, confidence, "confidence_rows", "confidence_sum", "confidence_squares")


def tally_embedding(tally: Tally, rows: Indices, embeddings: Sequence[float | Sequence[float] | None]) -> None:
    """Vectors, or norms that services took themselves. An empty vector and a norm below zero are invalid."""
    given, norm = embedding_norms(embeddings)
    rows, norm = rows[given], norm[given]
    invalid = ~np.isfinite(norm)
    tally.one("embedding_invalid", rows[invalid])
    tally_mean(tally, rows, norm, "embedding_rows", "embedding_sum", "embedding_squares")


def embedding_norms(embeddings: Sequence[float | Sequence[float] | None]) -> tuple[np.ndarray, Floats]:
    """(mask of the rows that have one, L2 norms [n], NaN for what is invalid)."""
    n = len(embeddings)
    given = np.fromiter((value is not None for value in embeddings), np.bool_, n)
    norm = np.full(n, np.nan)
    by_length: dict[int, list[int]] = {}
    for at in np.flatnonzero(given).tolist():
        value: Any = embeddings[at]
        if isinstance(value, int | float):
            norm[at] = value if value >= 0 else np.nan
        elif len(value):
            by_length.setdefault(len(value), []).append(at)
    for places in by_length.values():
        norm[places] = norms(np.array([embeddings[at] for at in places], dtype=np.float64))
    return given, norm


def tally_resource(tally: Tally, rows: Indices, name: str, used: Floats) -> None:
    """One resource [n], NaN where a row does not state it."""
    tally_mean(tally, rows, used, f"resource_rows:{name}", f"resource_sum:{name}", f"resource_squares:{name}")
    stated = np.isfinite(used)
    bins = RESOURCE.assign(np.maximum(used[stated], 0.0))
    tally.add(rows[stated], tally.layout.offset(f"resource_used:{name}") + bins)


def tally_layer(tally: Tally, rows: Indices, layer: str, part: str, values: Floats) -> None:
    """The mean or the std (`part`) of one layer's activations [n]."""
    sections = (f"layer_{part}_{power}:{layer}" for power in ("rows", "sum", "squares"))
    tally_mean(tally, rows, values, *sections)


def tally_mean(tally: Tally, rows: Indices, values: Floats, counted: str, total: str, squares: str) -> None:
    """Values [n] into the three sections of a mean; what is not finite is left out."""
    stated = np.isfinite(values)
    rows, values = rows[stated], np.clip(values[stated], -LARGEST, LARGEST)
    tally.one(counted, rows)
    tally.one(total, rows, values)
    tally.one(squares, rows, values * values)


def _probes(tally: Tally, rows: Indices, probes: Sequence[Mapping[str, Probe] | None]) -> None:
    declared = tally.layout.probes
    for layer in declared:
        found = [None if row is None else row.get(layer) for row in probes]
        if found.count(None) == len(found):
            continue
        for part, values in (
            ("mean", [None if probe is None else probe.mean for probe in found]),
            ("std", [None if probe is None else probe.std for probe in found]),
        ):
            numbers = _numbers(values)
            if numbers is not None:
                tally_layer(tally, rows, layer, part, numbers)
        tally.one(f"nan:{layer}", rows[[probe is not None and probe.has_nan for probe in found]])
        tally.one(f"inf:{layer}", rows[[probe is not None and probe.has_inf for probe in found]])
    known = set(declared)
    for section, faulty in (("probe_nan", _has_nan), ("probe_inf", _has_inf)):
        mask = [
            row is not None and any(faulty(probe) for layer, probe in row.items() if layer not in known)
            for row in probes
        ]
        tally.one(section, rows[mask])


def _has_nan(probe: Probe) -> bool:
    return probe.has_nan


def _has_inf(probe: Probe) -> bool:
    return probe.has_inf


def tally_pipeline(tally: Tally, rows: Indices, prints: Sequence[str | None]) -> None:
    """Rows by a hash of the fingerprint of the pipeline that made their features."""
    stated = np.fromiter((name is not None for name in prints), np.bool_, len(prints))
    slots = np.array([hashed(name, PIPELINE_SLOTS) for name in prints if name is not None], dtype=np.int64)
    tally.one("pipeline_rows", rows[stated])
    tally.add(rows[stated], tally.layout.offset("pipeline") + slots)


def tally_runtime(tally: Tally, rows: Indices, runtimes: Sequence[Mapping[str, str] | None]) -> None:
    """Rows by a hash of each library and its version: a row counts once for each of them."""
    stated = np.fromiter((bool(names) for names in runtimes), np.bool_, len(runtimes))
    tally.one("runtime_rows", rows[stated])
    of_row: list[int] = []
    slots: list[int] = []
    for at in np.flatnonzero(stated).tolist():
        hashes = {hashed(name, RUNTIME_SLOTS) for name in runtime_names(runtimes[at])}
        of_row += [at] * len(hashes)
        slots += hashes
    tally.add(rows[of_row], tally.layout.offset("runtime") + np.array(slots, dtype=np.int64))


def runtime_names(runtime: Mapping[str, str] | None) -> list[str]:
    """`library=version` of each."""
    return [f"{name}={value}" for name, value in (runtime or {}).items()]


@lru_cache(maxsize=4096)
def hashed(name: str, slots: int) -> int:
    """The slot in which a name is counted: two names share one with chance 1 / slots."""
    return zlib.crc32(name.encode("utf-8", "surrogatepass")) % slots


def count_schema(seen: dict[str, dict[str, int]], events: Sequence[Prediction]) -> None:
    """Adds the pipeline fingerprints and runtime versions that services publish: version to name to number of predictions."""
    silent = [event.pipeline_fingerprint is None and event.runtime is None for event in events]
    if all(silent):
        return
    for event, nothing in zip(events, silent, strict=True):
        if nothing:
            continue
        of_version = seen.setdefault(event.model_version, {})
        names = [f"runtime {name}" for name in runtime_names(event.runtime)]
        if event.pipeline_fingerprint is not None:
            names.append(f"pipeline {event.pipeline_fingerprint}")
        for name in names:
            if name in of_version or len(of_version) < MAX_SCHEMA_NAMES:
                of_version[name] = of_version.get(name, 0) + 1


def _numbers(values: Sequence[float | None]) -> Floats | None:
    if values.count(None) == len(values):
        return None
    return np.array(values, dtype=np.float64)
