"""Capped samples of single values (scores, features, losses) for the sequential detectors of a model's judge."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from leadline.events import DigestSample
from streams.counting.measure import Columns
from streams.counting.references import Reference
from streams.counting.sampling import NO_LEVEL, Indices, Sampler, mixed_hashes, to_levels
from streams.counting.value_streams import Kind, loss_range, losses, score_range
from streams.observe.gather import distinct_codes
from streams.observe.observation import Batch

Floats = npt.NDArray[np.float64]
Samplers = Callable[[str, Kind], Sampler]


class Chooser:
    """Which rows of a batch are told, model by model: `samplers` gives each model's sampler of a kind."""

    def __init__(
        self, batch: Batch, samplers: Samplers, hashes: Indices, panes: Indices, combinations: Indices
    ) -> None:
        self.batch = batch
        self.samplers = samplers
        self.hashes, self.panes, self.combinations = hashes, panes, combinations
        models = batch.combinations.model_of[combinations]
        names = batch.combinations.models
        self.by_model: list[tuple[str, Indices | None]] = [(names[models[0]], None)]
        if (models != models[0]).any():
            order = np.argsort(models, kind="stable")
            parts = np.split(order, np.flatnonzero(np.diff(models[order])) + 1)
            self.by_model = [(names[models[part[0]]], part) for part in parts]

    def choose(self, kind: Kind) -> Indices:
        """Positions of the rows to tell, model after model."""
        chosen: list[Indices] = []
        for model_id, at in self.by_model:
            sampler = self.samplers(model_id, kind)
            mine = slice(None) if at is None else at
            some = sampler.choose(self.hashes[mine], self.panes[mine])
            chosen.append(some if at is None else at[some])
        return np.concatenate(chosen)

    def tell(self, kind: Kind, chosen: Indices, times: Floats, levels: Indices) -> None:
        """One sample for each model, version and stage, in order of first appearance; `levels` is [streams, chosen]."""
        if not len(chosen):
            return
        known = self.batch.combinations.all
        distinct, place = distinct_codes(self.combinations[chosen])
        served: dict[tuple[str, str, str], int] = {}
        group = np.array([served.setdefault(known[number][:3], len(served)) for number in distinct.tolist()])[place]
        order = np.argsort(group, kind="stable")
        starts = np.flatnonzero(np.diff(group[order], prepend=-1))
        ends = np.append(starts[1:], len(order)).tolist()
        rows = chosen[order]
        stamps, hashes, values = times[rows].tolist(), self.hashes[rows].tolist(), levels[:, order]
        names = list(served)
        for number in np.argsort(order[starts], kind="stable").tolist():
            model_id, version, stage = names[number]
            begin, end = int(starts[number]), ends[number]
            told = values[:, begin:end].tolist()
            sample = DigestSample(version, stage, kind, stamps[begin:end], hashes[begin:end], told)
            self.batch.apart(model_id).samples.append(sample)


def sample_predictions(
    batch: Batch,
    reference: Reference,
    samplers: Samplers,
    hashes: Indices,
    columns: Columns,
    times: Floats,
    panes: Indices,
    combinations: Indices,
) -> None:
    """Adds the chosen rows' scores, and by samplers of their own their numeric features. `hashes` [n] of 32 bits
    choose them."""
    chooser = Chooser(batch, samplers, hashes, panes, combinations)
    chosen = chooser.choose("score")
    limits = score_range(reference)
    if limits is not None:
        chooser.tell("score", chosen, times, to_levels(columns.score[chosen], *limits)[None, :])
    numeric = reference.ranged_features
    if not numeric:
        return
    chosen = chooser.choose("features")
    ranges = [reference.features[at] for at in numeric]
    center, scale, low, high, ordered = np.array(
        [(each.center, each.scale, each.low, each.high, each.bins.ordered) for each in ranges]
    ).T[:, :, None]
    places = np.ix_(chosen, np.array(numeric))
    levels = to_levels(center + scale * columns.z[places].T, low, high)
    chooser.tell("features", chosen, times, np.where(ordered > columns.codes[places].T, levels, NO_LEVEL))


def sample_losses(
    batch: Batch,
    reference: Reference,
    samplers: Samplers,
    keys: Floats,
    predicted: Floats,
    label: Floats,
    visible: Floats,
    panes: Indices,
    combinations: Indices,
) -> None:
    """Adds the chosen joined rows' losses, by the time at which the pair was complete. `keys` [n, k] tell rows apart."""
    limits = loss_range(reference)
    if limits is None:
        return
    chooser = Chooser(batch, samplers, mixed_hashes(keys), panes, combinations)
    chosen = chooser.choose("loss")
    levels = to_levels(losses(reference, predicted[chosen], label[chosen]), *limits)[None, :]
    chooser.tell("loss", chosen, visible, levels)
