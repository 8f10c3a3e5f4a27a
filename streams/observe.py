"""The observer: the state of one source partition. Predictions and labels in, digests and rows out. Knows requests, no history.

Pure: time is a value, and nothing here knows Kafka or Redis. The shell calls `needed`, reads those rows, calls `fold`, commits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from leadline.config import Config
from leadline.events import ClassValue, Digest, DigestSample, Label, LearningRow, Prediction, Rejected
from streams.combinations import Combinations
from streams.decode import LARGEST_INTEGER, Decoded, Fault, decode, too_large_integers
from streams.gather import Gather
from streams.joining import Arrival, Joiner, Outcomes
from streams.measure import Columns, measure
from streams.reference_book import ReferenceBook
from streams.reference_files import read_labels
from streams.request_rows import RequestRows
from streams.rows import EARLY, class_scores, headers, pack_predictions, unpack_waiting
from streams.sampling import Sampler, to_levels
from streams.stage import Effects, Record, Send
from streams.stored_state import require_same
from streams.tally_outcomes import tally_delays, tally_outcomes
from streams.tally_predictions import tally_predictions
from streams.watermark import Watermark

COMBINATIONS_TABLE = "combinations"
_NONE: dict[str, Any] = {}


class Checkpoint(msgspec.Struct):
    """The observer's small state, committed with every batch."""

    watermark: float = float("-inf")
    ahead: int = 0
    lowest_ahead: float = float("inf")
    sequence: int = 0
    buckets: dict[int, int] = {}
    mappings: list[str] = []
    samplers: dict[str, tuple[int, int, float]] = {}
    learned: dict[str, int] = {}
    counts: dict[str, int] = {}
    rejected: dict[str, int] = {}
    settings: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Order:
    """The order of arrival over both topics: place by offset, for each."""

    predictions: Mapping[int, int]
    labels: Mapping[int, int]

    def places(self, predictions: Sequence[Record], labels: Sequence[Record]) -> npt.NDArray[np.int64]:
        """Places of the records, predictions first."""
        return np.array(
            [self.predictions[record.offset] for record in predictions]
            + [self.labels[record.offset] for record in labels],
            dtype=np.int64,
        )


@dataclass(slots=True)
class Observation:
    """What one batch says: digests in order, faults, and repeated predictions (evidence, not faults)."""

    digests: list[Digest] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    duplicates: list[Record] = field(default_factory=list)
    drops: list[str] = field(default_factory=list)


class Observer:
    """One source partition. `fold` takes a batch of one topic; a failed commit means: throw this object away, build another."""

    def __init__(
        self,
        partition: int,
        config: Config,
        book: ReferenceBook,
        checkpoint: bytes = b"",
        tables: Mapping[str, Mapping[bytes, bytes]] | None = None,
        digest_partitions: int = 1,
    ) -> None:
        self.partition = partition
        self.config = config
        self.book = book
        self.digest_partitions = digest_partitions
        state = msgspec.msgpack.decode(checkpoint, type=Checkpoint) if checkpoint else Checkpoint()
        join = config.join
        self.pane_s = config.panes.pane
        self.settings = {
            "join.delay_window": join.delay_window,
            "join.early_tolerance": join.early_tolerance,
            "join.late_retention": join.kept_past_window,
        }
        require_same(f"observer of partition {partition}", state.settings, self.settings)
        self.watermark = Watermark(join.max_jump, state.watermark, state.ahead, state.lowest_ahead)
        self.sequence = state.sequence
        self.counts: dict[str, int] = state.counts
        self.rejected: dict[str, int] = state.rejected
        self.mappings: list[str] = state.mappings
        self.learned_rows: dict[str, int] = state.learned
        self.samplers = {name: Sampler(self._per_pane, *values) for name, values in state.samplers.items()}
        self.rows = RequestRows(
            join.delay_window + join.kept_past_window + join.early_tolerance, join.cache_rows, state.buckets
        )
        self.combinations = Combinations(config.panes.max_segment_values)
        for model_id in config.models:
            self._reserve(model_id)
        tables = tables or {}
        self.combinations.restore(tables.get(COMBINATIONS_TABLE, {}))
        for table, rows in tables.items():
            if table.startswith("b:"):
                self.rows.load(int(table[2:]), rows)
        self.joiner = Joiner(self.rows, join.delay_window, join.early_tolerance, self._read_labels)
        self._decoded: dict[str, tuple[Sequence[Record], Decoded[Any]]] = {}

    @property
    def _per_pane(self) -> float:
        return self.config.panes.sample_per_second * self.pane_s

    def _reserve(self, model_id: str) -> None:
        reference = self.book.find(model_id)
        if reference is not None:
            self.combinations.reserve(model_id, [segment for segment in reference.cells if segment])

    # -- the shell's side ------------------------------------------------------------------------------------------------------

    def needed(self, source: str, records: Sequence[Record]) -> Mapping[str, Sequence[bytes]]:
        """Rows of the batch's ids that the cache cannot answer."""
        decoded = self._decode(source, records)
        return self.rows.missing(event.request_id for event in decoded.events)

    def fold(
        self, source: str, records: Sequence[Record], found: Mapping[str, Mapping[bytes, bytes]], now: float
    ) -> Effects:
        """Takes a batch in; the effects hold its digests, rejected messages, rows and the checkpoint."""
        seen = self.observe({source: records}, found, now)
        effects = Effects(drops=seen.drops)
        effects.writes, effects.removes = self.rows.take_changes()
        new = self.combinations.take_new()
        if new:
            effects.writes[COMBINATIONS_TABLE] = new
        topics = self.config.kafka.topics
        encode = msgspec.json.encode
        for digest in seen.digests:
            if digest.model_id:
                effects.sends.append(Send(topics.digests, digest.model_id.encode(), encode(digest)))
        clock = encode(self._clock(now))
        effects.sends += [Send(topics.digests, b"", clock, partition) for partition in range(self.digest_partitions)]
        topic = topics.predictions if source == "predictions" else topics.labels
        for fault in seen.faults:
            effects.sends.append(
                Send(topics.rejected, fault.record.key or b"", encode(self._rejected(fault, topic, now)))
            )
        for record in seen.duplicates:
            fault = Fault(record, "duplicate", "this request id was counted before; the first prediction stands")
            effects.sends.append(Send(topics.rejected, record.key or b"", encode(self._rejected(fault, topic, now))))
        effects.checkpoint = self.checkpoint()
        effects.views[f"{self.config.redis.prefix}:join:{self.partition}"] = {
            "watermark": repr(self.watermark.time),
            **{name: str(count) for name, count in sorted(self.counts.items())},
            **{f"rejected:{reason}": str(count) for reason, count in sorted(self.rejected.items())},
        }
        return effects

    def checkpoint(self) -> bytes:
        """What a successor needs beside the rows."""
        return msgspec.msgpack.encode(
            Checkpoint(
                self.watermark.time,
                self.watermark.ahead,
                self.watermark.lowest_ahead,
                self.sequence,
                self.rows.stored,
                self.mappings,
                {name: sampler.state() for name, sampler in self.samplers.items()},
                self.learned_rows,
                self.counts,
                self.rejected,
                self.settings,
            )
        )

    def _clock(self, now: float) -> Digest:
        self.sequence += 1
        return Digest(self.partition, self.sequence, "", "", self.watermark.time, now, [])

    def _rejected(self, fault: Fault, topic: str, now: float) -> Rejected:
        value = fault.record.value or b""
        limit = self.config.rejected_original_bytes
        return Rejected(
            fault.reason, fault.detail, topic, self.partition, fault.record.offset, now, value[:limit], len(value)
        )

    # -- the core --------------------------------------------------------------------------------------------------------------

    def _decode(self, source: str, records: Sequence[Record]) -> Decoded[Any]:
        before = self._decoded.get(source)
        if before is not None and before[0] is records:
            return before[1]
        kind: Any = Prediction if source == "predictions" else Label
        result: Decoded[Any] = decode(
            kind, records, max_bytes=self.config.kafka.max_message_bytes, max_future_s=self.config.join.max_future
        )
        self._decoded[source] = (records, result)
        return result

    def observe(
        self,
        arrived: Mapping[str, Sequence[Record]],
        found: Mapping[str, Mapping[bytes, bytes]],
        now: float,
        order: Order | None = None,
    ) -> Observation:
        """Takes a batch in and says what it saw: records by source ("predictions", "labels").

        A batch may hold both: `order` then gives each record's place in the order of arrival, so that one pass over a hundred
        predictions and then their labels says the same as two hundred passes would.
        """
        predictions: Decoded[Prediction] = self._decode("predictions", arrived.get("predictions", ()))
        labels: Decoded[Label] = self._decode("labels", arrived.get("labels", ()))
        for source in arrived:
            self._decoded.pop(source, None)
        if found:
            self.rows.take_found(found)
        seen = Observation(faults=[*predictions.faults, *labels.faults])
        gathers: dict[str, Gather] = {}
        places = order.places(predictions.records, labels.records) if order is not None else None
        stamps = np.array(predictions.times + labels.times)
        if places is None:
            visible = self.watermark.advance(stamps)
        else:
            sequence = np.argsort(places, kind="stable")
            visible = np.empty_like(stamps)
            visible[sequence] = self.watermark.advance(stamps[sequence])
        n = len(predictions.events)
        rows = self.rows.rows
        known = (
            {event.request_id for event in labels.events if event.request_id in rows} if places is not None else set()
        )
        taken = self._predictions(predictions, visible[:n], seen, gathers) if n else {}
        if labels.events:
            came_first = []
            if places is not None:
                came_first = self._came_first(taken, labels, places, visible)
            self._labels(labels, visible[n:], came_first, known, seen, gathers)
        for fault in seen.faults:
            self.rejected[fault.reason] = self.rejected.get(fault.reason, 0) + 1
        for model_id in sorted(gathers):
            digests = list(
                gathers[model_id].digests(
                    self.combinations, self.partition, self.sequence + 1, self.watermark.time, now
                )
            )
            self.sequence += len(digests)
            seen.digests += digests
        seen.drops = self.rows.expire(self.watermark.time)
        # After the batch, never before it: `needed` has said which rows the cache holds, and they must still be there.
        self.rows.evict()
        return seen

    def _gather(self, gathers: dict[str, Gather], model_id: str) -> Gather:
        found = gathers.get(model_id)
        if found is None:
            found = gathers[model_id] = Gather(model_id, self.book.get(model_id))
        return found

    def _count(self, name: str, n: int = 1) -> None:
        if n:
            self.counts[name] = self.counts.get(name, 0) + n

    def _panes(self, visible: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        return (visible // self.pane_s).astype(np.int64)

    def _predictions(
        self,
        decoded: Decoded[Prediction],
        visible: npt.NDArray[np.float64],
        seen: Observation,
        gathers: dict[str, Gather],
    ) -> dict[str, int]:
        """Takes them in; returns the positions of those that are no duplicates, by request id."""
        known = self.rows.rows
        taken: dict[str, int] = {}
        by_model: dict[str, list[int]] = {}
        duplicates: list[int] = []
        ids = [event.request_id for event in decoded.events]
        plain = dict(zip(ids, range(len(ids)), strict=True))
        models = dict.fromkeys([event.model_id for event in decoded.events])
        if len(plain) == len(ids) and len(models) == 1 and known.keys().isdisjoint(ids):
            event = decoded.events[0]
            self.book.get(event.model_id, event.score)
            self._count("predictions", len(ids))
            gather = self._gather(gathers, event.model_id)
            self._predictions_of(event.model_id, list(plain.values()), decoded, visible, seen, gather, gathers)
            return plain
        for at, event in enumerate(decoded.events):
            name = event.request_id
            row = known.get(name)
            if name in taken or (row is not None and row[0] != EARLY):
                duplicates.append(at)
                continue
            taken[name] = at
            model = by_model.get(event.model_id)
            if model is None:
                self.book.get(event.model_id, event.score)  # fixes the task of a model without a reference
                model = by_model[event.model_id] = []
            model.append(at)
        self._count("predictions", len(taken))
        for model_id, positions in by_model.items():
            self._predictions_of(model_id, positions, decoded, visible, seen, self._gather(gathers, model_id), gathers)
        if duplicates:
            self._duplicates(duplicates, decoded, visible, seen, gathers)
        return taken

    def _duplicates(
        self,
        positions: Sequence[int],
        decoded: Decoded[Prediction],
        visible: npt.NDArray[np.float64],
        seen: Observation,
        gathers: dict[str, Gather],
    ) -> None:
        self._count("duplicate_predictions", len(positions))
        for at in positions:
            event = decoded.events[at]
            gather = self._gather(gathers, event.model_id)
            number = self.combinations.number(event.model_id, event.model_version, event.stage, event.segments)
            rows = gather.add_rows(np.array([number]), self._panes(visible[at : at + 1]), np.array([decoded.times[at]]))
            gather.tally.one("duplicate", rows)
            seen.duplicates.append(decoded.records[at])

    def _predictions_of(
        self,
        model_id: str,
        positions: list[int],
        decoded: Decoded[Prediction],
        visible: npt.NDArray[np.float64],
        seen: Observation,
        gather: Gather,
        gathers: dict[str, Gather],
    ) -> None:
        model = self.config.model_for(model_id)
        reference = gather.reference
        events = [decoded.events[at] for at in positions]
        features = [event.features or _NONE for event in events]
        scores = [event.score for event in events]
        columns = measure(reference, scores, [event.prediction for event in events], features, model.threshold)
        large = self._too_large(columns, features, [decoded.records[at] for at in positions], reference.task)
        if large:
            faults = large
            seen.faults += faults.values()
            self._count("predictions", -len(faults))
            positions = [position for at, position in enumerate(positions) if at not in faults]
            if positions:
                self._predictions_of(model_id, positions, decoded, visible, seen, gather, gathers)
            return
        times = np.array([decoded.times[at] for at in positions])
        shown = visible[positions]
        panes = self._panes(shown)
        combinations = self.combinations.numbers(
            model_id,
            [event.model_version for event in events],
            [event.stage for event in events],
            [event.segments for event in events],
        )
        rows = gather.add_rows(combinations, panes, times)
        gather.add_cohorts(times, 0)
        latency = _optional([event.latency_ms for event in events])
        confidence = _optional([event.confidence for event in events])
        tally_predictions(gather.tally, columns, rows, latency, confidence)
        ids = [event.request_id for event in events]
        fields = [name.encode() for name in ids]
        self._sample(gather, fields, columns, times, panes, combinations)
        self._schema(gather, events)
        if self.book.is_learning(model_id):
            self._learn(gather, events, times, panes)
        packed = pack_predictions(
            times,
            columns.score,
            columns.predicted,
            combinations,
            columns.codes,
            self._mapping(reference.bins_fingerprint),
            columns.class_scores,
        )
        known = self.rows.rows
        before = list(map(known.get, ids))
        fresh = [at for at, row in enumerate(before) if row is None]
        if len(fresh) == len(ids):
            self.rows.put_many(ids, fields, packed, times, new=True)
        else:
            new_ids, new_fields = [ids[at] for at in fresh], [fields[at] for at in fresh]
            new_rows = [packed[at] for at in fresh]
            self.rows.put_many(new_ids, new_fields, new_rows, times[fresh], new=True)
        waiting: list[Arrival] = []
        for at, row in enumerate(before) if len(fresh) < len(ids) else ():
            if row is not None:
                # The label came first: now it is judged as if it came with its prediction.
                self.rows.put(ids[at], packed[at], float(times[at]))
                waiting += [
                    Arrival(ids[at], label.time, label.label, label.values, float(shown[at]), -1)
                    for label in unpack_waiting(row)
                ]
        if waiting:
            self._count("early", len({arrival.request_id for arrival in waiting}))
            outcomes = Outcomes()
            outcomes.events += [
                ("early", known[name], when, 1)
                for name, when in {arrival.request_id: arrival.visible for arrival in waiting}.items()
            ]
            self.joiner.take(waiting, outcomes)
            self._outcomes(outcomes, gathers)

    def _too_large(
        self, columns: Columns, features: Sequence[Mapping[str, Any]], records: Sequence[Record], task: str
    ) -> dict[int, Fault]:
        """Positions of events with an integer beyond 64 bits. A float of that size is a value like any other."""
        suspects = np.isfinite(columns.score) & (np.abs(columns.score) >= LARGEST_INTEGER)
        suspects |= columns.furthest >= 1e5
        at = np.flatnonzero(suspects).tolist()
        if not at:
            return {}
        checked = too_large_integers([records[position] for position in at])
        return {position: fault for position, fault in zip(at, checked, strict=True) if fault is not None}

    def _mapping(self, fingerprint: str) -> int:
        if fingerprint not in self.mappings:
            self.mappings.append(fingerprint)
        return self.mappings.index(fingerprint)

    def _sample(
        self,
        gather: Gather,
        ids: Sequence[bytes],
        columns: Columns,
        times: npt.NDArray[np.float64],
        panes: npt.NDArray[np.int64],
        combinations: npt.NDArray[np.int64],
    ) -> None:
        sampler = self.samplers.setdefault(gather.model_id, Sampler(self._per_pane))
        chosen, order = sampler.choose(ids, panes)
        self._sampled(gather, "score", chosen, order, columns.score, times, panes, combinations)

    def _sampled(
        self,
        gather: Gather,
        stream: str,
        chosen: npt.NDArray[np.int64],
        order: npt.NDArray[np.int64],
        values: npt.NDArray[np.float64],
        times: npt.NDArray[np.float64],
        panes: npt.NDArray[np.int64],
        combinations: npt.NDArray[np.int64],
    ) -> None:
        reference = gather.reference
        if reference.task != "binary" and reference.score is None:
            return  # no range to map into before a baseline is learned
        low, high = (
            (0.0, 1.0)
            if reference.task != "regression" or reference.score is None
            else (reference.score.low, reference.score.high)
        )
        finite = np.isfinite(values[chosen])
        chosen, order = chosen[finite], order[finite]
        groups: dict[tuple[str, str], list[int]] = {}
        for position, combination in enumerate(combinations[chosen].tolist()):
            _, version, stage, _ = self.combinations.all[combination]
            groups.setdefault((version, stage), []).append(position)
        for (version, stage), members in groups.items():
            picked = chosen[members]
            gather.samples.append(
                DigestSample(
                    version,
                    stage,
                    stream,
                    times[picked].tolist(),
                    order[members].tolist(),
                    to_levels(values[picked], low, high),
                )
            )

    def _schema(self, gather: Gather, events: Sequence[Prediction]) -> None:
        """Counts pipeline fingerprints and runtime versions, where services publish them."""
        silent = [event.pipeline_fingerprint is None and event.runtime is None for event in events]
        if all(silent):
            return
        for event, nothing in zip(events, silent, strict=True):
            if nothing:
                continue
            seen = gather.schema_seen.setdefault(event.model_version, {})
            names = [f"runtime {name}={value}" for name, value in (event.runtime or {}).items()]
            if event.pipeline_fingerprint is not None:
                names.append(f"pipeline {event.pipeline_fingerprint}")
            for name in names:
                if name in seen or len(seen) < 50:
                    seen[name] = seen.get(name, 0) + 1

    def _learn(
        self, gather: Gather, events: Sequence[Prediction], times: npt.NDArray[np.float64], panes: npt.NDArray[np.int64]
    ) -> None:
        """Sends whole rows of a model without a reference, as many as its baseline needs."""
        model_id = gather.model_id
        left = self.config.model_for(model_id).learn_rows - self.learned_rows.get(model_id, 0)
        for event, time, pane in list(zip(events, times.tolist(), panes.tolist(), strict=True))[: max(left, 0)]:
            gather.learning.append(
                LearningRow(
                    pane,
                    int(time // 86_400),
                    time,
                    self.learned_rows.get(model_id, 0),
                    event.model_version,
                    event.stage or "live",
                    [f"{name}={value}" for name, value in (event.segments or {}).items()],
                    event.score,
                    event.features or {},
                )
            )
            self.learned_rows[model_id] = self.learned_rows.get(model_id, 0) + 1

    # -- labels ----------------------------------------------------------------------------------------------------------------

    @staticmethod
    def _came_first(
        taken: Mapping[str, int],
        labels: Decoded[Label],
        places: npt.NDArray[np.int64],
        visible: npt.NDArray[np.float64],
    ) -> list[int]:
        """Positions of labels that stand before the prediction of their request, which is of this batch: `taken` has its position.

        Such a pair is complete when its prediction comes: `visible` is changed to say so.
        """
        n = len(places) - len(labels.events)
        came_first = []
        for at, event in enumerate(labels.events):
            prediction = taken.get(event.request_id)
            if prediction is not None and places[n + at] < places[prediction]:
                came_first.append(at)
                visible[n + at] = visible[prediction]
        return came_first

    def _labels(
        self,
        decoded: Decoded[Label],
        visible: npt.NDArray[np.float64],
        came_first: Sequence[int],
        known_before: Set[str],
        seen: Observation,
        gathers: dict[str, Gather],
    ) -> None:
        origins = np.arange(len(decoded.events))
        origins[list(came_first)] = -1  # as if it had waited: no figure depends on where a batch was cut
        arrivals = [
            Arrival(event.request_id, time, event.label, event.values, when, origin)
            for event, time, when, origin in zip(
                decoded.events, decoded.times, visible.tolist(), origins.tolist(), strict=True
            )
        ]
        outcomes = Outcomes()
        known = self.rows.rows
        for name, at in {decoded.events[at].request_id: at for at in came_first}.items():
            row = known.get(name)
            # A prediction that was rejected leaves no row; one whose label had waited since an earlier batch was counted with it.
            if row is not None and name not in known_before:
                outcomes.events.append(("early", row, float(visible[at]), 1))
        early = len(outcomes.events)
        self._count("early", early)
        self._count("label_first", early)
        self.joiner.take(arrivals, outcomes)
        self._count("labels", len(arrivals))
        self._outcomes(outcomes, gathers)
        for at in outcomes.unusable:
            label = decoded.events[at].label
            seen.faults.append(
                Fault(decoded.records[at], "label_unusable", f"{str(label)[:64]!r} is no label of its model's task")
            )

    def _read_labels(self, combinations: npt.NDArray[Any], labels: Sequence[ClassValue]) -> npt.NDArray[np.float64]:
        models = np.array(self.combinations.model_of, dtype=np.int64)[combinations]
        numbers = np.full(len(labels), np.nan)
        for model in np.unique(models).tolist():
            at = np.flatnonzero(models == model)
            model_id = self.combinations.models[model]
            positive = self.config.model_for(model_id).positive_label
            numbers[at] = read_labels(self.book.get(model_id), [labels[position] for position in at.tolist()], positive)
        return numbers

    def _outcomes(self, outcomes: Outcomes, gathers: dict[str, Gather]) -> None:
        self._count("label_first", outcomes.waiting)
        self._count("repeated_labels", outcomes.repeated)
        self._count("late_labels", outcomes.late_labels)
        for name, _, _, sign in outcomes.events:
            if name != "early":
                self._count(name, sign)
        model_of = np.array(self.combinations.model_of, dtype=np.int64)
        if outcomes.events:
            head = headers([row for _, row, _, _ in outcomes.events])
            names = np.array([name for name, _, _, _ in outcomes.events])
            signs = np.array([sign for _, _, _, sign in outcomes.events], dtype=np.int64)
            panes = self._panes(np.array([when for _, _, when, _ in outcomes.events]))
            models = model_of[head["combination"]]
            for model in np.unique(models).tolist():
                of_model = models == model
                gather = self._gather(gathers, self.combinations.models[model])
                for name in np.unique(names[of_model]).tolist():
                    at = np.flatnonzero(of_model & (names == name))
                    times = head["time"][at].astype(np.float64)
                    rows = gather.add_rows(head["combination"][at].astype(np.int64), panes[at], times)
                    gather.tally.one(name, rows, signs[at].astype(np.float64))
                    if name == "late":
                        gather.add_cohorts(times, 2, signs[at])
        if outcomes.rows:
            head = headers(outcomes.rows)
            models = model_of[head["combination"]]
            signs = np.array(outcomes.signs)
            visible, labels, delays = np.array(outcomes.visible), np.array(outcomes.labels), np.array(outcomes.delays)
            self._count("joined", int(np.count_nonzero(~np.isnan(delays))))
            for model in np.unique(models).tolist():
                gather = self._gather(gathers, self.combinations.models[model])
                for sign in (1, -1):
                    at = np.flatnonzero((models == model) & (signs == sign))
                    if len(at):
                        self._outcomes_of(
                            gather, outcomes, head[at], at, visible[at], labels[at], delays[at], float(sign)
                        )

    def _outcomes_of(
        self,
        gather: Gather,
        outcomes: Outcomes,
        head: npt.NDArray[Any],
        at: npt.NDArray[np.int64],
        visible: npt.NDArray[np.float64],
        label: npt.NDArray[np.float64],
        delays: npt.NDArray[np.float64],
        sign: float,
    ) -> None:
        reference = gather.reference
        times = head["time"].astype(np.float64)
        combinations = head["combination"].astype(np.int64)
        panes = self._panes(visible)
        rows = gather.add_rows(combinations, panes, times)
        score, predicted = head["score"].astype(np.float64), head["predicted"].astype(np.float64)
        score_codes = reference.score.bins.assign(score) if reference.score is not None else None  # type: ignore[arg-type]
        shares = None
        if reference.task == "multiclass" and reference.classes:
            current = self._mapping(reference.bins_fingerprint)
            if (head["mapping"] == current).all():
                shares = class_scores([outcomes.rows[position] for position in at], len(reference.classes))
        gather.tally.one("outcomes", rows, sign)
        tally_outcomes(gather.tally, rows, score, predicted, label, score_codes, shares, sign)
        if sign < 0:
            return
        fresh = np.flatnonzero(~np.isnan(delays))
        if len(fresh):
            gather.tally.one("joined", rows[fresh])
            gather.add_cohorts(times[fresh], 1)
        tally_delays(gather.tally, rows[fresh], delays[fresh])
        for name in reference.layout.business:
            given = [
                (position, values[name])
                for position in fresh.tolist()
                if (values := outcomes.values[int(at[position])]) and name in values
            ]
            if given:
                where = rows[[position for position, _ in given]]
                amounts = np.array([amount for _, amount in given])
                gather.tally.one(f"value_rows:{name}", where)
                gather.tally.one(f"value:{name}", where, amounts)
                gather.tally.one(f"value_squares:{name}", where, amounts**2)


def _optional(values: Sequence[float | None]) -> npt.NDArray[np.float64] | None:
    if values.count(None) == len(values):
        return None
    return np.array(values, dtype=np.float64)
