"""Labels of one source partition, and what a prediction and its label count for once they have met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt

from leadline.events import ClassValue, Label
from streams.decode import Decoded, Fault
from streams.gather import Gather
from streams.joining import Arrival, Joiner, Outcomes
from streams.observation import Batch
from streams.partition_state import PartitionState
from streams.reference_files import read_labels
from streams.rows import class_scores, headers
from streams.tally_outcomes import JoinedRows, tally_business, tally_delays, tally_outcomes


class OutcomeSide:
    """Takes labels in, and labels that had waited for the predictions of a batch."""

    def __init__(self, state: PartitionState) -> None:
        self.state = state
        join = state.config.join
        self.joiner = Joiner(state.rows, join.delay_window, join.early_tolerance, self._read_labels, self._business_of)

    @staticmethod
    def came_first(
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

    def take(
        self,
        decoded: Decoded[Label],
        visible: npt.NDArray[np.float64],
        came_first: Sequence[int],
        known_before: Set[str],
        batch: Batch,
    ) -> None:
        origins = np.arange(len(decoded.events))
        origins[list(came_first)] = -1  # as if it had waited: no figure depends on where a batch was cut
        arrivals = [
            Arrival(event.request_id, time, event.label, event.values, when, origin, event.definition_version)
            for event, time, when, origin in zip(
                decoded.events, decoded.times, visible.tolist(), origins.tolist(), strict=True
            )
        ]
        outcomes = Outcomes()
        known = self.state.rows.rows
        for name, at in {decoded.events[at].request_id: at for at in came_first}.items():
            row = known.get(name)
            # A prediction that was rejected leaves no row; one whose label had waited since an earlier batch was counted with it.
            if row is not None and name not in known_before:
                outcomes.events.append(("early", row, float(visible[at]), 1))
        early = len(outcomes.events)
        self.state.count("early", early)
        self.state.count("label_first", early)
        self.joiner.take(arrivals, outcomes)
        self.state.count("labels", len(arrivals))
        self._outcomes(outcomes, batch)
        for at in outcomes.unusable:
            label = decoded.events[at].label
            batch.faults.append(
                Fault(decoded.records[at], "label_unusable", f"{str(label)[:64]!r} is no label of its model's task")
            )

    def take_waiting(self, waiting: Sequence[Arrival], rows: Mapping[str, bytes], batch: Batch) -> None:
        """Labels whose predictions came now: judged as if they came with them. `rows` are the predictions'."""
        self.state.count("early", len({arrival.request_id for arrival in waiting}))
        outcomes = Outcomes()
        outcomes.events += [
            ("early", rows[name], when, 1)
            for name, when in {arrival.request_id: arrival.visible for arrival in waiting}.items()
        ]
        self.joiner.take(waiting, outcomes)
        self._outcomes(outcomes, batch)

    def _read_labels(self, combinations: npt.NDArray[Any], labels: Sequence[ClassValue]) -> npt.NDArray[np.float64]:
        models = np.array(self.state.combinations.model_of, dtype=np.int64)[combinations]
        numbers = np.full(len(labels), np.nan)
        for model in np.unique(models).tolist():
            at = np.flatnonzero(models == model)
            model_id = self.state.combinations.models[model]
            positive = self.state.config.model_for(model_id).positive_label
            numbers[at] = read_labels(
                self.state.book.get(model_id), [labels[position] for position in at.tolist()], positive
            )
        return numbers

    def _business_of(self, combination: int) -> Sequence[str]:
        model_id = self.state.combinations.models[self.state.combinations.model_of[combination]]
        return self.state.book.get(model_id).layout.business

    def _outcomes(self, outcomes: Outcomes, batch: Batch) -> None:
        self.state.count("label_first", outcomes.waiting)
        self.state.count("repeated_labels", outcomes.repeated)
        self.state.count("late_labels", outcomes.late_labels)
        for name, _, _, sign in outcomes.events:
            if name != "early":
                self.state.count(name, sign)
        model_of = np.array(self.state.combinations.model_of, dtype=np.int64)
        if outcomes.events:
            head = headers([row for _, row, _, _ in outcomes.events])
            names = np.array([name for name, _, _, _ in outcomes.events])
            signs = np.array([sign for _, _, _, sign in outcomes.events], dtype=np.int64)
            seen = np.array([when for _, _, when, _ in outcomes.events], dtype=np.float64)
            panes = self.state.panes(seen)
            models = model_of[head["combination"]]
            for model in np.unique(models).tolist():
                of_model = models == model
                gather = batch.gather(self.state.combinations.models[model])
                for name in np.unique(names[of_model]).tolist():
                    at = np.flatnonzero(of_model & (names == name))
                    times = head["time"][at].astype(np.float64)
                    rows = gather.add_rows(head["combination"][at].astype(np.int64), panes[at], times)
                    gather.tally.one(name, rows, signs[at].astype(np.float64))
                    if name == "late":
                        gather.add_cohorts(times, seen[at], 2, signs[at])
        for row, told_at, definition in outcomes.definitions:
            combination = int(headers([row])["combination"][0])
            model_id = self.state.combinations.models[int(model_of[combination])]
            batch.gather(model_id).count_definition(int(told_at // self.state.pane_s), definition)
        if outcomes.rows:
            head = headers(outcomes.rows)
            models = model_of[head["combination"]]
            signs = np.array(outcomes.signs)
            visible, labels, delays = np.array(outcomes.visible), np.array(outcomes.labels), np.array(outcomes.delays)
            self.state.count("joined", int(np.count_nonzero(~np.isnan(delays))))
            for model in np.unique(models).tolist():
                gather = batch.gather(self.state.combinations.models[model])
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
        panes = self.state.panes(visible)
        rows = gather.add_rows(combinations, panes, times)
        score, predicted = head["score"].astype(np.float64), head["predicted"].astype(np.float64)
        score_codes = reference.score.bins.assign(score) if reference.score is not None else None  # type: ignore[arg-type]
        shares = None
        if reference.task == "multiclass" and reference.classes:
            current = self.state.mapping(reference.bins_fingerprint)
            if (head["mapping"] == current).all():
                shares = class_scores([outcomes.rows[position] for position in at], len(reference.classes))
        gather.tally.one("outcomes", rows, sign)
        ages = np.array(outcomes.ages, dtype=np.int64)[at]
        joined = JoinedRows(score, predicted, label, ages, score_codes, shares)
        tally_outcomes(gather.tally, rows, joined, reference, sign)
        if reference.layout.business:
            tally_business(gather.tally, rows, [outcomes.values[position] for position in at.tolist()], sign)
        if sign < 0:
            return
        fresh = np.flatnonzero(~np.isnan(delays))
        if len(fresh):
            gather.tally.one("joined", rows[fresh])
            gather.add_cohorts(times[fresh], visible[fresh], 1)
        tally_delays(gather.tally, rows[fresh], delays[fresh])
