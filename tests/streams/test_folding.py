"""A batch of a backlog: its topics are folded side by side, so that no label comes after its prediction's row is gone."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.baselines.reference_book import ReferenceBook
from streams.core.stage import Record
from streams.observe.partition_state import Checkpoint
from streams.observe.partitioner import KeyCheck
from streams.store.tables import Owner
from streams.store.tables_memory import MemoryTables
from streams.transport.chain import Part
from streams.transport.settings import WorkerSettings
from streams.worker.claiming import Held
from streams.worker.factories import ObserveFactory
from streams.worker.folding import fold, in_step
from streams.worker.shared import Shared
from tests.streams.history import T0, WINDOW, configuration, label, prediction, reference


def part(topic: str, stamps: list[float], begin: int = 0) -> Part:
    records = [Record(begin + at, b"k", b"v", stamp) for at, stamp in enumerate(stamps)]
    return Part(topic, begin, begin + len(stamps), records)


def test_a_batch_of_a_moment_stays_as_it_is() -> None:
    parts = [part("p", [1.0, 2.0, 3.0]), part("l", [1.5, 2.5])]
    assert in_step(parts, 2.0) == parts


def test_a_batch_of_days_is_folded_in_pieces_by_turns() -> None:
    parts = [part("p", [0.0, 1.0, 20.0, 40.0], 5), part("l", [0.5, 21.0, 22.0, 39.0], 90)]
    pieces = [(piece.topic, piece.begin, piece.end) for piece in in_step(parts, 10.0)]
    assert pieces == [("p", 5, 7), ("l", 90, 91), ("p", 7, 8), ("l", 91, 93), ("p", 8, 9), ("l", 93, 94)]


@given(
    st.lists(st.lists(st.floats(0, 1000), max_size=30), min_size=1, max_size=3),
    st.floats(0.1, 500),
    st.integers(0, 3),
    st.booleans(),
)
def test_pieces_are_the_same_records_in_the_same_order(
    stamps: list[list[float]], span_s: float, hole: int, ascending: bool
) -> None:
    parts = []
    for at, of_topic in enumerate(stamps):
        made = part(str(at), sorted(of_topic) if ascending else of_topic)
        parts.append(made._replace(end=made.end + hole))  # markers of transactions at its end
    pieces = in_step(parts, span_s)
    for whole in parts:
        mine = [piece for piece in pieces if piece.topic == whole.topic]
        assert [record for piece in mine for record in piece.records] == whole.records
        begins, ends = [piece.begin for piece in mine], [piece.end for piece in mine]
        assert [*begins, whole.end] == [whole.begin, *ends]
    if ascending and len(parts) > 1:
        assert all(
            piece.records[-1].timestamp - piece.records[0].timestamp <= span_s for piece in pieces if piece.records
        )


def joined(requests: int, every_s: float, span_s: float) -> int:
    """Of a backlog that is read as one batch: a label ten minutes after each prediction, rows kept for half a window longer than it."""
    config = configuration(late_retention=WINDOW / 2)
    book = ReferenceBook(config, {"m": reference()})
    settings = WorkerSettings(bootstrap_servers="", redis_url="", batch_span_s=span_s)
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
        parts.append(Part(topic, 0, requests, records))
    effects, _ = asyncio.run(fold(owner, held, parts, shared))
    return msgspec.msgpack.decode(effects.checkpoint, type=Checkpoint).counts.get("joined", 0)


def test_labels_of_a_backlog_find_their_predictions_however_long_a_time_one_batch_spans() -> None:
    assert joined(2_000, 30.0, span_s=WINDOW / 8) == 2_000


def test_a_batch_that_is_folded_as_a_whole_would_lose_labels() -> None:
    assert joined(2_000, 30.0, span_s=1e9) < 1_000


@pytest.mark.parametrize("every_s", [0.1, 700.0])
def test_dense_and_sparse_backlogs_alike(every_s: float) -> None:
    assert joined(300, every_s, span_s=WINDOW / 8) == 300
