"""Recorded traffic for benchmarks: batches of predictions and labels in memory, and the reference they are judged by."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from streams.baselines.reference_files import build_reference
from streams.core.stage import Record
from streams.counting.references import Reference

FEATURES = tuple(f"feature_{number}" for number in range(10))
SITES, WARDS = ("north", "south", "harbour"), ("surgery", "cardiology", "oncology", "emergency")
BATCH = 8_000
REFERENCE_ROWS = 5_000
BEGIN_S = 1_780_000_000.0
PREDICTIONS_PER_S = 2_000.0
LABELLED = 0.5
Batch = tuple[str, list[Record]]


def reference(seed: int = 1, moved: float = 0.0) -> Reference:
    """A binary model's baseline: ten normal features, a score, two segments. `moved`: its features lie so many deviations lower, and
    as much of its labels are not as the scores say."""
    rng = np.random.default_rng([seed, 0])
    score = rng.beta(2, 5, REFERENCE_ROWS)
    columns: dict[str, Any] = {
        name: np.round(rng.normal(10 - 3 * moved, 3, REFERENCE_ROWS), 4).tolist() for name in FEATURES
    }
    columns |= {
        "score": score.tolist(),
        "label": (rng.random(REFERENCE_ROWS) < score * (1 - moved)).astype(float).tolist(),
    }
    columns["segment__site"] = [SITES[at] for at in rng.integers(0, 3, REFERENCE_ROWS)]
    columns["segment__ward"] = [WARDS[at] for at in rng.integers(0, 4, REFERENCE_ROWS)]
    return build_reference(columns)


def load(predictions: int, gap_s: float, models: int, seed: int = 2) -> list[Batch]:
    """Batches of one topic each, in order of arrival: predictions `gap_s` apart, then those labels that came meanwhile."""
    rng = np.random.default_rng([seed, predictions, models])
    values = np.round(rng.normal(10, 3, (predictions, len(FEATURES))), 4).tolist()
    scores = np.round(rng.beta(2, 5, predictions), 6)
    times = np.round(BEGIN_S + np.arange(predictions) * gap_s, 3)
    truth = (rng.random(predictions) < scores).astype(int).tolist()
    labelled = np.flatnonzero(rng.random(predictions) < LABELLED)
    label_times = np.round(times[labelled] + np.maximum(rng.exponential(3.0, len(labelled)), gap_s / 2), 3)
    site, ward, version = (
        rng.integers(0, 3, predictions),
        rng.integers(0, 4, predictions),
        rng.integers(0, 2, predictions),
    )
    ids = [f"{value:016x}{at:016x}" for at, value in enumerate(rng.integers(0, 2**62, predictions).tolist())]
    encode = msgspec.json.encode
    bodies = [
        encode(
            {
                "request_id": ids[at],
                "model_id": f"model-{at % models}",
                "model_version": "7" if version[at] else "8",
                "timestamp": stamp,
                "score": score,
                "prediction": int(score >= 0.5),
                "features": dict(zip(FEATURES, values[at], strict=True)),
                "segments": {"site": SITES[site[at]], "ward": WARDS[ward[at]]},
                "latency_ms": 12.5 + at % 7,
            }
        )
        for at, (stamp, score) in enumerate(zip(times.tolist(), scores.tolist(), strict=True))
    ]
    order = np.argsort(label_times, kind="stable")
    batches: list[Batch] = []
    done = 0
    for begin in range(0, predictions, BATCH):
        end = min(begin + BATCH, predictions)
        batches.append(
            (
                "predictions",
                [Record(at, ids[at].encode(), bodies[at], float(times[at]) + 0.05) for at in range(begin, end)],
            )
        )
        upto = int(np.searchsorted(label_times[order], times[end - 1])) if end < predictions else len(order)
        coming = [(int(labelled[at]), float(label_times[at])) for at in order[done:upto]]
        records = [
            Record(
                done + place,
                ids[at].encode(),
                encode({"request_id": ids[at], "label": truth[at], "timestamp": when}),
                when + 0.05,
            )
            for place, (at, when) in enumerate(coming)
        ]
        batches += [("labels", records[at : at + BATCH]) for at in range(0, len(records), BATCH)]
        done = upto
    return batches
