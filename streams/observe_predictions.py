"""Predictions of one source partition: each new one is measured, counted, sampled and kept as a row until its label comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from leadline.events import LearningRow, Prediction
from streams.decode import LARGEST_INTEGER, Decoded, Fault, too_large_integers
from streams.gather import Gather
from streams.joining import Arrivals
from streams.measure import Columns, measure
from streams.observation import Batch
from streams.observe_outcomes import OutcomeSide
from streams.optional_fields import count_schema, tally_optional
from streams.partition_state import PartitionState
from streams.rows import EARLY, WaitingLabel, pack_predictions, unpack_waiting
from streams.samples import sample_predictions
from streams.stage import Record
from streams.tally_predictions import tally_joint, tally_predictions

_NONE: dict[str, Any] = {}
Item = TypeVar("Item")


class _Given(NamedTuple):
    """The rows of one model among those of a batch; without `positions` all of them."""

    decoded: Decoded[Prediction]
    positions: Sequence[int] | None

    def all(self, items: list[Item]) -> list[Item]:
        return items if self.positions is None else [items[at] for at in self.positions]

    def column(self, name: str) -> list[Any]:
        return self.all(self.decoded.columns[name])


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
        ids = decoded.columns["request_id"]
        plain = dict(zip(ids, range(len(ids)), strict=True))
        models = set(decoded.columns["model_id"])
        if len(plain) == len(ids) and len(models) == 1 and known.keys().isdisjoint(ids):
            model_id = models.pop()
            self.state.book.get(model_id, decoded.columns["score"][0])
            self.state.count("predictions", len(ids))
            self._of_model(model_id, None, decoded, visible, batch.gather(model_id), batch)
            return plain
        taken: dict[str, int] = {}
        by_model: dict[str, list[int]] = {}
        duplicates: list[int] = []
        for at, (name, model_id) in enumerate(zip(ids, decoded.columns["model_id"], strict=True)):
            row = known.get(name)
            if name in taken or (row is not None and row[0] != EARLY):
                duplicates.append(at)
                continue
            taken[name] = at
            model = by_model.get(model_id)
            if model is None:
                # Fixes the task of a model without a reference.
                self.state.book.get(model_id, decoded.columns["score"][at])
                model = by_model[model_id] = []
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
        positions: list[int] | None,
        decoded: Decoded[Prediction],
        visible: npt.NDArray[np.float64],
        gather: Gather,
        batch: Batch,
    ) -> None:
        """`positions` None: all of them, and no row of theirs is known."""
        model = self.state.config.model_for(model_id)
        reference = gather.reference
        given = _Given(decoded, positions)
        events, records = given.all(decoded.events), given.all(decoded.records)
        features = given.column("features")
        if None in features:
            features = [row or _NONE for row in features]
        columns = measure(reference, given.column("score"), given.column("prediction"), features, model.threshold)
        faults = self._too_large(columns, records)
        if faults:
            batch.faults += faults.values()
            self.state.count("predictions", -len(faults))
            places = range(len(decoded.events)) if positions is None else positions
            positions = [position for at, position in enumerate(places) if at not in faults]
            if positions:
                self._of_model(model_id, positions, decoded, visible, gather, batch)
            return
        times = np.array(given.all(decoded.times))
        shown = visible if positions is None else visible[positions]
        panes = self.state.panes(shown)
        combinations = self.state.combinations.numbers(
            model_id, given.column("model_version"), given.column("stage"), given.column("segments")
        )
        rows = gather.add_rows(combinations, panes, times)
        gather.add_cohorts(times, shown, 0)
        tally_predictions(gather.tally, columns, rows)
        if columns.unexplained is not None:
            tally_joint(gather.tally, rows, columns.unexplained)
        tally_optional(gather.tally, rows, events)
        count_schema(gather.schema_seen, events)
        ids = given.column("request_id")
        fields = [name.encode() for name in ids]
        sample_predictions(
            gather,
            (
                self.state.sampler(reference, model_id, "score"),
                self.state.sampler(reference, model_id, "features"),
            ),
            self.state.combinations,
            fields,
            columns,
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
        if positions is None:
            self.state.rows.put_many(ids, fields, packed, times, new=True)
        else:
            self._keep(ids, fields, packed, times, shown, batch)

    def _keep(
        self,
        ids: Sequence[str],
        fields: Sequence[bytes],
        packed: Sequence[bytes],
        times: npt.NDArray[np.float64],
        shown: npt.NDArray[np.float64],
        batch: Batch,
    ) -> None:
        """Keeps the rows. Where a label came first it is judged now, as if it came with its prediction."""
        before = list(map(self.state.rows.rows.get, ids))
        fresh = [at for at, row in enumerate(before) if row is None]
        if len(fresh) == len(ids):
            self.state.rows.put_many(ids, fields, packed, times, new=True)
            return
        new_ids, new_fields = [ids[at] for at in fresh], [fields[at] for at in fresh]
        self.state.rows.put_many(new_ids, new_fields, [packed[at] for at in fresh], times[fresh], new=True)
        waiting: list[tuple[str, WaitingLabel, float]] = []
        for at, row in enumerate(before):
            if row is not None:
                self.state.rows.put(ids[at], packed[at], float(times[at]))
                waiting += [(ids[at], label, float(shown[at])) for label in unpack_waiting(row)]
        names, labels, visible = zip(*waiting, strict=True)
        arrivals = Arrivals(
            names,
            np.array([label.time for label in labels]),
            [label.label for label in labels],
            [label.values for label in labels],
            [label.definition for label in labels],
            np.array(visible),
            np.full(len(names), -1),
        )
        self.outcomes.take_waiting(arrivals, batch)

    def _too_large(self, columns: Columns, records: Sequence[Record]) -> dict[int, Fault]:
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
                    event.prediction,
                )
            )
            self.state.learned_rows[model_id] = self.state.learned_rows.get(model_id, 0) + 1
