"""Two models on the same requests: promote, hold or roll back, at any time one cares to look.

Pairing by request id removes what makes requests differ: d = loss of the candidate minus loss of the live model, per
request. The interval on its mean holds at *all* times together, so looking after every batch costs nothing, and
stopping as soon as it is clear is allowed. It assumes bounded differences, and nothing else about their distribution.

How: for each rate r of a grid, exp(r sum(d - mean) - psi(r) V) is a non-negative supermartingale, where V sums the
squared distances of d to a centre known *before* each batch (Fan's inequality); Ville's inequality bounds all of them
together, each with its part of alpha. The centre of a batch is the mean of all earlier ones, so V follows from sums.

Sources: Howard, Ramdas, McAuliffe & Sekhon 2021 (theorem 4); Fan, Grama & Liu 2015; Waudby-Smith & Ramdas 2024.
"""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.errors import BadValues
from detectors.shares import Array, divide

Decision = Literal["promote", "hold", "rollback"]
Better = Literal["lower", "higher"]

# Rates in units of 1 / range: best where V is about 2 ln(1/alpha) / rate^2, from some ten rows to some 10^10
_RATES = 0.8 * 2.0 ** -np.arange(0.0, 16.0)
_PSI = -np.log1p(-_RATES) - _RATES


class PairedSums(NamedTuple):
    """State of one comparison (or of many: arrays of any one shape): rows, sum of d, and V, in d's unit squared."""

    n: Array
    total: Array
    spread: Array


class Interval(NamedTuple):
    """Mean difference and the interval that holds it at all times with probability at least 1 - alpha."""

    mean: Array
    lower: Array
    upper: Array


def start(shape: tuple[int, ...] = ()) -> PairedSums:
    """A comparison that has seen nothing."""
    return PairedSums(np.zeros(shape), np.zeros(shape), np.zeros(shape))


def update(
    state: PairedSums, n: npt.ArrayLike, total: npt.ArrayLike, squares: npt.ArrayLike, low: float, high: float
) -> PairedSums:
    """State after a batch with `n` pairs, sum of d and sum of d^2. Order of batches matters to V, not to validity.

    `low` and `high` bound d: -1 and 1 for 0/1 or Brier losses; a latency or a revenue must be clipped first. Each pair
    enters once: a corrected label is not taken back. BadValues where the sums cannot come from such d.
    """
    rows, d, d2 = (np.asarray(part, dtype=np.float64) for part in (n, total, squares))
    slack = 1e-9 * (np.abs(d) + rows * max(abs(low), abs(high)))
    if not (np.all(np.isfinite(d2)) and np.all((d >= rows * low - slack) & (d <= rows * high + slack))):
        raise BadValues(f"the batch has differences outside [{low}, {high}]")
    centre = np.clip(np.nan_to_num(divide(state.total, state.n)), low, high)
    spread = np.maximum(d2 - 2.0 * centre * d + rows * centre * centre, 0.0)
    return PairedSums(state.n + rows, state.total + d, state.spread + spread)


def confidence_sequence(state: PairedSums, low: float, high: float, alpha: float = 0.05) -> Interval:
    """Interval on the mean difference, valid at every look together. [low, high] while nothing is known."""
    width = high - low
    rates = _RATES / width
    price = np.log(2.0 * _RATES.size / alpha)  # both sides, every rate
    scaled = np.asarray(state.spread)[..., None] / width**2
    reach = ((price + _PSI * scaled) / rates).min(axis=-1)
    radius = divide(reach, state.n)
    mean = divide(state.total, state.n)
    lower = np.clip(np.nan_to_num(mean - radius, nan=low), low, high)
    upper = np.clip(np.nan_to_num(mean + radius, nan=high), low, high)
    return Interval(mean, lower, upper)


def decide(interval: Interval, better: Better, tolerance: float = 0.0) -> npt.NDArray[np.str_]:
    """Each comparison's decision. `better` says which way is good: "lower" for losses and latency, "higher" for lift.

    promote: surely not worse by more than `tolerance` (with 0: surely better). rollback: surely worse by more than
    that. hold: not known yet.
    """
    if better == "lower":
        good, bad = interval.upper < tolerance, interval.lower > tolerance
    else:
        good, bad = interval.lower > -tolerance, interval.upper < -tolerance
    return np.where(good, "promote", np.where(bad, "rollback", "hold"))
