"""Worlds in which rows depend on each other: nothing is wrong in them, and yet one hour is not like the next.

`daily`: patients of the night are not those of the day. `weather`: values that wander for hours around their mean. `bursts`: a quarter of
the rows come in batches of one customer, whose patients are alike. `iid`: every row is drawn by itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Features = dict[str, npt.NDArray[Any]]

WORLDS = ("iid", "daily", "weather", "bursts")
DAY_S = 86_400.0
GRID_S = 600.0
MEMORY_S = 6 * 3600.0  # of the weather: after so long 1 / e is left of what it was
BURST_ROWS = 32
BURST_S = 900.0
BURST_SHARE = 0.25
CUSTOMERS = 6


def daily(time: Floats, features: Features, rng: np.random.Generator) -> None:
    """Means that swing by 0.35 to 0.6 deviations to either side, and a mix of departments that is another by night."""
    phase = 2 * np.pi * time / DAY_S
    features["age"] += 9.0 * np.sin(phase)
    features["pressure"] += 8.0 * np.sin(phase + 1.0)
    features["lactate"] *= 1.0 + 0.35 * np.sin(phase - 1.0)
    night = (np.sin(phase) < -0.5) & (rng.random(len(time)) < 0.5)
    features["department"][night] = "d00"


def weather(time: Floats, features: Features, rng: np.random.Generator) -> None:
    """Means of three features that wander as an AR(1) of six hours, 0.6 deviations wide."""
    for name, width, low, high in (
        ("pressure", 10.0, -np.inf, np.inf),
        ("glucose", 20.0, -np.inf, np.inf),
        ("ratio", 0.1, 0.0, 1.0),
    ):
        steps = int((time[-1] - time[0]) // GRID_S) + 2
        keeps = np.exp(-GRID_S / MEMORY_S)
        shocks = rng.normal(0.0, np.sqrt(1.0 - keeps**2), steps)
        path = np.empty(steps)
        path[0] = rng.normal()
        for at in range(1, steps):
            path[at] = keeps * path[at - 1] + shocks[at]
        at = ((time - time[0]) // GRID_S).astype(np.int64)
        features[name] = np.clip(features[name] + width * path[at], low, high)


def gather(time: Floats, rng: np.random.Generator) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Times of which a quarter come in bursts, in order, and the customer of each row (-1: none)."""
    n = len(time)
    bursts = max(int(n * BURST_SHARE / BURST_ROWS), 1)
    begins = rng.choice(time, bursts)
    at = np.sort(rng.choice(n, bursts * BURST_ROWS, replace=False))
    times, customers = time.copy(), np.full(n, -1, dtype=np.int64)
    times[at] = np.repeat(begins, BURST_ROWS) + rng.uniform(0.0, BURST_S, len(at))
    customers[at] = np.repeat(rng.integers(0, CUSTOMERS, bursts), BURST_ROWS)
    times = np.minimum(times, time[-1])
    order = np.argsort(times, kind="stable")
    return times[order], customers[order]


def bursts(customers: npt.NDArray[np.int64], segments: dict[str, npt.NDArray[np.str_]], features: Features) -> None:
    """Rows of one customer are alike: a quarter of the spread, one insurer, one site and tier. Customers are the same in every log."""
    rng = np.random.default_rng(11)
    sites, tiers = sorted(set(segments["site"])), sorted(set(segments["tier"]))
    for customer in range(CUSTOMERS):
        age, pressure = rng.normal(60.0, 13.0), rng.normal(128.0, 15.0)
        site, tier, insurer = rng.integers(len(sites)), rng.integers(len(tiers) - 1), rng.integers(8)
        rows = customers == customer
        features["age"][rows] = age + (features["age"][rows] - 60.0) / 4
        features["pressure"][rows] = pressure + (features["pressure"][rows] - 128.0) / 4
        features["insurer"][rows] = f"i{insurer:02d}"
        segments["site"][rows] = sites[site]
        segments["tier"][rows] = tiers[tier]


def move(
    world: str,
    time: Floats,
    customers: npt.NDArray[np.int64],
    segments: dict[str, npt.NDArray[np.str_]],
    features: Features,
    rng: np.random.Generator,
) -> None:
    """Lays a world over rows that were drawn one by one. Of `iid` nothing is drawn: its logs stay what they were."""
    if world == "daily":
        daily(time, features, rng)
    elif world == "weather":
        weather(time, features, rng)
    elif world == "bursts":
        bursts(customers, segments, features)
