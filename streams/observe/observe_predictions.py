"""Predictions of one source partition: each new one is measured, counted, sampled and kept as a row until its label comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from leadline.events import FeatureValue, Label, LearningRow, Prediction
from streams.core.alike import Alike
from streams.core.decode import LARGEST_INTEGER, Decoded, Fault, too_large_integers
from streams.core.stage import Record
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
from streams.observe.row_keys import key_hashes
from streams.observe.rows import EARLY, WaitingLabel, kind_of, pack_predictions, unpack_waiting
from streams.observe.samples import sample_predictions

_NONE: dict[str, Any] = {}


class _Given(NamedTuple):
    """The rows of one reference among those of a batch; without `positions` all of them."""

    decoded: Decoded[Prediction]
    positions: Sequence[int] | None

    def column(self, name: str) -> Sequence[Any]:
        found = self.decoded.column(name)
        if self.positions is None:
            return found
        return found.pick(self.positions) if isinstance(found, Alike) else [found[at] for at in self.positions]

    def place(self, at: int) -> int:
        return at if self.positions is None else self.positions[at]

    def event(self, at: int) -> Prediction:
        return self.decoded.event(self.place(at))

    def record(self, at: int) -> Record:
        return self.decoded.record(self.place(at))


class PredictionSide:
    """Takes predictions in. A label that waited for its prediction is handed to the outcomes' side."""

    def __init__(self, state: PartitionState, outcomes: OutcomeSide) -> None:
        self.state = state
        self.outcomes = outcomes

    def take(
        self, decoded: Decoded[Prediction], keys: list[bytes], visible: npt.NDArray[np.float64], batch: Batch
    ) -> dict[bytes, int]:
        """Takes them in; returns the positions of those that are no duplicates, by the keys of their rows."""
        known = self.state.rows.rows
        models = decoded.column("model_id")
        taken = dict(zip(keys, range(len(keys)), strict=True))
        duplicates: list[int] = []
        positions: list[int] | None = None
        if len(taken) < len(keys) or not known.keys().isdisjoint(keys):
            taken.clear()
            for at, key in enumerate(keys):
                row = known.get(key)
                if key in taken or (row is not None and kind_of(row) != EARLY):
                    duplicates.append(at)
                else:
                    taken[key] = at
            positions = list(taken.values())
        self.state.count("predictions", len(taken))
        for reference, threshold, some in self._by_reference(models, decoded.column("score"), positions):
            self._of_reference(reference, threshold, some, decoded, keys, visible, batch)
        if duplicates:
            self._duplicates(duplicates, decoded, visible, batch)
        return taken

    def _by_reference(
        self, models: Sequence[str], scores: Sequence[Any], positions: Sequence[int] | None
    ) -> Iterator[tuple[Reference, float, Sequence[int] | None]]:
        """Rows that are measured together: a reference, a threshold, and their positions (None: all, and no row is known)."""
        if positions is None:
            positions = range(len(models))
            first = dict(zip(reversed(models), reversed(positions), strict=True))
            every = True
        else:
            first = dict(zip([models[at] for at in reversed(positions)], reversed(positions), strict=True))
            every = False
        together: dict[tuple[int, float], int] = {}
        references: list[Reference] = []
        group: dict[str, int] = {}
        self._tell_scores(first, models, scores, positions)
        for model_id in sorted(first, key=first.__getitem__):
            reference = self.state.book.get(model_id)
            threshold = self.state.config.model_for(model_id).threshold
            group[model_id] = together.setdefault((id(reference), threshold), len(together))
            if group[model_id] == len(references):
                references.append(reference)
        for number, (_, threshold) in enumerate(together):
            if len(together) > 1:
                yield references[number], threshold, [at for at in positions if group[models[at]] == number]
            else:
                yield references[number], threshold, None if every else positions

    def _tell_scores(
        self, known: Iterable[str], models: Sequence[str], scores: Sequence[Any], positions: Sequence[int]
    ) -> None:
        """The scores of models without a reference say what their task is, before their rows are measured."""
        unknown = {model_id for model_id in known if self.state.book.is_learning(model_id)}
        if unknown:
            for model_id, at in _split(models, [at for at in positions if models[at] in unknown]):
                self.state.book.tell_scores(model_id, [scores[place] for place in at])

    def _duplicates(
        self,
        positions: Sequence[int],
        decoded: Decoded[Prediction],
        visible: npt.NDArray[np.float64],
        batch: Batch,
    ) -> None:
        self.state.count("duplicate_predictions", len(positions))
        known = self.state.combinations
        for at in positions:
            event = decoded.event(at)
            reference = self.state.book.get(event.model_id)
            gather = batch.gather(reference)
            bins = reference.bins_fingerprint
            number = known.number(event.model_id, event.model_version, event.stage, event.segments, bins)
            rows = gather.add_rows(
                np.array([number]), self.state.panes(visible[at : at + 1]), decoded.times[at : at + 1]
            )
            gather.tally.one("duplicate", rows)
            batch.duplicates.append(decoded.record(at))

    def _of_reference(
        self,
        reference: Reference,
        threshold: float,
        positions: Sequence[int] | None,
        decoded: Decoded[Prediction],
        keys: list[bytes],
        visible: npt.NDArray[np.float64],
        batch: Batch,
    ) -> None:
        """`positions` None: all of them, and no row of theirs is known."""
        given = _Given(decoded, positions)
        features = given.column("features")
        if not isinstance(features, Alike) and None in features:
            features = [row or _NONE for row in features]
        columns = measure(reference, given.column("score"), given.column("prediction"), features, threshold)
        faults = self._too_large(reference, columns, features, given)
        if faults:
            batch.faults["predictions"] += faults.values()
            self.state.count("predictions", -len(faults))
            places = range(len(decoded)) if positions is None else positions
            positions = [position for at, position in enumerate(places) if at not in faults]
            if positions:
                self._of_reference(reference, threshold, positions, decoded, keys, visible, batch)
            return
        gather = batch.gather(reference)
        models = given.column("model_id")
        keys = keys if positions is None else [keys[at] for at in positions]
        times = decoded.times if positions is None else decoded.times[positions]
        shown = visible if positions is None else visible[positions]
        panes = self.state.panes(shown)
        combinations = self.state.combinations.numbers(
            models,
            given.column("model_version"),
            given.column("stage"),
            given.column("segments"),
            reference.bins_fingerprint,
        )
        rows = gather.add_rows(combinations, panes, times)
        batch.add_cohorts(combinations, times, shown, 0)
        tally_predictions(gather.tally, columns, rows)
        if columns.unexplained is not None:
            tally_joint(gather.tally, rows, columns.unexplained)
        tally_optional(gather.tally, rows, given.column)
        samplers = partial(self.state.sampler, reference)
        sample_predictions(batch, reference, samplers, key_hashes(keys), columns, times, panes, combinations)
        prints, runtimes = given.column("pipeline_fingerprint"), given.column("runtime")
        if prints.count(None) < len(prints) or runtimes.count(None) < len(runtimes):
            for model_id, at in _split(models, range(len(models))):
                count_schema(batch.apart(model_id).schema_seen, [given.event(place) for place in at])
        odd = odd_rows(columns, reference)
        if len(odd):
            for model_id, at in _split(models, odd.tolist()):
                apart = batch.apart(model_id)
                note_schema(apart.schema_seen, apart.renames, at, given.event, columns, reference)
        learning = {model_id for model_id in dict.fromkeys(models) if self.state.book.is_learning(model_id)}
        if learning:
            for model_id, at in _split(models, [at for at, name in enumerate(models) if name in learning]):
                self._learn(model_id, batch.apart(model_id), given, times, panes, at)
        packed = pack_predictions(
            times, columns.score, columns.predicted, combinations, columns.codes, columns.class_scores
        )
        if positions is None:
            self.state.rows.put_many(keys, packed, times, new=True)
        else:
            self._keep(given.column("request_id"), keys, packed, times, shown, batch)

    def _keep(
        self,
        ids: Sequence[str],
        keys: Sequence[bytes],
        packed: Sequence[bytes],
        times: npt.NDArray[np.float64],
        shown: npt.NDArray[np.float64],
        batch: Batch,
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
            [label.offset for label in labels],
            lambda place: _left_of(ids[places[place]], labels[place]),
            list(range(len(labels))),
        )
        self.outcomes.take_waiting(arrivals, batch)

    def _too_large(
        self,
        reference: Reference,
        columns: Columns,
        features: Sequence[Mapping[str, FeatureValue]],
        given: _Given,
    ) -> dict[int, Fault]:
        """Positions of events with an integer beyond 64 bits. A float of that size is a value like any other."""
        suspects = np.isfinite(columns.score) & (np.abs(columns.score) >= LARGEST_INTEGER)
        suspects |= columns.furthest >= 1e5
        # What the reference knows nothing of is in no column.
        loose = np.flatnonzero(columns.extra) if reference.features else np.arange(len(features))
        if len(loose):
            rows = features.rows() if isinstance(features, Alike) else [row.values() for row in features]
            suspects[[at for at in loose.tolist() if _reaches(rows[at], LARGEST_INTEGER)]] = True
        if reference.task == "multiclass" and not reference.classes:
            scores = given.column("score")
            suspects |= [isinstance(score, Mapping) and _reaches(score.values(), LARGEST_INTEGER) for score in scores]
        at = np.flatnonzero(suspects).tolist()
        if not at:
            return {}
        checked = too_large_integers([given.record(position) for position in at])
        return {position: fault for position, fault in zip(at, checked, strict=True) if fault is not None}

    def _learn(
        self,
        model_id: str,
        apart: Apart,
        given: _Given,
        times: npt.NDArray[np.float64],
        panes: npt.NDArray[np.int64],
        at: Sequence[int],
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


def _split(models: Sequence[str], positions: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
    """Positions by model, each model's in order."""
    by_model: dict[str, list[int]] = {}
    for at in positions:
        by_model.setdefault(models[at], []).append(at)
    yield from by_model.items()
