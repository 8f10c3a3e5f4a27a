"""A model without a reference: workers that see other rows of it first come to one task, and no row is lost on the way."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from leadline.config import Config, Join, Model
from streams.baselines.reference_book import ReferenceBook
from streams.core.digest_cells import unpack_cells
from streams.core.stage import Record
from streams.judge.judge import Judge
from streams.observe.observe import Observer
from streams.worker.factories import JudgeFactory
from tests.streams.stored_days import all_days

T0 = 1_700_000_000.0
MAP = {"a": 0.2, "b": 0.8}


def configuration(task: Any = "auto") -> Config:
    return Config(join=Join(delay_window=3600.0, max_future=1e9), models={"*": Model(learn_rows=1000, task=task)})


def digests(partition: int, scores: list[list[Any]], config: Config) -> list[Record]:
    """What a worker of its own sends of batches with these scores."""
    observer = Observer(partition, config, ReferenceBook(config))
    sent: list[Record] = []
    number = 0
    for batch in scores:
        records = []
        for score in batch:
            body = {
                "request_id": f"{partition}-{number}",
                "model_id": "m",
                "model_version": "1",
                "timestamp": T0 + number,
                "score": score,
            }
            records.append(Record(number, b"", json.dumps(body).encode(), T0 + number))
            number += 1
        effects = observer.fold({"predictions": records}, {}, T0)
        topic = config.kafka.topics.digests
        sent += [Record(len(sent), send.key, send.value, 0.0) for send in effects.sends if send.topic == topic]
    return sent


def judged(config: Config, *parts: list[Record]) -> tuple[Judge, Judge]:
    """A judge in a third process after these digests, and the one that would take over from it."""
    factory = JudgeFactory(config, ReferenceBook(config))
    judge = factory.build(0, b"", {name: {} for name in factory.whole(b"")})
    assert isinstance(judge, Judge)
    store: dict[str, dict[bytes, bytes]] = {}
    written = b""
    for records in parts:
        effects = judge.fold({"digests": records}, {}, T0)
        written = effects.checkpoint
        for table, names in effects.removes.items():
            for name in names:
                store.get(table, {}).pop(name, None)
        for table, rows in effects.writes.items():
            store.setdefault(table, {}).update(rows)
    factory = JudgeFactory(config, ReferenceBook(config))
    after = factory.build(0, written, {name: store.get(name, {}) for name in factory.whole(written)})
    assert isinstance(after, Judge)
    return judge, after


def rows(judge: Judge) -> float:
    model = judge.models["m"]
    days = all_days(model.cells)
    return sum(
        model.reference.layout.one(days.day(where, day), "rows")
        for where, day in days.cells()
        if where == (None, "live", None)
    )


SAYS: list[tuple[list[Any], list[Any], str]] = [
    ([0.25, 0.5], [0.75], "binary"),
    ([0.25, 7.5], [0.5], "regression"),
    ([0.25, 0.5], [7.5], "regression"),
    ([0.25], [-0.001], "regression"),
    ([MAP], [MAP, MAP], "multiclass"),
    ([0.5], [MAP], "multiclass"),
    ([7.5], [MAP], "multiclass"),
]


@pytest.mark.parametrize(("one", "other", "task"), SAYS)
def test_workers_that_see_other_rows_first_come_to_one_task(one: list[Any], other: list[Any], task: str) -> None:
    config = configuration()
    parts = [digests(0, [one, one], config), digests(1, [other, other, other], config)]
    n = 2 * len(one) + 3 * len(other)
    for order in itertools.permutations(parts):
        for judge in judged(config, *order):
            model = judge.models["m"]
            assert model.reference.task == task
            assert model.foreign == 0
            assert rows(judge) == n


def test_the_widest_task_that_scores_have_said_stands_for_good() -> None:
    book = ReferenceBook(configuration())
    told = []
    for scores in ([0.5], [0.1, 3.0], [0.5], [MAP], [3.0], [0.5], [{"c": 1.0}]):
        changed = book.tell_scores("m", scores)
        told.append((book.get("m").task, changed))
    assert told == [
        ("binary", True),
        ("regression", True),
        ("regression", False),
        ("multiclass", True),
        ("multiclass", False),
        ("multiclass", False),
        ("multiclass", False),
    ]
    assert book.get("m").classes == ("a", "b")


def test_a_configured_task_is_not_changed_by_scores() -> None:
    book = ReferenceBook(configuration("regression"))
    book.tell_scores("m", [0.5, 0.25])
    assert book.get("m").task == "regression"
    book.tell_task("m", "multiclass", ["a"])
    assert book.get("m").task == "regression"


def test_models_with_the_same_bare_layout_share_it() -> None:
    book = ReferenceBook(configuration())
    book.tell_scores("m", [0.5])
    book.tell_scores("n", [0.25])
    assert book.get("m") is book.get("n")


def test_an_error_of_a_regression_is_of_its_score_although_the_row_is_older_than_the_task() -> None:
    config = configuration()
    observer = Observer(0, config, ReferenceBook(config))

    def body(at: int, score: float) -> Record:
        prediction = {"request_id": f"r{at}", "model_id": "m", "model_version": "1", "timestamp": T0, "score": score}
        return Record(at, b"", json.dumps(prediction).encode(), T0)

    observer.observe({"predictions": [body(0, 0.25)]}, {}, T0)
    observer.observe({"predictions": [body(1, 9.0)]}, {}, T0)
    label = {"request_id": "r0", "label": 3.25, "timestamp": T0 + 1}
    (digest,) = observer.observe({"labels": [Record(0, b"", json.dumps(label).encode(), T0 + 1)]}, {}, T0).digests
    ((_, slots, values),) = unpack_cells(digest)
    error = observer.book.get("m").layout.offset("error")
    assert dict(zip(slots.tolist(), values.tolist(), strict=True))[error] == 0.25 - 3.25
