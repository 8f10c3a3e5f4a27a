"""A batch of a backlog may span days: a label is looked at as of when it came, not as of the batch's end."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
import pytest

from streams.baselines.reference_book import ReferenceBook
from streams.core.records import Records
from streams.observe.partition_state import Checkpoint
from streams.observe.partitioner import KeyCheck
from streams.store.tables import Owner
from streams.store.tables_memory import MemoryTables
from streams.transport.chain import Part
from streams.transport.settings import WorkerSettings
from streams.worker.claiming import Held
from streams.worker.factories import ObserveFactory
from streams.worker.folding import fold
from streams.worker.shared import Shared
from tests.streams.history import T0, WINDOW, configuration, label, prediction, reference


def joined(requests: int, every_s: float) -> int:
    """Of a backlog that is read as one batch: a label ten minutes after each prediction, rows kept for half a window longer than it."""
    config = configuration(late_retention=WINDOW / 2)
    book = ReferenceBook(config, {"m": reference()})
    settings = WorkerSettings(bootstrap_servers="", redis_url="")
    shared = Shared(settings, MemoryTables(), *cast(Any, (None, None, {})))
    owner = Owner("observe", 0)
    stage = ObserveFactory(config, book, 1).build(0, b"", {})
    topics = (settings.topics.predictions, settings.topics.labels)
    held = Held("1", 0, dict.fromkeys(topics, 0), stage, {}, KeyCheck(0, {}))
    parts = []
    for topic, delay, make in (
        (topics[0], 0.0, lambda number, when: prediction(number, when, 5)),
        (topics[1], 600.0, lambda number, when: label(number, when, True)),
    ):
        records = []
        for number in range(requests):
            when = T0 + number * every_s + delay
            records.append(make(number, when).record(number)._replace(timestamp=when))
        parts.append(Part(topic, 0, requests, Records.of(records)))
    effects, _ = asyncio.run(fold(owner, held, parts, shared))
    return msgspec.msgpack.decode(effects.checkpoint, type=Checkpoint).counts.get("joined", 0)


def test_labels_of_a_backlog_find_their_predictions_however_long_a_time_one_batch_spans() -> None:
    assert joined(2_000, 30.0) == 2_000


@pytest.mark.parametrize("every_s", [0.1, 700.0])
def test_dense_and_sparse_backlogs_alike(every_s: float) -> None:
    assert joined(300, every_s) == 300
