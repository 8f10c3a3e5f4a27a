"""The capped sample of single scores that the sequential detectors of a model's judge are fed with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from leadline.events import DigestSample
from streams.combinations import Combinations
from streams.gather import Gather
from streams.sampling import Sampler, to_levels


def sample_scores(
    gather: Gather,
    sampler: Sampler,
    known: Combinations,
    ids: Sequence[bytes],
    scores: npt.NDArray[np.float64],
    times: npt.NDArray[np.float64],
    panes: npt.NDArray[np.int64],
    combinations: npt.NDArray[np.int64],
) -> None:
    """Adds the chosen rows' scores to the model's digest, a sample for each version and stage."""
    chosen, order = sampler.choose(ids, panes)
    reference = gather.reference
    if reference.task != "binary" and reference.score is None:
        return  # no range to map into before a baseline is learned
    low, high = (
        (0.0, 1.0)
        if reference.task != "regression" or reference.score is None
        else (reference.score.low, reference.score.high)
    )
    finite = np.isfinite(scores[chosen])
    chosen, order = chosen[finite], order[finite]
    groups: dict[tuple[str, str], list[int]] = {}
    for position, combination in enumerate(combinations[chosen].tolist()):
        _, version, stage, _ = known.all[combination]
        groups.setdefault((version, stage), []).append(position)
    for (version, stage), members in groups.items():
        picked = chosen[members]
        gather.samples.append(
            DigestSample(
                version,
                stage,
                "score",
                times[picked].tolist(),
                order[members].tolist(),
                to_levels(scores[picked], low, high),
            )
        )
