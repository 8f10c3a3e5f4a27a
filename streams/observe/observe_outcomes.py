"""Labels of one source partition, and what a prediction and its label count for once they have met."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat

import numpy as np
import numpy.typing as npt

from leadline.events import ClassValue, Label
from streams.baselines.reference_files import read_labels
from streams.core.decoded import Decoded, Fault
from streams.counting.references import Reference
from streams.counting.tally_outcomes import JoinedRows, tally_business, tally_delays, tally_outcomes
from streams.observe.joining import Arrivals, Block, Event, Joiner, Outcomes
from streams.observe.observation import Batch
from streams.observe.partition_state import PartitionState
from streams.observe.rows import Floats, Indices, class_scores, heads
from streams.observe.samples import sample_losses

UNUSABLE = "label_unusable"


class OutcomeSide:
    """Takes labels in, and labels that had waited for the predictions of a batch."""

    def __init__(self, state: PartitionState) -> None:
        self.state = state
        join = state.config.join
        self.joiner = Joiner(
            state.rows, state.pane_s, join.delay_window, join.early_tolerance, self._read_labels, self._business_of
        )

    @staticmethod
    def came_first(
        taken: Mapping[bytes, int],
        keys: Sequence[bytes],
        places: npt.NDArray[np.int64],
        visible: npt.NDArray[np.float64],
    ) -> list[int]:
        """Positions of labels that stand before the prediction of their request, which is of this batch: `taken` has its position,
        `keys` are the labels'.

        Such a pair is complete when its prediction comes: `visible` is changed to say so.
        """
        n = len(places) - len(keys)
        predictions = np.fromiter(map(taken.get, keys, repeat(-1)), np.int64, len(keys))
        at = np.flatnonzero((predictions >= 0) & (places[n:] < places[predictions]))
        visible[n + at] = visible[predictions[at]]
        return at.tolist()

    def take(
        self,
        decoded: Decoded[Label],
        visible: npt.NDArray[np.float64],
        came_first: Sequence[int],
        batch: Batch,
    ) -> None:
        keys = decoded.keys
        arrivals = Arrivals(
            keys,
            decoded.times,
            decoded.column("label"),
            decoded.column("values"),
            decoded.column("definition_version"),
            visible,
            decoded.record,
            range(len(keys)),
        )
        outcomes = Outcomes()
        known = self.state.rows.rows
        for key, at in {keys[at]: at for at in came_first}.items():
            row = known.get(key)
            # A prediction that was rejected leaves no row; one whose label had waited since an earlier batch was counted with it.
            if row is not None and key not in batch.waited:
                outcomes.events.append(Event("early", row, float(visible[at]), 1))
        early = len(outcomes.events)
        self.state.count("early", early)
        self.state.count("label_first", early)
        self.joiner.take(arrivals, outcomes)
        self.state.count("labels", len(keys))
        self._outcomes(outcomes, batch)

    def take_waiting(self, waiting: Arrivals, batch: Batch) -> None:
        """Labels whose predictions came now: judged as if they came with them."""
        rows = self.state.rows.rows
        visible = dict(zip(waiting.keys, waiting.visible.tolist(), strict=True))
        self.state.count("early", len(visible))
        outcomes = Outcomes()
        outcomes.events += [Event("early", rows[key], when, 1) for key, when in visible.items()]
        self.joiner.take(waiting, outcomes)
        self._outcomes(outcomes, batch)

    def _read_labels(self, combinations: Indices, labels: Sequence[ClassValue]) -> Floats:
        numbers = np.full(len(labels), np.nan)
        for reference, positive, at in self._together(combinations, labelled=True):
            given = labels if at is None else [labels[position] for position in at.tolist()]
            numbers[slice(None) if at is None else at] = read_labels(reference, given, positive)
        return numbers

    def _together(
        self, combinations: Indices, *, labelled: bool = False
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
        batch.faults["labels"] += [
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
            for reference, _, at in self._together(block.heads.combination):
                self._outcomes_of(reference, block if at is None else _part(block, at), batch)

    def _count_definitions(self, outcomes: Outcomes, batch: Batch) -> None:
        known = self.state.combinations
        models = known.model_of[heads([row for row, _, _ in outcomes.definitions]).combination]
        panes = self.state.panes(np.array([seen for _, seen, _ in outcomes.definitions]))
        for model, pane, (_, _, name) in zip(models.tolist(), panes.tolist(), outcomes.definitions, strict=True):
            counted = batch.apart(known.models[model]).definitions
            counted[pane, name] = counted.get((pane, name), 0) + 1

    def _count_events(self, outcomes: Outcomes, batch: Batch) -> None:
        every = heads([row for _, row, _, _ in outcomes.events])
        names = np.array([name for name, _, _, _ in outcomes.events])
        signs = np.array([sign for _, _, _, sign in outcomes.events], dtype=np.int64)
        seen = np.array([when for _, _, when, _ in outcomes.events], dtype=np.float64)
        panes = self.state.panes(seen)
        for name in np.unique(names).tolist():
            at = np.flatnonzero(names == name)
            for reference, _, some in self._together(every.combination[at]):
                where = at if some is None else at[some]
                gather = batch.gather(reference)
                times, combinations = every.time[where], every.combination[where]
                rows = gather.add_rows(combinations, panes[where], times)
                gather.tally.one(name, rows, signs[where].astype(np.float64))
                if name == "late":
                    batch.add_cohorts(combinations, times, seen[where], 2, signs[where])

    def _outcomes_of(self, reference: Reference, block: Block, batch: Batch) -> None:
        gather = batch.gather(reference)
        delays, sign, panes = block.delays, float(block.sign), block.panes
        _, _, combinations, times, score, predicted = block.heads
        rows = gather.add_rows(combinations, panes, times)
        known, bins = self.state.combinations, reference.bins_fingerprint
        if reference.task == "regression" and reference.is_bare:
            # Kept while the scores so far had all looked like probabilities: then the score is what was predicted.
            predicted = np.where(known.have_bins(combinations, bins), predicted, score)
        score_codes = reference.score.bins.assign(score) if reference.score is not None else None  # type: ignore[arg-type]
        shares = None
        if reference.task == "multiclass" and reference.classes and known.have_bins(combinations, bins).all():
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
            seen = block.visible[fresh]
            gather.tally.one("joined", rows[fresh])
            batch.add_cohorts(combinations[fresh], times[fresh], seen, 1)
            sample_losses(
                batch,
                reference,
                partial(self.state.sampler, reference),
                np.column_stack([times[fresh], score[fresh]]),
                predicted[fresh],
                block.labels[fresh],
                seen,
                panes[fresh],
                combinations[fresh],
            )
        tally_delays(gather.tally, rows[fresh], delays[fresh])


def _part(block: Block, at: Indices) -> Block:
    places = at.tolist()
    return Block(
        [block.rows[place] for place in places],
        block.heads.at(at),
        block.labels[at],
        block.panes[at],
        block.visible[at],
        [block.values[place] for place in places],
        block.delays[at],
        block.ages[at],
        block.sign,
    )
