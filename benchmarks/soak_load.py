"""The load of `soak.py`: predictions whose labels follow at a fixed distance, made as they are sent, so that ten millions need no memory.

Row `k` has event time `begin + k / rate` and features, score and label of a row of the reference table, so nothing drifts. Request ids are
32 characters and follow from `k`: whoever counts needs no list of them.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any, NamedTuple

import confluent_kafka
import numpy as np
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.peers.load import FEATURES, PAYERS, SITES

ODD = 0x9E3779B97F4A7C15F39CC0605CEDC835  # times a number, modulo 2^128: every number another id, in no order
VERSIONS = ("7", "8")
TOLD_EVERY = 1_000


@dataclass(frozen=True, kw_only=True)
class Flow:
    """`rows` predictions over `span_s` of event time; row k's label is sent right after row k + `label_after`. None: no labels."""

    rows: int
    begin_s: float
    span_s: float
    label_after: int | None

    @property
    def labels(self) -> int:
        return 0 if self.label_after is None else max(self.rows - self.label_after, 0)

    @property
    def events(self) -> int:
        return self.rows + self.labels

    def time_of(self, row: int) -> float:
        return self.begin_s + row * self.span_s / self.rows


def request_id(row: int) -> str:
    return f"{(row + 1) * ODD % (1 << 128):032x}"


class Pool:
    """What predictions say beside their id and time, encoded once; and the labels that belong to it."""

    def __init__(self, reference: Path) -> None:
        rng = np.random.default_rng(3)
        self.bodies: list[str] = []
        self.labels: list[str] = []
        with reference.open(newline="") as file:
            for row in csv.DictReader(file):
                score = float(row["score"])
                body = {
                    "model_version": VERSIONS[rng.integers(2)],
                    "score": score,
                    "prediction": int(score >= 0.5),
                    "features": {name: float(row[name]) for name in FEATURES},
                    "segments": {"site": SITES[rng.integers(len(SITES))], "payer": PAYERS[rng.integers(len(PAYERS))]},
                }
                self.bodies.append(json.dumps(body)[1:])
                self.labels.append(row["label"])

    def prediction(self, flow: Flow, row: int) -> str:
        head = f'{{"request_id":"{request_id(row)}","model_id":"readmission","timestamp":{flow.time_of(row):.3f},'
        return head + self.bodies[row % len(self.bodies)]

    def label(self, flow: Flow, row: int, time_s: float) -> str:
        return f'{{"request_id":"{request_id(row)}","label":{self.labels[row % len(self.labels)]},"timestamp":{time_s:.3f}}}'


class Message(NamedTuple):
    """`topic`: 0 for predictions, 1 for labels. `time_s`: event time, and the record's timestamp."""

    topic: int
    key: str
    value: str
    time_s: float


def events(flow: Flow, pool: Pool) -> Iterator[Message]:
    """In the order of event time."""
    for row in range(flow.rows):
        time_s = flow.time_of(row)
        yield Message(0, request_id(row), pool.prediction(flow, row), time_s)
        if flow.label_after is not None and (labelled := row - flow.label_after) >= 0:
            yield Message(1, request_id(labelled), pool.label(flow, labelled, time_s), time_s)


def create_topics(bootstrap: str, topics: tuple[str, str], partitions: int) -> None:
    """Records keep their own timestamps, weeks back: by these a worker that reads a backlog keeps both topics in step."""
    config = {"message.timestamp.type": "CreateTime", "retention.ms": "-1"}
    made = [NewTopic(name, partitions, 1, config=config) for name in topics]
    admin = AdminClient({"bootstrap.servers": bootstrap})  # its futures end with it
    for future in admin.create_topics(made).values():
        future.result(30)


@dataclass(frozen=True)
class Reins:
    """Between the publisher and who watches it: `told` is what was handed to the client, `allowed` what may be."""

    told: Synchronized[Any]
    allowed: Synchronized[Any]


def publish(bootstrap: str, topics: tuple[str, str], sent: Iterable[Message], reins: Reins | None = None) -> None:
    """Send everything, as far as it is allowed. RuntimeError if one record was not acknowledged."""
    failed: list[str] = []

    def acknowledged(error: confluent_kafka.KafkaError | None, _: object) -> None:
        if error is not None:
            failed.append(str(error))

    options = {"partitioner": "murmur2_random", "enable.idempotence": True, "linger.ms": 50, "compression.type": "lz4"}
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, **options})
    parent = os.getppid()

    def wait(seconds: float) -> None:
        producer.poll(seconds)
        if os.getppid() != parent:
            raise RuntimeError("whoever watched is gone")

    for number, (topic, key, value, time_s) in enumerate(sent, 1):
        while True:
            try:
                stamp = round(time_s * 1e3)
                producer.produce(topics[topic], key=key, value=value, timestamp=stamp, on_delivery=acknowledged)
                break
            except BufferError:
                wait(0.1)
        if number % TOLD_EVERY == 0:
            producer.poll(0)
            if reins is not None:
                reins.told.value = number
                while number >= reins.allowed.value:
                    wait(0.05)
    producer.flush(120)
    if failed or len(producer):
        raise RuntimeError(f"{len(failed) + len(producer)} records not stored {failed[:1]}")


def publish_flow(bootstrap: str, topics: tuple[str, str], reference: Path, flow: Flow, reins: Reins) -> None:
    """A process of its own."""
    publish(bootstrap, topics, events(flow, Pool(reference)), reins)
    reins.told.value = flow.events


def publish_labels(
    bootstrap: str, topics: tuple[str, str], reference: Path, flow: Flow, rows: Iterable[int], time_s: float
) -> None:
    """Labels of these rows, all stamped at one time."""
    pool = Pool(reference)
    publish(bootstrap, topics, (Message(1, request_id(row), pool.label(flow, row, time_s), time_s) for row in rows))
