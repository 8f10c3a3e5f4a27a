"""Capped samples of single values (scores, features, losses) for the sequential detectors of a model's judge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from leadline.events import DigestSample
from streams.combinations import Combinations
from streams.gather import Gather
from streams.measure import Columns
from streams.sampling import NO_LEVEL, Indices, Sampler, row_hashes, to_levels
from streams.value_streams import Kind, loss_range, losses, score_range

Floats = npt.NDArray[np.float64]


def sample_predictions(
    gather: Gather,
    samplers: tuple[Sampler, Sampler],
    known: Combinations,
    ids: Sequence[bytes],
    columns: Columns,
    times: Floats,
    panes: Indices,
    combinations: Indices,
) -> None:
    """Adds the chosen rows' scores, by the first sampler, and their numeric features, by the second. `ids` in UTF-8."""
    reference = gather.reference
    hashes = row_hashes(ids)
    chosen = samplers[0].choose(hashes, panes)
    limits = score_range(reference)
    if limits is not None:
        levels = to_levels(columns.score[chosen], *limits)[None, :]
        _add(gather, known, "score", chosen, hashes, times, combinations, levels)
    numeric = reference.ranged_features
    if not numeric:
        return
    chosen = samplers[1].choose(hashes, panes)
    if not len(chosen):
        return
    table = np.empty((len(numeric), len(chosen)), dtype=np.int64)
    for row, at in enumerate(numeric):
        feature = reference.features[at]
        levels = to_levels(feature.center + feature.scale * columns.z[chosen, at], feature.low, feature.high)
        table[row] = np.where(columns.codes[chosen, at] < feature.bins.ordered, levels, NO_LEVEL)
    _add(gather, known, "features", chosen, hashes, times, combinations, table)


def sample_losses(
    gather: Gather,
    sampler: Sampler,
    known: Combinations,
    keys: Floats,
    predicted: Floats,
    label: Floats,
    visible: Floats,
    panes: Indices,
    combinations: Indices,
) -> None:
    """Adds the chosen joined rows' losses, by the time at which the pair was complete. `keys` [n, k] tell rows apart."""
    limits = loss_range(gather.reference)
    if limits is None:
        return
    hashes = row_hashes([key.tobytes() for key in keys])
    chosen = sampler.choose(hashes, panes)
    levels = to_levels(losses(gather.reference, predicted[chosen], label[chosen]), *limits)[None, :]
    _add(gather, known, "loss", chosen, hashes, visible, combinations, levels)


def _add(
    gather: Gather,
    known: Combinations,
    kind: Kind,
    chosen: Indices,
    hashes: Indices,
    times: Floats,
    combinations: Indices,
    levels: Indices,
) -> None:
    """One sample for each version and stage; `levels` is [streams, chosen]."""
    groups: dict[tuple[str, str], list[int]] = {}
    for position, combination in enumerate(combinations[chosen].tolist()):
        _, version, stage, _ = known.all[combination]
        groups.setdefault((version, stage), []).append(position)
    for (version, stage), members in groups.items():
        picked = chosen[members]
        gather.samples.append(
            DigestSample(
                version, stage, kind, times[picked].tolist(), hashes[picked].tolist(), levels[:, members].tolist()
            )
        )
