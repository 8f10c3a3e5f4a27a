"""Labels of one source partition, and what a prediction and its label count for once they have met."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt

from leadline.events import ClassValue, Label
from streams.decode import Decoded, Fault
from streams.gather import Gather
from streams.joining import Arrivals, Block, Joiner, Outcomes
from streams.observation import Batch
from streams.partition_state import PartitionState
from streams.reference_files import read_labels
from streams.rows import class_scores, headers
from streams.samples import sample_losses
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
        columns = decoded.columns
        arrivals = Arrivals(
            columns["request_id"],
            np.array(decoded.times),
            columns["label"],
            columns["values"],
            columns["definition_version"],
            visible,
            origins,
        )
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
        self.state.count("labels", len(arrivals.ids))
        self._outcomes(outcomes, batch)
        for at in outcomes.unusable:
            label = decoded.events[at].label
            batch.faults.append(
                Fault(decoded.records[at], "label_unusable", f"{str(label)[:64]!r} is no label of its model's task")
            )

    def take_waiting(self, waiting: Arrivals, batch: Batch) -> None:
        """Labels whose predictions came now: judged as if they came with them."""
        rows = self.state.rows.rows
        visible = dict(zip(waiting.ids, waiting.visible.tolist(), strict=True))
        self.state.count("early", len(visible))
        outcomes = Outcomes()
        outcomes.events += [("early", rows[name], when, 1) for name, when in visible.items()]
        self.joiner.take(waiting, outcomes)
        self._outcomes(outcomes, batch)

    def _read_labels(self, combinations: npt.NDArray[Any], labels: Sequence[ClassValue]) -> npt.NDArray[np.float64]:
        numbers = np.full(len(labels), np.nan)
        for model_id, at in self._by_model(combinations):
            positive = self.state.config.model_for(model_id).positive_label
            given = labels if at is None else [labels[position] for position in at.tolist()]
            numbers[slice(None) if at is None else at] = read_labels(self.state.book.get(model_id), given, positive)
        return numbers

    def _business_of(self, combination: int) -> Sequence[str]:
        known = self.state.combinations
        return self.state.book.get(known.models[known.model_of[combination]]).layout.business

    def _outcomes(self, outcomes: Outcomes, batch: Batch) -> None:
        self.state.count("label_first", outcomes.waiting)
        self.state.count("repeated_labels", outcomes.repeated)
        self.state.count("late_labels", outcomes.late_labels)
        for name, _, _, sign in outcomes.events:
            if name != "early":
                self.state.count(name, sign)
        if outcomes.events:
            self._count_events(outcomes, batch)
        for row, seen, definition in outcomes.definitions:
            known = self.state.combinations
            model_id = known.models[known.model_of[int(headers([row])["combination"][0])]]
            batch.gather(model_id).count_definition(int(seen // self.state.pane_s), definition)
        for block in outcomes.blocks:
            self.state.count("joined", int(np.count_nonzero(~np.isnan(block.delays))))
            for model, at in self._by_model(block.head["combination"]):
                gather = batch.gather(model)
                self._outcomes_of(gather, block if at is None else _part(block, at))

    def _by_model(self, combinations: npt.NDArray[Any]) -> Iterator[tuple[str, npt.NDArray[np.int64] | None]]:
        """Each model with the positions of its rows, None for all of them."""
        known = self.state.combinations
        models = known.model_of[combinations]
        if (models == models[0]).all():
            yield known.models[models[0]], None
            return
        for model in np.unique(models).tolist():
            yield known.models[model], np.flatnonzero(models == model)

    def _count_events(self, outcomes: Outcomes, batch: Batch) -> None:
        head = headers([row for _, row, _, _ in outcomes.events])
        names = np.array([name for name, _, _, _ in outcomes.events])
        signs = np.array([sign for _, _, _, sign in outcomes.events], dtype=np.int64)
        seen = np.array([when for _, _, when, _ in outcomes.events], dtype=np.float64)
        panes = self.state.panes(seen)
        models = self.state.combinations.model_of[head["combination"]]
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

    def _outcomes_of(self, gather: Gather, block: Block) -> None:
        reference = gather.reference
        head, delays, sign = block.head, block.delays, float(block.sign)
        times = head["time"].astype(np.float64)
        combinations = head["combination"].astype(np.int64)
        panes = self.state.panes(block.visible)
        rows = gather.add_rows(combinations, panes, times)
        score, predicted = head["score"].astype(np.float64), head["predicted"].astype(np.float64)
        score_codes = reference.score.bins.assign(score) if reference.score is not None else None  # type: ignore[arg-type]
        shares = None
        if reference.task == "multiclass" and reference.classes:
            current = self.state.mapping(reference.bins_fingerprint)
            if (head["mapping"] == current).all():
                shares = class_scores(block.rows, len(reference.classes))
        gather.tally.one("outcomes", rows, sign)
        joined = JoinedRows(score, predicted, block.labels, block.ages, score_codes, shares)
        tally_outcomes(gather.tally, rows, joined, reference, sign)
        if reference.layout.business:
            tally_business(gather.tally, rows, block.values, sign)
        if sign < 0:
            return
        fresh = np.flatnonzero(~np.isnan(delays))
        if len(fresh):
            gather.tally.one("joined", rows[fresh])
            gather.add_cohorts(times[fresh], block.visible[fresh], 1)
            sample_losses(
                gather,
                self.state.sampler(reference, gather.model_id, "loss"),
                self.state.combinations,
                np.column_stack([times[fresh], score[fresh]]),
                predicted[fresh],
                block.labels[fresh],
                block.visible[fresh],
                panes[fresh],
                combinations[fresh],
            )
        tally_delays(gather.tally, rows[fresh], delays[fresh])


def _part(block: Block, at: npt.NDArray[np.int64]) -> Block:
    places = at.tolist()
    return Block(
        [block.rows[place] for place in places],
        block.head[at],
        block.labels[at],
        block.visible[at],
        [block.values[place] for place in places],
        block.delays[at],
        block.ages[at],
        block.sign,
    )
