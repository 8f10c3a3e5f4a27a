"""A made-up log of one partition, the plainest possible account of what it means, and a store to run on."""

from __future__ import annotations

import bisect
import json
import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import numpy as np

from detectors.auc import score_bins
from leadline.config import Config, Join, Model
from leadline.events import Digest, Rejected
from streams.baselines.reference_book import ReferenceBook
from streams.baselines.reference_files import build_reference
from streams.core.digest_cells import unpack_cells
from streams.core.stage import Effects, Record
from streams.counting.layout import AGE_EDGES_S
from streams.counting.references import Reference
from streams.observe.observe import Observer, Order
from streams.worker.factories import ObserveFactory

T0 = 1_700_000_000.0
WINDOW, TOLERANCE, RETENTION = 1000.0, 50.0, 20_000.0
SPREAD = 18_000.0
LATER = T0 + 1e6  # the broker's clock: no stamp of these logs lies in its future

Where = tuple[str, str, str, str | None]
"""(model, version, stage, segment)."""


class Event(NamedTuple):
    """One message: the source it comes from, and what it says."""

    source: str
    body: dict[str, Any]

    def record(self, offset: int, place: int = 0) -> Record:
        """As the broker has it, which stamps messages in the order of their `place`."""
        value = json.dumps(self.body).encode()
        return Record(offset, self.body["request_id"].encode(), value, LATER + place * 1e-3)


def reference() -> Reference:
    """A binary model with a number and a category."""
    rng = np.random.default_rng(7)
    n = 400
    age = rng.normal(50, 10, n)
    score = 1 / (1 + np.exp(-(age - 50) / 10 + rng.normal(0, 0.5, n)))
    return build_reference(
        {
            "age": age.tolist(),
            "sex": rng.choice(["f", "m"], n).tolist(),
            "score": score.tolist(),
            "label": (rng.random(n) < score).astype(float).tolist(),
            "segment__site": rng.choice(["north", "south"], n).tolist(),
        }
    )


def configuration(**join: Any) -> Config:
    """Model `m` has a reference, every other has none. `cache_rows` may be smaller than people may set it."""
    chosen = Join(delay_window=WINDOW, early_tolerance=TOLERANCE, late_retention=RETENTION, max_jump=1e7)
    return Config(join=chosen.model_copy(update=join), models={"m": Model(), "*": Model(learn_rows=100)})


# -- logs ---------------------------------------------------------------------------------------------------------------

DELAYS = (-TOLERANCE - 0.25, -TOLERANCE, -1.0, 0.0, 3.5, 600.0, WINDOW, WINDOW + 0.25, 2 * WINDOW)
LABELS: tuple[Any, ...] = (True, False, 1, 0, "yes", "no", "maybe", 0.5)


def prediction(number: int, when: float, variant: int = 0) -> Event:
    """The prediction of request `number`; `variant` decides its model, version, score and features."""
    body: dict[str, Any] = {
        "request_id": f"r{number}",
        "model_id": "n" if variant % 5 == 4 else "m",
        "model_version": str(1 + variant % 2),
        "timestamp": when,
        "score": (variant * 37 % 101) / 100,
        "features": {"age": 20.0 + variant % 60, "sex": "fmx"[variant % 3]},
    }
    if variant % 7 == 0:
        body["features"]["age"] = None
    if variant % 11 == 0:
        del body["features"]["sex"]
    if variant % 13 == 0:
        body["features"]["unheard_of"] = 1
    if variant % 3:
        body["segments"] = {"site": ["north", "south", "east"][variant % 3], "unit": str(variant % 4)}
    if variant % 17 == 0:
        body["stage"] = "shadow"
    if variant % 4 == 1:
        body["prediction"] = variant % 8 == 1
    return Event("predictions", body)


def label(number: int, when: float, value: Any) -> Event:
    return Event("labels", {"request_id": f"r{number}", "label": value, "timestamp": when})


def random_log(seed: int, requests: int) -> list[Event]:
    """Predictions with labels early, late, repeated, corrected, too early, for nobody; duplicates; in any order."""
    rng = random.Random(seed)
    arriving: list[tuple[float, int, Event]] = []
    for number in range(requests):
        when = T0 + rng.random() * SPREAD
        event = prediction(number, when, rng.randrange(1000))
        if rng.random() < 0.95:
            arriving.append((when + rng.random() * 20, len(arriving), event))
        for _ in range(rng.choice((0, 0, 0, 1))):
            again = prediction(number, when + rng.random() * 3000, rng.randrange(1000))
            arriving.append((when + rng.random() * 6000, len(arriving), again))
        for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
            stamp = when + rng.choice(DELAYS)
            arrives = stamp + rng.choice((0.0, 1.0, 4000.0)) * rng.random() - rng.choice((0.0, 0.0, 500.0))
            arriving.append((arrives, len(arriving), label(number, stamp, rng.choice(LABELS))))
    return [event for _, _, event in sorted(arriving, key=lambda item: item[:2])]


def by_source(events: Sequence[Event], seed: int, largest: int) -> list[Event]:
    """The same events as two topics bring them: a run of one source, a run of the other."""
    rng = random.Random(seed)
    found: list[Event] = []
    at = 0
    while at < len(events):
        size = rng.randint(1, largest)
        window = events[at : at + size]
        for source in rng.sample(["predictions", "labels"], 2):
            found += [event for event in window if event.source == source]
        at += size
    return found


# -- the oracle ---------------------------------------------------------------------------------------------------------


@dataclass
class Request:
    """All that matters of one request."""

    prediction: dict[str, Any] | None = None
    waiting: list[dict[str, Any]] = field(default_factory=list)
    label: float | None = None
    late: bool = False
    too_early: bool = False
    revised: bool = False
    age: int = 0


class Oracle:
    """Reads a log event by event into dictionaries, and counts by walking them."""

    def __init__(self, known: Reference) -> None:
        self.known = known
        self.requests: dict[str, Request] = {}
        self.counts: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.slots: dict[Where, Counter[str]] = {}

    def read(self, events: Iterable[Event]) -> Oracle:
        for event in events:
            request = self.requests.setdefault(event.body["request_id"], Request())
            if event.source == "predictions":
                self._prediction(request, event.body)
            else:
                self.counts["labels"] += 1
                if request.prediction is None:
                    self.counts["label_first"] += not request.waiting
                    request.waiting.append(event.body)
                else:
                    self._label(request, event.body)
        return self

    def _prediction(self, request: Request, body: dict[str, Any]) -> None:
        if request.prediction is not None:
            self.counts["duplicate_predictions"] += 1
            self._slot(body, "duplicate")
            return
        request.prediction = body
        self.counts["predictions"] += 1
        self._row(body)
        if request.waiting:
            self.counts["early"] += 1
            self._slot(body, "early")
        for waiting in request.waiting:
            self._label(request, waiting)

    def _label(self, request: Request, body: dict[str, Any]) -> None:
        predicted = request.prediction
        assert predicted is not None
        words = {"yes": 1.0, "no": 0.0, "maybe": math.nan}
        value = words[body["label"]] if isinstance(body["label"], str) else float(body["label"])
        if value not in (0.0, 1.0):
            self._slot(predicted, "label_unusable")
            self.counts["label_unusable"] += 1
            self.rejected["label_unusable"] += 1
            return
        delay = body["timestamp"] - predicted["timestamp"]
        if delay > WINDOW:
            self.counts["late_labels"] += 1
            if request.label is None and not request.late:
                request.late = True
                self._count(predicted, "late")
        elif delay < -TOLERANCE:
            if not request.too_early:
                request.too_early = True
                self._count(predicted, "too_early")
        elif request.label == value:
            self.counts["repeated_labels"] += 1
        else:
            if request.label is None:
                self._count(predicted, "joined")
                if request.late:
                    request.late = False
                    self._count(predicted, "late", -1)
            else:
                if not request.revised:
                    request.revised = True
                    self._count(predicted, "revised")
                self._outcome(predicted, request.label, -1, request.age)
            if request.label is None:
                request.age = max(bisect.bisect_right(AGE_EDGES_S, delay) - 1, 0)
            request.label = value
            self._outcome(predicted, value, 1, request.age)

    def _count(self, body: dict[str, Any], name: str, sign: int = 1) -> None:
        self.counts[name] += sign
        self._slot(body, name, sign)

    def _slot(self, body: dict[str, Any], name: str, weight: float = 1) -> None:
        segments = [None, *(f"{key}={value}" for key, value in body.get("segments", {}).items())]
        for segment in segments:
            where = (body["model_id"], body["model_version"], body.get("stage", "live"), segment)
            self.slots.setdefault(where, Counter())[name] += weight  # type: ignore[assignment]

    def _row(self, body: dict[str, Any]) -> None:
        self._slot(body, "rows")
        self._slot(body, "score_sum", body["score"])
        self._slot(body, "score_squares", body["score"] ** 2)
        if self._predicted(body):
            self._slot(body, "predicted_positive")
        if body["model_id"] != "m":
            return
        assert self.known.score is not None
        code = self.known.score.bins.assign(np.array([body["score"]]))[0]
        self._slot(body, f"score+{code}")
        if self._predicted(body):
            self._slot(body, f"chosen+{code}")
        for feature in self.known.features:
            value = body["features"].get(feature.name)
            self._slot(body, f"feature:{feature.name}+{feature.assign([value])[0][0]}")
            if feature.name not in body["features"]:
                self._slot(body, f"absent:{feature.name}")
            if feature.kind == "numeric" and value is not None:
                z = (value - feature.center) / feature.scale
                self._slot(body, f"z:{feature.name}", z)
                self._slot(body, f"zz:{feature.name}", z * z)
                if abs(z) > 3:
                    self._slot(body, "out_of_distribution")
        if set(body["features"]) - {feature.name for feature in self.known.features}:
            self._slot(body, "extra")

    @staticmethod
    def _predicted(body: dict[str, Any]) -> bool:
        chosen = body.get("prediction")
        return body["score"] >= 0.5 if chosen is None else bool(chosen)

    def _outcome(self, body: dict[str, Any], value: float, sign: int, age: int) -> None:
        score = body["score"]
        self._slot(body, f"aged+{age}", sign)
        if value != self._predicted(body):
            self._slot(body, f"aged_errors+{age}", sign)
        if value:
            self._slot(body, f"aged_positives+{age}", sign)
        self._slot(body, "outcomes", sign)
        side = "positives" if value else "negatives"
        self._slot(body, f"{side}+{score_bins(np.array([score]))[0]}", sign)
        self._slot(body, f"confusion+{2 * int(value) + int(self._predicted(body))}", sign)
        tenth = min(int(score * 10), 9)
        self._slot(body, f"calibration_rows+{tenth}", sign)
        self._slot(body, f"calibration_scores+{tenth}", sign * score)
        truth = score if value else 1 - score
        nats = -math.log(min(max(truth, 2.0**-52), 1 - 2.0**-52))
        self._slot(body, "log_loss", sign * nats)
        self._slot(body, "log_loss_squares", sign * nats**2)
        self._slot(body, "squared_loss", sign * (score - value) ** 2)
        self._slot(body, "squared_loss_squares", sign * (score - value) ** 4)
        if value:
            self._slot(body, f"calibration_positives+{tenth}", sign)
        if body["model_id"] == "m":
            assert self.known.score is not None
            code = self.known.score.bins.assign(np.array([score]))[0]
            self._slot(body, f"labelled+{code}", sign)
            if self._predicted(body):
                self._slot(body, f"labelled_chosen+{code}", sign)
            if value:
                self._slot(body, f"labelled_positives+{code}", sign)

    def states(self) -> Counter[str]:
        """Each request in one state; what is pending and what is expired is for the clock to say: one here."""
        states: Counter[str] = Counter()
        for request in self.requests.values():
            if request.prediction is None:
                states["orphan"] += 1
            elif request.label is not None:
                states["joined"] += 1
            else:
                states["late" if request.late else "unlabelled"] += 1
        return states


# -- running the observer -----------------------------------------------------------------------------------------------

SECTIONS_NOT_TOLD = (
    "collapse",
    "latency",
    "delay",
    "latency_rows",
    "entropy_rows",
    "latency_sum",
    "entropy_sum",
    "entropy_squares",
)


class Run:
    """An observer on a store of dictionaries: batches of one source or both, restarts."""

    def __init__(self, config: Config, known: Reference) -> None:
        self.config = config
        self.known = known
        self.store: dict[str, dict[bytes, bytes]] = {}
        self.written = b""
        self.digests: list[Digest] = []
        self.rejected: Counter[str] = Counter()
        self.reads = 0
        self.start()

    def start(self) -> None:
        """A worker that knows only what was committed."""
        self.book = ReferenceBook(self.config, {"m": self.known})
        self.book.tell_scores("n", [0.5])
        factory = ObserveFactory(self.config, self.book, 1)
        whole = {table: dict(self.store.get(table, {})) for table in factory.whole(self.written)}
        self.observer: Observer = factory.build(0, self.written, whole)

    def batch(self, arrived: Mapping[str, Sequence[Record]], now: float = 0.0) -> None:
        """One batch and its commit."""
        wanted = self.observer.needed(arrived)
        self.reads += sum(map(len, wanted.values()))
        found = {
            table: {name: rows[name] for name in names if name in (rows := self.store.get(table, {}))}
            for table, names in wanted.items()
        }
        self.commit(self.observer.fold(arrived, found, now))

    def commit(self, effects: Effects) -> None:
        for table in effects.drops:
            self.store.pop(table, None)
        for table, names in effects.removes.items():
            for name in names:
                self.store.get(table, {}).pop(name, None)
        for table, rows in effects.writes.items():
            self.store.setdefault(table, {}).update(rows)
        self.written = effects.checkpoint
        for send in effects.sends:
            if send.topic == self.config.kafka.topics.digests:
                self.digests.append(msgspec.json.decode(send.value, type=Digest))
            elif send.topic == self.config.kafka.topics.rejected:
                self.rejected[msgspec.json.decode(send.value, type=Rejected).reason] += 1

    def feed(self, events: Sequence[Event], cuts: random.Random, largest: int, restart: float = 0.0) -> None:
        """The whole log, cut at random into batches of one source or both."""
        offsets: Counter[str] = Counter()
        arrived: dict[str, list[Record]] = {}
        size, alone = 1, True
        for place, event in enumerate(events):
            full = sum(map(len, arrived.values())) >= size or (alone and arrived and event.source not in arrived)
            if full:
                self.batch(arrived)
                arrived = {}
                size, alone = cuts.randint(1, largest), cuts.random() < 0.5
                if cuts.random() < restart:
                    self.start()
            arrived.setdefault(event.source, []).append(event.record(offsets[event.source], place))
            offsets[event.source] += 1
        self.batch(arrived)

    def feed_mixed(self, events: Sequence[Event], cuts: random.Random, largest: int) -> None:
        """The whole log as a backtest reads it: batches that hold both sources, with the order of arrival."""
        offsets: Counter[str] = Counter()
        at = 0
        while at < len(events):
            size = cuts.randint(1, largest)
            arrived: dict[str, list[Record]] = {"predictions": [], "labels": []}
            places: dict[str, list[int]] = {"predictions": [], "labels": []}
            for place, event in enumerate(events[at : at + size]):
                arrived[event.source].append(event.record(offsets[event.source]))
                places[event.source].append(place)
                offsets[event.source] += 1
            order = Order(np.array(places["predictions"], np.int64), np.array(places["labels"], np.int64))
            seen = self.observer.observe(arrived, {}, 0.0, order)
            self.digests += seen.digests
            self.rejected.update(fault.reason for faults in seen.faults.values() for fault in faults)
            self.rejected["duplicate"] += len(seen.duplicates)
            at += size

    def vectors(self) -> dict[Where, np.ndarray]:
        """Everything that the digests say, summed over panes and days."""
        found: dict[Where, np.ndarray] = {}
        for digest in self.digests:
            for cell, slots, values in unpack_cells(digest):
                layout = self.book.get(digest.model_id).layout
                vector = found.setdefault(
                    (digest.model_id, cell.version, cell.stage, cell.segment), np.zeros(layout.size)
                )
                np.add.at(vector, slots, values)
        return found

    def cells(self) -> dict[tuple[Any, ...], np.ndarray]:
        """The same by (cell, pane, day), without what is zero."""
        found: dict[tuple[Any, ...], np.ndarray] = {}
        for digest in self.digests:
            for cell, slots, values in unpack_cells(digest):
                layout = self.book.get(digest.model_id).layout
                where = (digest.model_id, cell.version, cell.stage, cell.segment, cell.pane, cell.day)
                vector = found.setdefault(where, np.zeros(layout.size))
                np.add.at(vector, slots, values)
        return {where: vector for where, vector in found.items() if np.abs(vector).max() > 1e-9}


def expected_vectors(oracle: Oracle, book: ReferenceBook) -> dict[Where, np.ndarray]:
    """The oracle's slots at their places in the layout."""
    found = {}
    for where, slots in oracle.slots.items():
        layout = book.get(where[0]).layout
        vector = np.zeros(layout.size)
        for name, weight in slots.items():
            section, _, code = name.partition("+")
            vector[layout.offset(section) + int(code or 0)] += weight
        found[where] = vector
    return found


def assert_same(run: Run, oracle: Oracle) -> None:
    """Counts to the unit, sums to the ninth digit, rejected messages to the number."""
    counts = {name: n for name, n in run.observer.counts.items() if n}
    assert counts == {name: n for name, n in oracle.counts.items() if n}
    rejected = Counter({"duplicate": oracle.counts["duplicate_predictions"]}) + oracle.rejected
    assert +run.rejected == rejected
    assert +Counter(run.observer.rejected) == +oracle.rejected
    found, expected = run.vectors(), expected_vectors(oracle, run.book)
    assert set(found) == set(expected)
    for where, vector in expected.items():
        layout = run.book.get(where[0]).layout
        for name, part in layout.slots.items():
            if name in SECTIONS_NOT_TOLD:
                continue
            if part.start < layout.integers:
                assert (found[where][part] == vector[part]).all(), (where, name)
            else:
                assert np.allclose(found[where][part], vector[part], rtol=1e-9, atol=1e-9), (where, name)
        assert layout.part(found[where], "collapse").sum() == vector[layout.offset("rows")]
        assert layout.part(found[where], "delay").sum() == layout.one(vector, "joined")


def assert_same_states(rows: Mapping[bytes, bytes], oracle: Oracle) -> None:
    """The rows say of every request what the oracle says."""
    from streams.observe.rows import EARLY, JOINED, LATE_SEEN, has_flag, kind_of

    states: Counter[str] = Counter()
    for row in rows.values():
        kind = (
            "orphan"
            if kind_of(row) == EARLY
            else "joined"
            if kind_of(row) == JOINED
            else "late"
            if has_flag(row, LATE_SEEN)
            else "unlabelled"
        )
        states[kind] += 1
    assert states == oracle.states()
