"""The load: predictions and labels in Leadline's wire contract, and the counts that a right answer must have.

A readmission model in two versions with ten numeric features and two segments. Every label carries the request id of
one prediction except for a known share: 2 % of the predictions never get a label, and as many labels name a request
that nobody predicted. Labels are stamped after their prediction. Both are published together in the order of event
time, as services fill a log that a worker then finds: a backlog. All values come from one seed, so the expected counts
are computed here in numpy, apart from the code that the peers run.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import merge
from pathlib import Path
from typing import Any

import confluent_kafka
import msgspec
import numpy as np
import numpy.typing as npt
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.peers.work import SCORE_BINS, score_edges

FEATURES = (
    "age_years",
    "stay_days",
    "prior_visits",
    "medications",
    "creatinine_mg_dl",
    "glucose_mg_dl",
    "systolic_mmhg",
    "heart_rate_bpm",
    "hemoglobin_g_dl",
    "bmi",
)
WEIGHTS = np.array([0.5, 0.6, 0.9, 0.3, 0.5, 0.2, -0.1, 0.3, -0.4, 0.1])
SITES = ("north", "south", "harbour", "university")
PAYERS = ("public", "private", "none")
UNMATCHED = 0.02
REFERENCE_ROWS = 20_000
PREDICTIONS_PER_S = 1_000.0  # of event time

Floats = npt.NDArray[np.float64]
Timed = tuple[float, bytes, bytes]
"""Event time (epoch seconds), key, value of one record."""


def _features(rng: np.random.Generator, n: int) -> Floats:
    """``n`` rows of ten features in their own units, rounded as a service would send them."""
    columns = [
        np.clip(rng.normal(62, 17, n), 0, 105),
        rng.gamma(2.0, 2.5, n) + 0.5,
        rng.negative_binomial(1.2, 0.4, n).astype(float),
        rng.poisson(9, n).astype(float),
        rng.lognormal(0.05, 0.4, n),
        rng.lognormal(4.75, 0.3, n),
        rng.normal(131, 19, n),
        rng.normal(81, 14, n),
        rng.normal(12.4, 1.9, n),
        rng.gamma(22.0, 1.27, n),
    ]
    return np.round(np.column_stack(columns), 3)


def _score(rng: np.random.Generator, x: Floats) -> Floats:
    centre = np.array([62, 5.5, 1.8, 9, 1.14, 121, 131, 81, 12.4, 28])
    spread = np.array([17, 3.5, 2.1, 3, 0.47, 37, 19, 14, 1.9, 6])
    logit = ((x - centre) / spread) @ WEIGHTS - 1.2 + rng.normal(0, 0.4, len(x))
    scores: Floats = np.round(1 / (1 + np.exp(-logit)), 6)
    return scores


def write_reference(folder: Path, seed: int) -> tuple[Path, Path]:
    """Draw training rows; write them as CSV (for Leadline) and as bin edges in JSON (for the peers)."""
    rng = np.random.default_rng([seed, 1])
    x = _features(rng, REFERENCE_ROWS)
    score = _score(rng, x)
    label = (rng.random(REFERENCE_ROWS) < score).astype(int)
    rows = folder / "reference.csv"
    with rows.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*FEATURES, "score", "label"])
        writer.writerows(
            [*values, s, y] for values, s, y in zip(x.tolist(), score.tolist(), label.tolist(), strict=True)
        )
    inner = np.quantile(x, np.arange(1, 10) / 10, axis=0)
    edges = folder / "edges.json"
    told = {name: inner[:, i].tolist() for i, name in enumerate(FEATURES)}
    edges.write_text(json.dumps({"edges": told, "centers": x.mean(axis=0).tolist(), "scales": x.std(axis=0).tolist()}))
    return rows, edges


@dataclass(frozen=True, kw_only=True)
class Load:
    """One pair of topics' worth of events and what must come out of it."""

    events: int
    expected: dict[str, Any]
    predictions: list[Timed] = field(repr=False)
    labels: list[Timed] = field(repr=False)

    def in_order(self, topics: tuple[str, str]) -> Iterator[tuple[str, Timed]]:
        """Every record with its topic (predictions, labels), in the order of event time: as services would have sent them."""
        predictions, labels = topics
        return merge(
            ((predictions, record) for record in self.predictions),
            ((labels, record) for record in self.labels),
            key=lambda record: record[1][0],
        )


def generate(events: int, seed: int, edges_file: Path, begin_s: float) -> Load:
    """Build ``events`` events, half of them predictions, event time starting at ``begin_s`` (epoch seconds)."""
    n = events // 2
    rng = np.random.default_rng([seed, 2, events])
    x = _features(rng, n)
    score = _score(rng, x)
    label = (rng.random(n) < score).astype(int)
    matched = rng.random(n) >= UNMATCHED
    predicted_at = np.round(begin_s + np.arange(n) / PREDICTIONS_PER_S, 3)
    labelled_at = np.round(predicted_at + 1 + rng.exponential(60.0, n), 3)
    site, payer, version = rng.integers(0, 4, n), rng.integers(0, 3, n), rng.integers(0, 2, n)
    ids = [f"{value:032x}" for value in _distinct_ids(rng, n)]

    encode = msgspec.json.Encoder().encode
    scores, stamps = score.tolist(), predicted_at.tolist()
    predictions = [
        (
            stamps[i],
            ids[i].encode(),
            encode(
                {
                    "request_id": ids[i],
                    "model_id": "readmission",
                    "model_version": "7" if version[i] else "8",
                    "timestamp": stamps[i],
                    "score": scores[i],
                    "prediction": int(scores[i] >= 0.5),
                    "features": dict(zip(FEATURES, row, strict=True)),
                    "segments": {"site": SITES[site[i]], "payer": PAYERS[payer[i]]},
                }
            ),
        )
        for i, row in enumerate(x.tolist())
    ]
    labels: list[Timed] = []
    label_stamps, label_values = labelled_at.tolist(), label.tolist()
    for i in np.argsort(labelled_at, kind="stable").tolist():
        request_id = ids[i] if matched[i] else "ffff" + ids[i][4:]
        body = {"request_id": request_id, "label": label_values[i], "timestamp": label_stamps[i]}
        labels.append((label_stamps[i], request_id.encode(), encode(body)))
    return Load(
        events=2 * n, expected=_expected(x, score, label, matched, edges_file), predictions=predictions, labels=labels
    )


def _distinct_ids(rng: np.random.Generator, n: int) -> Iterator[int]:
    """128-bit ids that never begin with ``ffff``; the lower half permutes the row numbers, so no two agree."""
    high = rng.integers(0, 0xFFFE << 48, n, dtype=np.uint64).tolist()
    odd = 0x9E3779B97F4A7C15
    return ((value << 64) | (i * odd % (1 << 64)) for i, value in enumerate(high, start=1))


def _expected(
    x: Floats, score: Floats, label: npt.NDArray[np.int_], matched: npt.NDArray[np.bool_], edges_file: Path
) -> dict[str, Any]:
    edges = json.loads(edges_file.read_text())["edges"]
    bins = {
        name: np.bincount(np.searchsorted(edges[name], x[:, i], side="right"), minlength=10).tolist()
        for i, name in enumerate(FEATURES)
    }
    score_bin = np.searchsorted(score_edges(), score, side="right")
    positives = np.bincount(score_bin[matched & (label == 1)], minlength=SCORE_BINS).tolist()
    negatives = np.bincount(score_bin[matched & (label == 0)], minlength=SCORE_BINS).tolist()
    joined = int(matched.sum())
    return {
        "predictions": len(x), "labels": len(x), "joined": joined,
        "bins": bins, "positives": positives, "negatives": negatives, "windowed": [[len(x)], joined],
    }  # fmt: skip


def create_topics(bootstrap: str, names: list[str], partitions: int) -> None:
    """Create the topics; raises KafkaException where the broker refuses."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(name, partitions, 1) for name in names]).values():
        future.result(timeout=30)


def delete_topics(bootstrap: str, run_id: str) -> None:
    """Delete every topic with ``run_id`` in its name; the peers' changelogs carry it somewhere in the middle."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    names = [name for name in admin.list_topics(timeout=10).topics if run_id in name]
    if names:
        for future in admin.delete_topics(names).values():
            future.result(timeout=30)


def publish(bootstrap: str, load: Load, topics: tuple[str, str], step: Callable[[int], object]) -> None:
    """Send the load's predictions and labels as services do: both in the order of event time, which is the records' timestamp,
    partitioned as Java clients do. ``step(n)`` is told of every ``n`` sent.

    Raises RuntimeError if one record was not acknowledged: a load with holes would make every count wrong.
    """
    failed: list[str] = []

    def acknowledged(error: confluent_kafka.KafkaError | None, _: object) -> None:
        if error is not None:
            failed.append(str(error))

    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "linger.ms": 50,
            "queue.buffering.max.messages": 200_000,
        }
    )
    for i, (topic, (when, key, value)) in enumerate(load.in_order(topics), start=1):
        while True:
            try:
                producer.produce(topic, value=value, key=key, timestamp=round(when * 1e3), on_delivery=acknowledged)
                break
            except BufferError:
                producer.poll(0.1)
        if i % 10_000 == 0:
            producer.poll(0)
            step(10_000)
    producer.flush(60)
    step(load.events % 10_000)
    if failed or len(producer):
        raise RuntimeError(f"{len(failed) + len(producer)} of {load.events} records not stored {failed[:1]}")
