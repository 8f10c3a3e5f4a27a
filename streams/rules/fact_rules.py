"""Signals that need no statistics: NaN or infinity in a layer of the network. One row is a fact, whatever the budget."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from leadline.config import Limits, Rules
from streams.counting.layout import Layout, Vector
from streams.rules.finding import Finding, found
from streams.rules.looks import Looks

FACTS = frozenset({"layer_nan", "layer_inf"})
FACT = Limits(warn=1e-6, critical=1e-6)  # any share of rows is critical


class FactRules:
    """Which slots must stay empty, and what it means where they do not."""

    signals = FACTS
    tests = 0  # a fact needs no budget

    def __init__(self, layout: Layout, rules: Rules) -> None:
        named: list[tuple[str, str, str | None]] = [("probe_nan", "layer_nan", None), ("probe_inf", "layer_inf", None)]
        for layer in layout.probes:
            named += [(f"nan:{layer}", "layer_nan", f"layer.{layer}"), (f"inf:{layer}", "layer_inf", f"layer.{layer}")]
        kept = [item for item in named if item[1] not in rules.disabled]
        self.named = [(signal, subject) for _, signal, subject in kept]
        self.slots = np.array([layout.offset(section) for section, _, _ in kept], dtype=np.int64)
        self.ends = np.array(
            [min(self.slots.tolist(), default=0), max(self.slots.tolist(), default=0) + 1], dtype=np.int32
        )
        """All of them lie between these two slots: almost no pane has anything there."""

    def findings(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        """Of whole vectors."""
        counted = looks.vectors[:, self.slots]
        for at in np.flatnonzero((counted > 0).any(axis=1)).tolist():
            for finding in self._found(counted[at], float(looks.rows[at])):
                yield at, finding

    def of_vector(self, vector: Vector) -> Iterator[Finding]:
        """Of one vector, whatever its rows."""
        yield from self._found(vector[self.slots], 1.0)

    def of_block(self, slots: npt.NDArray[np.int32], values: npt.NDArray[np.float64], rows: float) -> Iterator[Finding]:
        """Of the non-zero slots of a pane, ascending."""
        if not len(self.slots):
            return
        first, last = slots.searchsorted(self.ends).tolist()
        if first == last:
            return
        at = np.minimum(slots.searchsorted(self.slots), len(slots) - 1)
        there = slots[at] == self.slots
        if there.any():
            yield from self._found(np.where(there, values[at], 0.0), rows)

    def _found(self, counted: Vector, rows: float) -> Iterator[Finding]:
        for at in np.flatnonzero(counted > 0).tolist():
            signal, subject = self.named[at]
            share = min(float(counted[at]) / max(rows, 1.0), 1.0)
            yield found(signal, subject, "model", share, 0.0, rows, FACT, 0.0, -math.inf, share)
