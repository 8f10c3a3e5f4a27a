"""What the sequential detectors compare with: the reference's mean and spread of the values that they are fed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from leadline.config import Rules
from streams.baselines.reference_files import build_reference
from streams.counting.value_streams import value_streams

Draw = Callable[[np.random.Generator, int], npt.NDArray[np.float64]]
KINDS: dict[str, Draw] = {
    "yes or no": lambda rng, n: (rng.random(n) < 0.37).astype(np.float64),
    "rare yes": lambda rng, n: (rng.random(n) < 0.02).astype(np.float64),
    "count": lambda rng, n: rng.poisson(2.5, n).astype(np.float64),
    "mostly nothing": lambda rng, n: (rng.poisson(2.5, n) * (rng.random(n) < 0.4)).astype(np.float64),
    "whole days": lambda rng, n: np.minimum(rng.geometric(0.25, n), 30).astype(np.float64),
    "normal": lambda rng, n: rng.normal(60.0, 15.0, n),
    "heavy tail": lambda rng, n: 200.0 * (1.0 + rng.pareto(2.5, n)),
    "rating": lambda rng, n: rng.choice([1.0, 2.0, 5.0], n, p=[0.2, 0.5, 0.3]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_streams_mean_is_that_of_the_clipped_values(kind: str) -> None:
    values = KINDS[kind](np.random.default_rng(3), 3000)
    reference = build_reference({"x": values.tolist()})
    (stream,) = value_streams(reference, Rules())["features"]
    fed = (np.clip(values, stream.low, stream.high) - stream.low) / (stream.high - stream.low)
    # Far within the half of a standard deviation that is no news.
    assert stream.mean == pytest.approx(fed.mean(), abs=0.05 * fed.std())
    assert stream.sd == pytest.approx(fed.std(), rel=0.1)
