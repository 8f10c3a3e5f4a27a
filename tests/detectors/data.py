"""Adversarial data sets, named and reused. Every one is a 1-D float64 array, a pure function of n and seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def constant(n: int = 2_000, seed: int = 0) -> FloatArray:
    """One value, nothing else."""
    return np.full(n, 0.25)


def all_ties(n: int = 2_000, seed: int = 0) -> FloatArray:
    """Three values, each many times."""
    return np.random.default_rng(seed).choice([0.0, 0.5, 1.0], n)


def one_class(n: int = 2_000, seed: int = 0) -> FloatArray:
    """A label column that holds only the negative class."""
    return np.zeros(n)


def heavy_tail(n: int = 2_000, seed: int = 0) -> FloatArray:
    """Student's t with 1.5 degrees of freedom: a mean, no variance."""
    return np.random.default_rng(seed).standard_t(1.5, n)


def step(n: int = 2_000, seed: int = 0) -> FloatArray:
    """Noise around 0.4 that jumps to 0.6 half way."""
    noise = np.random.default_rng(seed).normal(0.0, 0.1, n)
    return noise + np.where(np.arange(n) < n // 2, 0.4, 0.6)


def ramp(n: int = 2_000, seed: int = 0) -> FloatArray:
    """Noise around a mean that climbs from 0.3 to 0.7."""
    return np.random.default_rng(seed).normal(0.0, 0.1, n) + np.linspace(0.3, 0.7, n)


def uniform(n: int = 2_000, seed: int = 0) -> FloatArray:
    """Nothing special: uniform in [0, 1)."""
    return np.random.default_rng(seed).random(n)


def rare_spike(n: int = 2_000, seed: int = 0) -> FloatArray:
    """Mostly zeros, one row in twenty a positive amount."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(n) < 0.05, rng.lognormal(3.0, 1.0, n), 0.0)


DATA_SETS: Final[dict[str, Callable[..., FloatArray]]] = {
    made.__name__: made for made in (constant, all_ties, one_class, heavy_tail, step, ramp, uniform, rare_spike)
}
PREFIXES: Final = (1, 2, 3, 7, 50, 333, 1_000, 2_000)
