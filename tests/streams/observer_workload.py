"""A seeded log with everything that an observer meets, and what it said to it, boiled down to hashes and sums.

`python -m tests.streams.observer_workload` writes `observer_golden.json` anew: only after a change that means to change figures.
Values come from `random`, edges are written out: neither depends on the version of numpy.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from detectors.binning import CategoryBins
from leadline.config import Config
from leadline.events import Digest
from streams.baselines.reference_book import ReferenceBook
from streams.core.digest_cells import unpack_cells
from streams.core.stage import Effects, Record
from streams.counting.features import categorical_feature, numeric_from_edges
from streams.counting.references import Reference
from streams.observe.observation import Observation
from streams.observe.observe import Observer, Order

GOLDEN = Path(__file__).with_name("observer_golden.json")
BEGIN_S = 1_780_000_000.0
SITES, WARDS = ("north", "south", "harbour"), ("surgery", "cardiology", "oncology", "emergency")
CLASSES = ("amber", "green", "red")
JSON_NUMBERS = ("NaN", "1e999", "9223372036854775808", "123456789012345678901234567890")


def _numeric(name: str, low: float, width: float, bins: int) -> Any:
    edges = [low + at * width for at in range(bins)]
    middle = low + bins * width / 2
    return numeric_from_edges(
        name,
        edges,
        edges[:: max(bins // 9, 1)],
        center=middle,
        scale=bins * width / 4,
        low=low,
        high=low + bins * width,
    )


def references() -> dict[str, Reference]:
    """One reference a task; `bare` and `bare-value` have none."""
    numbers = [_numeric("age", 10.0, 0.9, 95), _numeric("stay", 0.5, 1.5, 12), _numeric("rate", -2.0, 0.04, 100)]
    kind = categorical_feature("kind", CategoryBins(("a", "b", "c"), ("d", "e"), True))
    flag = categorical_feature("flag", CategoryBins(("false", "true"), (), False))
    score = _numeric("score", 0.02, 0.01, 96)
    return {
        "binary": Reference(task="binary", features=[*numbers, kind, flag], score=score, business=("cost", "days")),
        "value": Reference(task="regression", features=[*numbers[:2], kind], score=_numeric("score", -5.0, 0.5, 40)),
        "classes": Reference(task="multiclass", features=numbers[:1], score=score, classes=CLASSES),
        "plain": Reference(task="binary", features=[], score=score),
    }


def _maybe(rng: random.Random, share: float, value: Any) -> Any:
    return value if rng.random() < share else None


def _features(rng: random.Random) -> dict[str, Any]:
    row: dict[str, Any] = {
        "age": rng.gauss(55, 25),
        "stay": rng.choice([rng.expovariate(0.2), rng.randrange(20), True, None, "long", 1e18, 1e300])
        if rng.random() < 0.1
        else rng.expovariate(0.2),
        "rate": rng.gauss(0, 1.5),
        "kind": rng.choice(["a", "b", "c", "d", "x", "é", 3, 3.0, None]),
        "flag": rng.random() < 0.5,
    }
    if rng.random() < 0.08:
        del row[rng.choice(sorted(row))]
    if rng.random() < 0.05:
        row["unheard_of"] = 1.0
    return row


def _prediction(rng: random.Random, at: int, when: float) -> dict[str, Any]:
    model = rng.choices(["binary", "value", "classes", "plain", "bare", "bare-value"], [50, 15, 15, 8, 8, 4])[0]
    score: Any = round(rng.betavariate(2, 3), 6)
    answer: Any = rng.choice([None, None, score >= 0.5, int(score >= 0.5), "yes", "No", 7, "odd"])
    if model in ("value", "bare-value"):
        score, answer = round(rng.gauss(5, 6), 4), _maybe(rng, 0.2, round(rng.gauss(5, 6), 4))
    if model == "classes":
        shares = [rng.random() for _ in CLASSES]
        score = {name: share / sum(shares) for name, share in zip(CLASSES, shares, strict=True)}
        answer = rng.choice([None, "red", "blue", 3])
        if rng.random() < 0.1:
            del score[rng.choice(CLASSES)]
    event: dict[str, Any] = {
        "request_id": f"r{at:06d}" if at % 3 else f"ré{at:06d}",
        "model_id": model,
        "model_version": rng.choice(["1", "2"]),
        "timestamp": when,
        "score": score,
        "prediction": answer,
        "features": _maybe(rng, 0.97, _features(rng)),
        "segments": _maybe(
            rng, 0.9, {"site": rng.choice(SITES), "ward": rng.choice(WARDS) if rng.random() < 0.9 else f"w{at}"}
        ),
        "stage": rng.choice([None, None, None, "live", "shadow"]),
        "latency_ms": _maybe(rng, 0.7, rng.lognormvariate(2, 1)),
        "confidence": _maybe(rng, 0.3, rng.random()),
        "pipeline_fingerprint": _maybe(rng, 0.1, rng.choice(["p1", "p2"])),
        "runtime": _maybe(rng, 0.05, {"numpy": "2.1", "lib": "1:0"}),
        "context": _maybe(rng, 0.05, {"note": "a: b"}),
    }
    return {name: value for name, value in event.items() if value is not None or rng.random() < 0.1}


def _spoil(rng: random.Random, body: bytes) -> bytes | None:
    return rng.choice(
        [
            None,
            b"",
            b"[]",
            b"{",
            b"\xff\xfe",
            b"[" * 5000,
            body[:-1],
            body[:-1] + b',"model_id":"binary","model_id":"other"}',
            body[:-1] + b',"unknown":{"a":1,"b":"x:y"}}',
            body[:-1] + b',"unknown":{"a":1,"a":2}}',
            body[:-1] + b',"request_id":""}',
            body.replace(b"1780", b"1780000", 1),
            body.replace(b'"timestamp":178', b'"timestamp":278', 1),
            body.replace(b'"timestamp":1', b'"timestamp":-1', 1),
            body.replace(b'"age":', b'"age":' + rng.choice(JSON_NUMBERS).encode() + b',"old":', 1),
            body.replace(b'"request_id"', b'"request\\u005fid"', 1),
            body.replace(b",", b" , ").replace(b":", b" : "),
        ]
    )


def events(seed: int, n: int, gap_s: float) -> list[tuple[str, Record]]:
    """Records of both topics in order of arrival, as (source, record)."""
    rng = random.Random(seed)
    when = BEGIN_S
    arriving: list[tuple[float, int, str, bytes | None]] = []
    for at in range(n):
        when = round(when + rng.expovariate(1 / gap_s), 3)
        event = _prediction(rng, at, when)
        text = msgspec.json.encode(event)
        if rng.random() < 0.03:
            event["timestamp"] = "2026-05-28T20:26:40.25Z" if at % 2 else "2026-05-28T20:26:40+00:00"
            text = msgspec.json.encode(event)
        body: bytes | None = _spoil(rng, text) if rng.random() < 0.06 else text
        arrives = when + (rng.expovariate(0.2) if rng.random() < 0.05 else 0.0)
        arriving.append((arrives, at, "predictions", body))
        if rng.random() < 0.04:
            arriving.append((arrives + rng.expovariate(0.1), at, "predictions", body))
        arriving += [_label(rng, at, event, when) for _ in range(rng.choices([0, 1, 2, 3], [40, 45, 12, 3])[0])]
    arriving.sort(key=lambda item: (item[0], item[1], item[2]))
    counted = {"predictions": 0, "labels": 0}
    out = []
    for arrives, _, source, value in arriving:
        out.append((source, Record(counted[source], f"k{counted[source]}".encode(), value, arrives + 1.0)))
        counted[source] += 1
    return out


def _label(rng: random.Random, at: int, event: dict[str, Any], when: float) -> tuple[float, int, str, bytes | None]:
    truth: Any = rng.choice([0, 1, 1.0, True, "yes", "negative"]) if rng.random() < 0.97 else "nonsense"
    if event["model_id"] in ("value", "bare-value"):
        truth = round(rng.gauss(5, 6), 3)
    if event["model_id"] == "classes":
        truth = rng.choice([*CLASSES, "blue"])
    stamp = round(when + rng.choice([rng.expovariate(0.3), rng.expovariate(0.02), -5.0, 5000.0, -500.0]), 3)
    label = {"request_id": event["request_id"], "label": truth, "timestamp": stamp}
    if rng.random() < 0.3:
        label["values"] = (
            {"cost": rng.gauss(100, 20), "days": rng.randrange(9)} if rng.random() < 0.8 else {"cost": 1.5}
        )
    text = msgspec.json.encode(label)
    body = _spoil(rng, text) if rng.random() < 0.03 else text
    return (max(stamp, 0.0) - (20.0 if rng.random() < 0.1 else 0.0) + rng.random(), at, "labels", body)


def _config() -> Config:
    return Config.model_validate(
        {
            "join": {"delay_window": 3600.0, "early_tolerance": 60.0, "cache_rows": 1000},
            "panes": {"max_segment_values": 20, "sample_per_second": 20.0},
            "models": {"bare": {"learn_rows": 100, "business": ["cost"]}, "classes": {"positive_label": None}},
        }
    )


def _without_detail(rejected: bytes) -> Any:
    # The detail quotes the decoder, whose words change with its version.
    return {name: value for name, value in msgspec.json.decode(rejected).items() if name != "detail"}


def _sorted(value: Any) -> Any:
    return [(name, _sorted(value[name])) for name in sorted(value)] if isinstance(value, dict) else value


class Said:
    """Everything that an observer said: a running hash of what must be the same to the bit, and sums of what may differ in the last one."""

    def __init__(self) -> None:
        self.exact = hashlib.sha256()
        self.sums: dict[str, float] = {}
        self.cells = 0

    def take(self, observer: Observer, seen: Observation | Effects, digests: list[Digest]) -> None:
        for digest in digests:
            self._digest(digest)
        # In which order a batch's rows and counters are written means nothing.
        state = msgspec.msgpack.decode(observer.checkpoint())
        state.pop("settings")  # a copy of the configuration
        state.pop("agreed")  # tests of the watermark have it
        parts: list[Any] = [[_sorted(part) for part in state.values()], observer.watermark.time]
        if isinstance(seen, Effects):
            parts += [_sorted(seen.writes), _sorted(seen.removes), seen.drops, seen.views]
            parts += [[(send.topic, send.key, send.partition) for send in seen.sends]]
            parts += [_without_detail(send.value) for send in seen.sends if send.topic.endswith("rejected")]
        else:
            faults = [(source, fault.record, fault.reason) for source in seen.faults for fault in seen.faults[source]]
            parts += [faults, seen.duplicates, seen.drops]
            parts += [[_sorted(part) for part in observer.rows.take_changes()], observer.combinations.take_new()]
        self.exact.update(repr(parts).encode())

    def _digest(self, digest: Digest) -> None:
        told = ("source", "sequence", "model_id", "layout", "clock", "sent_at", "samples", "cohorts", "learning")
        self.exact.update(
            msgspec.json.encode([getattr(digest, name) for name in (*told, "schema_seen", "definitions")])
        )
        for cell, slots, values in unpack_cells(digest):
            self.cells += 1
            counted, summed = (
                (slots[: cell.counts].tolist(), values[: cell.counts].astype(int).tolist()),
                (slots[cell.counts :].tolist(), values[cell.counts :].tolist()),
            )
            self.exact.update(repr((cell.version, cell.stage, cell.segment, cell.pane, cell.day, *counted)).encode())
            # Weighted by the cell, so that a value in a wrong cell shows.
            weight = 1 + self.cells % 97
            for slot, value in zip(*summed, strict=True):
                key = f"{digest.model_id}:{slot}"
                self.sums[key] = self.sums.get(key, 0.0) + weight * value

    def summary(self) -> dict[str, Any]:
        return {
            "exact": self.exact.hexdigest(),
            "cells": self.cells,
            "sums": {key: self.sums[key] for key in sorted(self.sums)},
        }


def run_live(log: list[tuple[str, Record]], batch: int, together: bool = False) -> Said:
    """Batches of one topic each, or of both, through `needed` and `fold`, the store held in a dict."""
    config = _config()
    observer = Observer(3, config, ReferenceBook(config, references()), digest_partitions=2)
    store: dict[str, dict[bytes, bytes]] = {}
    said = Said()
    queue: dict[str, list[Record]] = {"predictions": [], "labels": []}
    for at, (source, record) in enumerate(log):
        queue[source].append(record)
        last = at == len(log) - 1
        if together:
            parts = [queue] if last or sum(map(len, queue.values())) >= batch else []
        else:
            parts = [{name: waiting} for name, waiting in queue.items() if len(waiting) >= batch or (last and waiting)]
        for arrived in parts:
            _live_batch(observer, store, arrived, said)
            queue |= {name: [] for name in arrived}
    return said


def _live_batch(
    observer: Observer, store: dict[str, dict[bytes, bytes]], arrived: dict[str, list[Record]], said: Said
) -> None:
    needed = observer.needed(arrived)
    said.exact.update(repr(needed).encode())
    found = {
        table: {field: store[table][field] for field in fields if field in store.get(table, {})}
        for table, fields in needed.items()
    }
    effects = observer.fold(arrived, found, BEGIN_S)
    for table, rows in effects.writes.items():
        store.setdefault(table, {}).update(rows)
    for table, fields in effects.removes.items():
        for row in fields:
            store.get(table, {}).pop(row, None)
    for table in effects.drops:
        store.pop(table, None)
    sent = [msgspec.json.decode(send.value, type=Digest) for send in effects.sends if send.topic.endswith("digests")]
    said.take(observer, effects, sent)


def run_backtest(log: list[tuple[str, Record]], batch: int) -> Said:
    """Both topics in one batch, in their order of arrival."""
    config = _config()
    observer = Observer(0, config, ReferenceBook(config, references()))
    said = Said()
    for begin in range(0, len(log), batch):
        arrived: dict[str, list[Record]] = {"predictions": [], "labels": []}
        places: dict[str, list[int]] = {"predictions": [], "labels": []}
        for place, (source, record) in enumerate(log[begin : begin + batch]):
            arrived[source].append(record)
            places[source].append(place)
        order = Order(np.array(places["predictions"], np.int64), np.array(places["labels"], np.int64))
        seen = observer.observe(arrived, {}, 0.0, order)
        said.take(observer, seen, seen.digests)
    return said


def summaries() -> dict[str, dict[str, Any]]:
    """Dense and slow traffic, large and small batches, live and backtest."""
    dense, slow, dribble = events(1, 6000, 0.02), events(2, 1500, 45.0), events(3, 400, 2.0)
    return {
        "dense": run_live(dense, 2500).summary(),
        "slow": run_live(slow, 400).summary(),
        "dribble": run_live(dribble, 7).summary(),
        "dense together": run_live(dense, 2500, together=True).summary(),
        "dribble together": run_live(dribble, 7, together=True).summary(),
        "backtest": run_backtest(dense, 1024).summary(),
        "slow backtest": run_backtest(slow, 1024).summary(),
    }


def close(one: float, other: float) -> bool:
    """Sums in another order differ in their last digits."""
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-6)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(summaries(), indent=1) + "\n")
