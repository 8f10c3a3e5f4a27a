"""What `soak.py` says of its samples: the slope of memory over events with its error, and a line of blocks to look at."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
BARS = "▁▂▃▄▅▆▇█"
BLOCKS = 12


class Sample(NamedTuple):
    """One look: seconds since the start; events counted, and judged as well; resident memory of the worker and of Redis, bytes."""

    seconds: float
    counted: int
    events: int
    rss: float
    redis: float


class Slope(NamedTuple):
    """`value` of y for one x, with the half-width of its interval at 95 %, from `n` block means."""

    value: float
    error: float
    n: int


def slope(x: Floats, y: Floats, blocks: int = BLOCKS) -> Slope:
    """Least squares over means of `blocks` stretches of equal x.

    Looks that follow each other are alike, so that single samples would promise far too small an error; block means are
    nearly independent, and what is left of their likeness (lag 1) widens the interval. ValueError where fewer than four
    blocks hold samples: the run was too short.
    """
    edges = np.linspace(x.min(), x.max(), blocks + 1)
    at = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, blocks - 1)
    held = np.unique(at)
    if len(held) < 4:
        raise ValueError(f"{len(held)} of {blocks} blocks hold samples: too few for a slope")
    means_x = np.array([x[at == block].mean() for block in held])
    means_y = np.array([y[at == block].mean() for block in held])
    fit = stats.linregress(means_x, means_y)
    residuals = means_y - fit.intercept - fit.slope * means_x
    spread = float(residuals @ residuals)
    likeness = float(residuals[1:] @ residuals[:-1]) / spread if spread > 0 else 0.0
    wider = np.sqrt((1 + likeness) / (1 - likeness)) if 0 < likeness < 1 else 1.0
    error = float(np.nan_to_num(fit.stderr)) * wider * float(stats.t.ppf(0.975, len(held) - 2))
    return Slope(float(fit.slope), error, len(held))


def sparkline(values: Floats, width: int = 60) -> str:
    """The values as a line of blocks, from the least to the greatest; each the mean of its stretch."""
    parts = [part.mean() for part in np.array_split(values, min(width, len(values)))]
    low, high = min(parts), max(parts)
    step = (high - low) / (len(BARS) - 1) or 1.0
    return "".join(BARS[int((part - low) / step)] for part in parts)


def at_shares(samples: list[Sample], shares: int = 10) -> list[Sample]:
    """The first look after each tenth of the events."""
    total = samples[-1].events
    wanted = [total * share / shares for share in range(shares + 1)]
    return [next(sample for sample in samples if sample.events >= want) for want in wanted]
