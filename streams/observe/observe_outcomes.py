"""Labels of one source partition, and what a prediction and its label count for once they have met."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from leadline.events import ClassValue, Label
from streams.baselines.reference_files import read_labels
from streams.core.decode import Decoded, Fault
from streams.counting.references import Reference
from streams.counting.tally_outcomes import JoinedRows, tally_business, tally_delays, tally_outcomes
from streams.observe.joining import Arrivals, Block, Floats, Joiner, Outcomes
from streams.observe.observation import Batch
from streams.observe.partition_state import PartitionState
from streams.observe.rows import class_scores, headers
from streams.observe.samples import sample_losses

UNUSABLE = "label_unusable"


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
        columns = decoded.columns
        arrivals = Arrivals(
            columns["request_id"],
            np.array(decoded.times),
            columns["label"],
            columns["values"],
            columns["definition_version"],
            visible,
            decoded.records,
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

    def take_waiting(self, waiting: Arrivals, batch: Batch) -> None:
        """Labels whose predictions came now: judged as if they came with them."""
        rows = self.state.rows.rows
        visible = dict(zip(waiting.ids, waiting.visible.tolist(), strict=True))
        self.state.count("early", len(visible))
        outcomes = Outcomes()
        outcomes.events += [("early", rows[name], when, 1) for name, when in visible.items()]
        self.joiner.take(waiting, outcomes)
        self._outcomes(outcomes, batch)

    def _read_labels(self, combinations: npt.NDArray[Any], labels: Sequence[ClassValue]) -> Floats:
        numbers = np.full(len(labels), np.nan)
        for reference, positive, at in self._together(combinations, labelled=True):
            given = labels if at is None else [labels[position] for position in at.tolist()]
            numbers[slice(None) if at is None else at] = read_labels(reference, given, positive)
        return numbers

    def _together(
        self, combinations: npt.NDArray[Any], *, labelled: bool = False
    ) -> Iterator[tuple[Reference, ClassValue | None, npt.NDArray[np.int64] | None]]:
        """Rows whose models share a reference (and, where labels are read, the positive label): their positions, None for all."""
        known = self.state.combinations
        models = known.model_of[combinations]
        first = int(models[0])
        distinct = [first] if (models == first).all() else np.unique(models).tolist()
        found: dict[tuple[int, str], tuple[Reference, ClassValue | None, list[int]]] = {}
        for model in distinct:
            reference = self.state.book.get(known.models[model])
            positive = self.state.config.model_for(known.models[model]).positive_label if labelled else None
            found.setdefault((id(reference), repr(positive)), (reference, positive, []))[2].append(model)
        for reference, positive, members in found.values():
            yield reference, positive, None if len(found) == 1 else np.flatnonzero(np.isin(models, members))

    def _business_of(self, combination: int) -> Sequence[str]:
        known = self.state.combinations
        return self.state.book.get(known.models[known.model_of[combination]]).layout.business

    def _outcomes(self, outcomes: Outcomes, batch: Batch) -> None:
        batch.faults += [
            Fault(record, UNUSABLE, f"{str(label)[:64]!r} is no label of its model's task")
            for record, label in outcomes.unusable
        ]
        self.state.count("label_first", outcomes.waiting)
        self.state.count("repeated_labels", outcomes.repeated)
        self.state.count("late_labels", outcomes.late_labels)
        for name, _, _, sign in outcomes.events:
            if name != "early":
                self.state.count(name, sign)
        if outcomes.events:
            self._count_events(outcomes, batch)
        if outcomes.definitions:
            self._count_definitions(outcomes, batch)
        for block in outcomes.blocks:
            self.state.count("joined", int(np.count_nonzero(~np.isnan(block.delays))))
            for reference, _, at in self._together(block.head["combination"]):
                self._outcomes_of(reference, block if at is None else _part(block, at), batch)

    def _count_definitions(self, outcomes: Outcomes, batch: Batch) -> None:
        known = self.state.combinations
        models = known.model_of[headers([row for row, _, _ in outcomes.definitions])["combination"]]
        panes = self.state.panes(np.array([seen for _, seen, _ in outcomes.definitions]))
        for model, pane, (_, _, name) in zip(models.tolist(), panes.tolist(), outcomes.definitions, strict=True):
            counted = batch.apart(known.models[model]).definitions
            counted[pane, name] = counted.get((pane, name), 0) + 1

    def _count_events(self, outcomes: Outcomes, batch: Batch) -> None:
        every = headers([row for _, row, _, _ in outcomes.events])
        names = np.array([name for name, _, _, _ in outcomes.events])
        signs = np.array([sign for _, _, _, sign in outcomes.events], dtype=np.int64)
        seen = np.array([when for _, _, when, _ in outcomes.events], dtype=np.float64)
        panes = self.state.panes(seen)
        for name in np.unique(names).tolist():
            at = np.flatnonzero(names == name)
            head = every[at]
            for reference, _, some in self._together(head["combination"]):
                part, where = (head, at) if some is None else (head[some], at[some])
                gather = batch.gather(reference)
                times, combinations = part["time"].astype(np.float64), part["combination"].astype(np.int64)
                rows = gather.add_rows(combinations, panes[where], times)
                gather.tally.one(name, rows, signs[where].astype(np.float64))
                if name == "late":
                    batch.add_cohorts(combinations, times, seen[where], 2, signs[where])

    def _outcomes_of(self, reference: Reference, block: Block, batch: Batch) -> None:
        gather = batch.gather(reference)
        head, delays, sign = block.head, block.delays, float(block.sign)
        times = head["time"].astype(np.float64)
        combinations = head["combination"].astype(np.int64)
        panes = self.state.panes(block.visible)
        rows = gather.add_rows(combinations, panes, times)
        score, predicted = head["score"].astype(np.float64), head["predicted"].astype(np.float64)
        if reference.task == "regression" and reference.is_bare:
            # Kept while the scores so far had all looked like probabilities: then the score is what was predicted.
            predicted = np.where(head["mapping"] == self.state.mapping(reference.bins_fingerprint), predicted, score)
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
            batch.add_cohorts(combinations[fresh], times[fresh], block.visible[fresh], 1)
            sample_losses(
                batch,
                reference,
                partial(self.state.sampler, reference),
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
