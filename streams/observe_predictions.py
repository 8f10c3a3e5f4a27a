"""Predictions of one source partition: each new one is measured, counted, sampled and kept as a row until its label comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from leadline.events import LearningRow, Prediction
from streams.decode import LARGEST_INTEGER, Decoded, Fault, too_large_integers
from streams.gather import Gather
from streams.joining import Arrival
from streams.measure import Columns, measure
from streams.observation import Batch
from streams.observe_outcomes import OutcomeSide
from streams.optional_fields import count_schema, tally_optional
from streams.partition_state import PartitionState
from streams.rows import EARLY, pack_predictions, unpack_waiting
from streams.score_samples import sample_scores
from streams.stage import Record
from streams.tally_predictions import tally_joint, tally_predictions

_NONE: dict[str, Any] = {}


class PredictionSide:
    """Takes predictions in. A label that waited for its prediction is handed to the outcomes' side."""

    def __init__(self, state: PartitionState, outcomes: OutcomeSide) -> None:
        self.state = state
        self.outcomes = outcomes

    def take(
        self,
        decoded: Decoded[Prediction],
        visible: npt.NDArray[np.float64],
        batch: Batch,
    ) -> dict[str, int]:
        """Takes them in; returns the positions of those that are no duplicates, by request id."""
        known = self.state.rows.rows
        taken: dict[str, int] = {}
        by_model: dict[str, list[int]] = {}
        duplicates: list[int] = []
        ids = [event.request_id for event in decoded.events]
        plain = dict(zip(ids, range(len(ids)), strict=True))
        models = dict.fromkeys([event.model_id for event in decoded.events])
        if len(plain) == len(ids) and len(models) == 1 and known.keys().isdisjoint(ids):
            event = decoded.events[0]
            self.state.book.get(event.model_id, event.score)
            self.state.count("predictions", len(ids))
            gather = batch.gather(event.model_id)
            self._of_model(event.model_id, list(plain.values()), decoded, visible, gather, batch)
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
                self.state.book.get(event.model_id, event.score)  # fixes the task of a model without a reference
                model = by_model[event.model_id] = []
            model.append(at)
        self.state.count("predictions", len(taken))
        for model_id, positions in by_model.items():
            self._of_model(model_id, positions, decoded, visible, batch.gather(model_id), batch)
        if duplicates:
            self._duplicates(duplicates, decoded, visible, batch)
        return taken

    def _duplicates(
        self,
        positions: Sequence[int],
        decoded: Decoded[Prediction],
        visible: npt.NDArray[np.float64],
        batch: Batch,
    ) -> None:
        self.state.count("duplicate_predictions", len(positions))
        for at in positions:
            event = decoded.events[at]
            gather = batch.gather(event.model_id)
            number = self.state.combinations.number(event.model_id, event.model_version, event.stage, event.segments)
            rows = gather.add_rows(
                np.array([number]), self.state.panes(visible[at : at + 1]), np.array([decoded.times[at]])
            )
            gather.tally.one("duplicate", rows)
            batch.duplicates.append(decoded.records[at])

    def _of_model(
        self,
        model_id: str,
        positions: list[int],
        decoded: Decoded[Prediction],
        visible: npt.NDArray[np.float64],
        gather: Gather,
        batch: Batch,
    ) -> None:
        model = self.state.config.model_for(model_id)
        reference = gather.reference
        events = [decoded.events[at] for at in positions]
        features = [event.features or _NONE for event in events]
        scores = [event.score for event in events]
        columns = measure(reference, scores, [event.prediction for event in events], features, model.threshold)
        large = self._too_large(columns, features, [decoded.records[at] for at in positions], reference.task)
        if large:
            faults = large
            batch.faults += faults.values()
            self.state.count("predictions", -len(faults))
            positions = [position for at, position in enumerate(positions) if at not in faults]
            if positions:
                self._of_model(model_id, positions, decoded, visible, gather, batch)
            return
        times = np.array([decoded.times[at] for at in positions])
        shown = visible[positions]
        panes = self.state.panes(shown)
        combinations = self.state.combinations.numbers(
            model_id,
            [event.model_version for event in events],
            [event.stage for event in events],
            [event.segments for event in events],
        )
        rows = gather.add_rows(combinations, panes, times)
        gather.add_cohorts(times, 0)
        tally_predictions(gather.tally, columns, rows)
        if columns.unexplained is not None:
            tally_joint(gather.tally, rows, columns.unexplained)
        tally_optional(gather.tally, rows, events)
        count_schema(gather.schema_seen, events)
        ids = [event.request_id for event in events]
        fields = [name.encode() for name in ids]
        sample_scores(
            gather,
            self.state.sampler(model_id),
            self.state.combinations,
            fields,
            columns.score,
            times,
            panes,
            combinations,
        )
        if self.state.book.is_learning(model_id):
            self._learn(gather, events, times, panes)
        packed = pack_predictions(
            times,
            columns.score,
            columns.predicted,
            combinations,
            columns.codes,
            self.state.mapping(reference.bins_fingerprint),
            columns.class_scores,
        )
        known = self.state.rows.rows
        before = list(map(known.get, ids))
        fresh = [at for at, row in enumerate(before) if row is None]
        if len(fresh) == len(ids):
            self.state.rows.put_many(ids, fields, packed, times, new=True)
        else:
            new_ids, new_fields = [ids[at] for at in fresh], [fields[at] for at in fresh]
            new_rows = [packed[at] for at in fresh]
            self.state.rows.put_many(new_ids, new_fields, new_rows, times[fresh], new=True)
        waiting: list[Arrival] = []
        for at, row in enumerate(before) if len(fresh) < len(ids) else ():
            if row is not None:
                # The label came first: now it is judged as if it came with its prediction.
                self.state.rows.put(ids[at], packed[at], float(times[at]))
                waiting += [
                    Arrival(ids[at], label.time, label.label, label.values, float(shown[at]), -1)
                    for label in unpack_waiting(row)
                ]
        if waiting:
            self.outcomes.take_waiting(waiting, known, batch)

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

    def _learn(
        self, gather: Gather, events: Sequence[Prediction], times: npt.NDArray[np.float64], panes: npt.NDArray[np.int64]
    ) -> None:
        """Sends whole rows of a model without a reference, as many as its baseline needs."""
        model_id = gather.model_id
        left = self.state.config.model_for(model_id).learn_rows - self.state.learned_rows.get(model_id, 0)
        for event, time, pane in list(zip(events, times.tolist(), panes.tolist(), strict=True))[: max(left, 0)]:
            gather.learning.append(
                LearningRow(
                    pane,
                    int(time // 86_400),
                    time,
                    self.state.learned_rows.get(model_id, 0),
                    event.model_version,
                    event.stage or "live",
                    [f"{name}={value}" for name, value in (event.segments or {}).items()],
                    event.score,
                    event.features or {},
                )
            )
            self.state.learned_rows[model_id] = self.state.learned_rows.get(model_id, 0) + 1
