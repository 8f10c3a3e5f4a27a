"""Models that share a reference are counted together, and each as if it were alone."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np

from leadline.config import Config
from streams.baselines.reference_book import ReferenceBook
from streams.core.digest_cells import unpack_cells
from streams.core.stage import Record
from streams.observe.observe import Observer
from tests.streams.history import Event, configuration, random_log, reference

KNOWN = reference()
MODELS = ("one", "two", "three")
Counted = dict[tuple[object, ...], float]


def said(events: list[Event], models: tuple[str, ...]) -> dict[str, Counted]:
    """Every slot of every cell, by model, whatever the pane."""
    observer = Observer(0, configuration(), ReferenceBook(configuration(), dict.fromkeys(models, KNOWN)))
    offsets: Counter[str] = Counter()
    found: dict[str, Counted] = {model: {} for model in models}
    for begin in range(0, len(events), 60):
        arrived: dict[str, list[Record]] = {"predictions": [], "labels": []}
        for place, event in enumerate(events[begin : begin + 60]):
            arrived[event.source].append(event.record(offsets[event.source], place))
            offsets[event.source] += 1
        for digest in observer.observe(arrived, {}, 0.0).digests:
            counted = found[digest.model_id]
            for cell, slots, values in unpack_cells(digest):
                for slot, value in zip(slots.tolist(), values.tolist(), strict=True):
                    key = (cell.version, cell.stage, cell.segment, cell.day, slot)
                    counted[key] = counted.get(key, 0.0) + value
    return found


def of_model(event: Event, model: str) -> Event:
    body = event.body | {"request_id": f"{model}-{event.body['request_id']}"}
    return event._replace(body=body | ({"model_id": model} if event.source == "predictions" else {}))


def test_models_that_share_a_reference_are_each_counted_as_if_alone() -> None:
    rng = random.Random(11)
    logs = {model: [of_model(event, model) for event in random_log(at, 120)] for at, model in enumerate(MODELS)}
    mixed: list[Event] = []
    waiting = {model: list(events) for model, events in logs.items()}
    while any(waiting.values()):
        model = rng.choice([model for model in MODELS if waiting[model]])
        mixed.append(waiting[model].pop(0))
    together = said(mixed, MODELS)
    for model in MODELS:
        alone = said(logs[model], (model,))[model]
        assert len(alone) > 100
        for key in alone.keys() | together[model].keys():
            assert np.isclose(together[model].get(key, 0.0), alone.get(key, 0.0), rtol=1e-9, atol=1e-9), key


def test_a_file_is_read_once_for_all_models_that_mean_the_same_by_it(tmp_path: Path) -> None:
    rows = tmp_path / "training.csv"
    rows.write_text("age,score,label\n" + "".join(f"{age},0.{age % 9 + 1},{age % 2}\n" for age in range(300)))
    same, other = {"reference": rows}, {"reference": rows, "threshold": 0.25}
    book = ReferenceBook(Config.model_validate({"models": {"one": same, "two": same, "three": other}}))
    assert book.get("one") is book.get("two")
    assert book.get("one") is not book.get("three")
