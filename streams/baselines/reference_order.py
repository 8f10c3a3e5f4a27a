"""What the order of training rows says: where they stand in order of time, rows near each other may be alike.

Shuffled rows say that all are independent, and so does a file that is too short. What is found is the best guess of a judge that has not
seen spans of its own yet.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.dependence import GATE, LEAST_SPANS, variation
from streams.counting.layout import Vector
from streams.counting.log_bins import slower_than
from streams.counting.references import Reference
from streams.counting.tracked import Key, Tracked, excess_of

BLOCK_ROWS = 32


def order_variation(reference: Reference, blocks: Sequence[Vector]) -> dict[Key, list[tuple[int, float]]]:
    """Of each statistic whose rows depend on each other: (rows in a row, what they have in common, as a share of the variance of one).

    `blocks` are vectors of 32 rows each, in order; runs of 64, 128, ... are their sums.
    """
    everything = reference.cell(None)
    if everything is None or len(blocks) < LEAST_SPANS:
        return {}
    tracked = Tracked(reference, slower_than(reference.layout.part(everything, "latency"), 0.99), 1.0)
    usual = tracked.table(everything)
    runs, rows = list(blocks), BLOCK_ROWS
    found: list[tuple[int, np.ndarray]] = []
    surest = np.zeros(len(tracked.keys) - len(usual.rankings))
    while len(runs) >= LEAST_SPANS:
        excess = [excess_of(tracked.table(run), usual, True) for run in runs]
        of_rows = variation(
            np.stack([one.value for one in excess], axis=1), np.stack([one.rare for one in excess], axis=1)
        )
        found.append((rows, of_rows.rho))
        surest = np.minimum(surest, of_rows.log_p)
        runs, rows = [one + other for one, other in zip(runs[::2], runs[1::2], strict=False)], 2 * rows
    dependent = np.flatnonzero(surest <= np.log(GATE / len(found)))
    return {
        tracked.keys[at]: [(rows, float(rho[at])) for rows, rho in found if not np.isnan(rho[at])]
        for at in dependent.tolist()
    }
