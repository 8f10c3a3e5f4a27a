"""Predictions of one source partition: each new one is measured, counted, sampled and kept as a row until its label comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
import numpy as np

from leadline.events import FeatureValue, Label, LearningRow, Prediction
from streams.core.colons import LARGEST_INTEGER
from streams.core.decoded import Column, Decoded, Fault
from streams.core.request_keys import key_hashes
from streams.core.stage import Record
from streams.core.table import Table
from streams.core.what_is_wrong import too_large_integers
from streams.counting.measure import Columns, measure
from streams.counting.optional_fields import count_schema, tally_optional
from streams.counting.references import Reference
from streams.counting.schema_notes import note_schema, odd_rows
from streams.counting.tally_predictions import tally_joint, tally_predictions
from streams.observe.gather import Apart
from streams.observe.joining import Arrivals
from streams.observe.observation import Batch
from streams.observe.observe_outcomes import OutcomeSide
from streams.observe.partition_state import PartitionState
from streams.observe.rows import (
    EARLY,
    Floats,
    Indices,
    WaitingLabel,
    kind_of,
    pack_predictions,
    unpack_waiting,
)
from streams.observe.samples import sample_predictions

_NONE: dict[str, Any] = {}


class _Given(NamedTuple):
    """The rows of one reference among those of a batch; without `positions` all of them."""

    decoded: Decoded[Prediction]
    visible: Floats
    positions: Indices | None

    def column(self, name: str) -> Column:
        found = self.decoded.column(name)
        if self.positions is None:
            return found
        if isinstance(found, np.ndarray):
            return found[self.positions]
        return found.pick(self.positions) if isinstance(found, Table) else [found[at] for at in self.positions.tolist()]

    def of(self, column: Indices | Floats) -> Any:
        """An array of all of the batch's events, of these."""
        return column if self.positions is None else column[self.positions]

    def keys(self) -> list[bytes]:
        keys = self.decoded.keys
        return keys if self.positions is None else [keys[at] for at in self.positions.tolist()]

    def place(self, at: int) -> int:
        return at if self.positions is None else int(self.positions[at])

    def event(self, at: int) -> Prediction:
        return self.decoded.event(self.place(at))

    def record(self, at: int) -> Record:
        return self.decoded.record(self.place(at))

    def by_model(self, places: Indices) -> Iterator[tuple[str, list[int]]]:
        """Places among these rows by model, each model's in order."""
        whose = self.decoded.whose
        models = whose.model_of[self.of(self.decoded.who)[places]]
        for model in dict.fromkeys(models.tolist()):
            yield whose.models[model], places[models == model].tolist()


class PredictionSide:
    """Takes predictions in. A label that waited for its prediction is handed to the outcomes' side."""

    def __init__(self, state: PartitionState, outcomes: OutcomeSide) -> None:
        self.state = state
        self.outcomes = outcomes

    def take(self, decoded: Decoded[Prediction], visible: Floats, batch: Batch) -> dict[bytes, int]:
        """Takes them in; returns the positions of those that are no duplicates, by the keys of their requests."""
        known, keys = self.state.rows.rows, decoded.keys
        taken = dict(zip(keys, range(len(keys)), strict=True))
        duplicates: list[int] = []
        positions: Indices | None = None
        if len(taken) < len(keys) or not known.keys().isdisjoint(keys):
            taken.clear()
            for at, key in enumerate(keys):
                row = known.get(key)
                if key in taken or (row is not None and kind_of(row) != EARLY):
                    duplicates.append(at)
                else:
                    taken[key] = at
            positions = np.fromiter(taken.values(), np.int64, len(taken))
        self.state.count("predictions", len(taken))
        for reference, threshold, given in self._by_reference(_Given(decoded, visible, positions)):
            self._of_reference(reference, threshold, given, batch)
        if duplicates:
            self._duplicates(duplicates, decoded, visible, batch)
        return taken

    def _by_reference(self, given: _Given) -> Iterator[tuple[Reference, float, _Given]]:
        """Rows that are measured together: a reference and a threshold."""
        whose, who = given.decoded.whose, given.of(given.decoded.who)
        if not len(who):
            return
        models = whose.model_of[who]
        present = [int(models[0])] if (models == models[0]).all() else list(dict.fromkeys(models.tolist()))
        self._tell_scores(given, {whose.models[model] for model in present}, len(who))
        together: dict[tuple[int, float], tuple[Reference, list[int]]] = {}
        for model in present:
            reference = self.state.book.get(whose.models[model])
            threshold = self.state.config.model_for(whose.models[model]).threshold
            together.setdefault((id(reference), threshold), (reference, []))[1].append(model)
        for (_, threshold), (reference, members) in together.items():
            if len(together) == 1:
                yield reference, threshold, given
                continue
            at = np.flatnonzero(np.isin(models, members))
            yield reference, threshold, given._replace(positions=at if given.positions is None else given.positions[at])

    def _tell_scores(self, given: _Given, models: Iterable[str], n: int) -> None:
        """The scores of models without a reference say what their task is, before their rows are measured."""
        unknown = {model_id for model_id in models if self.state.book.is_learning(model_id)}
        if not unknown:
            return
        scores = given.column("score")
        for model_id, at in given.by_model(np.arange(n)):
            if model_id in unknown:
                self.state.book.tell_scores(model_id, [scores[place] for place in at])

    def _duplicates(
        self, positions: Sequence[int], decoded: Decoded[Prediction], visible: Floats, batch: Batch
    ) -> None:
        self.state.count("duplicate_predictions", len(positions))
        for at in positions:
            reference = self.state.book.get(decoded.whose.values[decoded.who[at]].model_id)
            gather, one = batch.gather(reference), slice(at, at + 1)
            number = self.state.combinations.numbers(decoded.whose, decoded.who[one], reference.bins_fingerprint)
            rows = gather.add_rows(number, self.state.panes(visible[one]), decoded.times[one])
            gather.tally.one("duplicate", rows)
            batch.duplicates.append(decoded.record(at))

    def _of_reference(self, reference: Reference, threshold: float, given: _Given, batch: Batch) -> None:
        features: Any = given.column("features")
        if not isinstance(features, Table) and None in features:
            features = [row or _NONE for row in features]
        columns = measure(reference, given.column("score"), given.column("prediction"), features, threshold)
        faults = self._too_large(reference, columns, features, given)
        if faults:
            batch.faults["predictions"] += faults.values()
            self.state.count("predictions", -len(faults))
            left = np.setdiff1d(np.arange(len(columns.score)), list(faults))
            if len(left):
                good = left if given.positions is None else given.positions[left]
                self._of_reference(reference, threshold, given._replace(positions=good), batch)
            return
        gather = batch.gather(reference)
        keys, who = given.keys(), given.of(given.decoded.who)
        times, shown = given.of(given.decoded.times), given.of(given.visible)
        panes = self.state.panes(shown)
        combinations = self.state.combinations.numbers(given.decoded.whose, who, reference.bins_fingerprint)
        rows = gather.add_rows(combinations, panes, times)
        batch.add_cohorts(combinations, times, shown, 0)
        tally_predictions(gather.tally, columns, rows)
        if columns.unexplained is not None:
            tally_joint(gather.tally, rows, columns.unexplained)
        tally_optional(gather.tally, rows, given.column)
        samplers = partial(self.state.sampler, reference)
        sample_predictions(batch, reference, samplers, key_hashes(keys), columns, times, panes, combinations)
        self._note(reference, columns, given, times, panes, batch)
        packed = pack_predictions(
            times, columns.score, columns.predicted, combinations, columns.codes, columns.class_scores
        )
        if given.positions is None:
            self.state.rows.put_many(keys, packed, times, new=True)
        else:
            self._keep(given, keys, packed, times, shown, batch)

    def _note(
        self, reference: Reference, columns: Columns, given: _Given, times: Floats, panes: Indices, batch: Batch
    ) -> None:
        """What is told of rows beside their counts: names of a broken schema, pipelines and runtimes, rows to learn from."""
        n = len(times)
        prints, runtimes = given.column("pipeline_fingerprint"), given.column("runtime")
        if any(prints) or any(runtimes):
            for model_id, at in given.by_model(np.arange(n)):
                count_schema(batch.apart(model_id).schema_seen, [given.event(place) for place in at])
        odd = odd_rows(columns, reference)
        if len(odd):
            for model_id, at in given.by_model(odd):
                apart = batch.apart(model_id)
                note_schema(apart.schema_seen, apart.renames, at, given.event, columns, reference)
        if any(self.state.book.is_learning(model_id) for model_id in given.decoded.whose.models):
            for model_id, at in given.by_model(np.arange(n)):
                if self.state.book.is_learning(model_id):
                    self._learn(model_id, batch.apart(model_id), given, times, panes, at)

    def _keep(
        self, given: _Given, keys: Sequence[bytes], packed: Sequence[bytes], times: Floats, shown: Floats, batch: Batch
    ) -> None:
        """Keeps the rows. Where a label came first it is judged now, as if it came with its prediction."""
        before = list(map(self.state.rows.rows.get, keys))
        if before.count(None) == len(keys):
            self.state.rows.put_many(keys, packed, times, new=True)
            return
        fresh = [at for at, row in enumerate(before) if row is None]
        self.state.rows.put_many([keys[at] for at in fresh], [packed[at] for at in fresh], times[fresh], new=True)
        waiting: list[tuple[int, WaitingLabel]] = []
        for at, row in enumerate(before):
            if row is not None:
                self.state.rows.put(keys[at], packed[at], float(times[at]))
                waiting += [(at, label) for label in unpack_waiting(row)]
        places, labels = zip(*waiting, strict=True)
        batch.waited.update(keys[at] for at in places)
        arrivals = Arrivals(
            [keys[at] for at in places],
            np.array([label.time for label in labels]),
            [label.label for label in labels],
            [label.values for label in labels],
            [label.definition for label in labels],
            shown[list(places)],
            lambda place: _left_of(given.event(places[place]).request_id, labels[place]),
            range(len(labels)),
        )
        self.outcomes.take_waiting(arrivals, batch)

    def _too_large(
        self, reference: Reference, columns: Columns, features: Sequence[Mapping[str, FeatureValue]], given: _Given
    ) -> dict[int, Fault]:
        """Positions of events with an integer beyond 64 bits. A float of that size is a value like any other."""
        suspects = np.isfinite(columns.score) & (np.abs(columns.score) >= LARGEST_INTEGER)
        suspects |= columns.furthest >= 1e5
        # What the reference knows nothing of is in no column.
        loose = np.flatnonzero(columns.extra) if reference.features else np.arange(len(features))
        if len(loose) and isinstance(features, Table):
            suspects[loose] |= (np.abs(features.matrix[loose]) >= LARGEST_INTEGER).any(axis=1)
            for column in features.others.values():
                suspects[[at for at in loose.tolist() if _reaches([column[at]], LARGEST_INTEGER)]] = True
        elif len(loose):
            suspects[[at for at in loose.tolist() if _reaches(features[at].values(), LARGEST_INTEGER)]] = True
        if reference.task == "multiclass" and not reference.classes:
            scores = given.column("score")
            suspects |= [isinstance(score, Mapping) and _reaches(score.values(), LARGEST_INTEGER) for score in scores]
        at = np.flatnonzero(suspects).tolist()
        if not at:
            return {}
        checked = too_large_integers([given.record(position) for position in at])
        return {position: fault for position, fault in zip(at, checked, strict=True) if fault is not None}

    def _learn(
        self, model_id: str, apart: Apart, given: _Given, times: Floats, panes: Indices, at: Sequence[int]
    ) -> None:
        """Sends whole rows of a model without a reference, as many as its baseline needs."""
        learned = self.state.learned_rows.get(model_id, 0)
        left = self.state.config.model_for(model_id).learn_rows - learned
        for place in at[: max(left, 0)]:
            event, time = given.event(place), float(times[place])
            apart.learning.append(
                LearningRow(
                    int(panes[place]),
                    int(time // 86_400),
                    time,
                    learned,
                    event.model_version,
                    event.stage or "live",
                    [f"{name}={value}" for name, value in (event.segments or {}).items()],
                    event.score,
                    event.features or {},
                    event.prediction,
                )
            )
            learned += 1
            self.state.learned_rows[model_id] = learned


def _left_of(request_id: str, label: WaitingLabel) -> Record:
    """The message of a label that waited, from what was kept of it."""
    body = Label(request_id, label.label, label.time, label.values, label.definition)
    return Record(label.offset, request_id.encode(), msgspec.json.encode(body), label.time)


def _reaches(values: Iterable[FeatureValue], limit: int) -> bool:
    """Whether one of them is a number as large as `limit`, on either side of zero."""
    return any(type(value) is float and not -limit < value < limit for value in values)
