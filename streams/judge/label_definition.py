"""Which version of its definition labels name. A new one changes what every outcome figure means: it is said, naming old and new.

No test of a figure is needed, a label says what it is. But single labels may be stamped wrongly: the new version's share since it first
came must matter, and must be more than the labels before it could hide. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from detectors.shares import Estimate, share, upper_limit
from leadline.config import Rules
from streams.core.days import DAY_S
from streams.rules.finding import Finding
from streams.rules.share_rule import LIMIT_ALPHA, share_findings

MAX_NAMES = 50
OTHERS = "(others)"
ACCEPTED_AFTER_S = 86_400.0
"""How long a new version is reported before it is what labels are."""


class DefinitionState(msgspec.Struct):
    """What is stored of a model's label definitions."""

    known: dict[str, int] = {}
    """Versions that labels had been named by, to labels."""
    new: dict[str, tuple[int, int, int]] = {}
    """Version to the pane in which it first came, its labels, and those of all versions since."""
    reported: dict[str, float] = {}
    days: dict[int, dict[str, int]] = {}
    """Labels by UTC day of arrival and version."""
    waiting: list[tuple[int, str, int]] = []


class Renamed(NamedTuple):
    """A finding, and since when; epoch seconds."""

    finding: Finding
    start: float
    end: float


class LabelDefinitions:
    """The definitions that one model's labels name."""

    def __init__(self, pane_s: float, rules: Rules, state: DefinitionState | None = None) -> None:
        self.pane_s = pane_s
        self.rules = rules
        self.state = state or DefinitionState()

    def take(self, entries: Iterable[tuple[int, str, int]]) -> None:
        """Digest entries: (arrival pane, version, labels)."""
        for pane, name, n in entries:
            of_day = self.state.days.setdefault(int(pane * self.pane_s // DAY_S), {})
            told = name if name in of_day or len(of_day) < MAX_NAMES else OTHERS
            of_day[told] = of_day.get(told, 0) + n
            self.state.waiting.append((pane, told, n))

    def has_news(self) -> bool:
        """Whether `advance` would look at anything."""
        return bool(self.state.waiting or self.state.new)

    def advance(self, pane: int, alpha: float) -> list[Renamed]:
        """Takes the labels of panes before `pane` in, and says which versions are new."""
        state = self.state
        if not self.has_news():
            return []
        state.waiting.sort()
        ready = [entry for entry in state.waiting if entry[0] < pane]
        state.waiting = state.waiting[len(ready) :]
        for seen, name, n in ready:
            self._count(seen, name, n)
        return [renamed for name in sorted(state.new) for renamed in self._judge(name, pane, alpha)] if ready else []

    def _count(self, seen: int, name: str, n: int) -> None:
        state = self.state
        before = sum(state.known.values())
        if name in state.known or before + sum(k for _, k, _ in state.new.values()) < self.rules.minimum_rows:
            state.known[name] = state.known.get(name, 0) + n
        elif name not in state.new:
            state.new[name] = (seen, 0, 0)
        for other, (first, k, total) in state.new.items():
            state.new[other] = (first, k + (n if other == name else 0), total + n)

    def _judge(self, name: str, pane: int, alpha: float) -> list[Renamed]:
        state, when = self.state, pane * self.pane_s
        first, k, total = state.new[name]
        old = max(sorted(state.known), key=lambda version: state.known[version])
        limits = (0.0, 0.0, float(upper_limit(0, sum(state.known.values()), LIMIT_ALPHA)))
        subject = f"{old} -> {name}"
        found = list(
            share_findings(
                "label_definition", subject, "schema", k, total, limits, self.rules.schema_rate, math.log(alpha)
            )
        )
        if not found:
            return []
        if when - state.reported.setdefault(name, when) >= ACCEPTED_AFTER_S:
            state.known[name] = state.known.get(name, 0) + k
            del state.new[name], state.reported[name]
            return []
        return [Renamed(finding, first * self.pane_s, when) for finding in found]

    def shares(self, day: int | None = None) -> dict[str, Estimate]:
        """Share of each version among the labels that name one, of a UTC day or of all."""
        totals: dict[str, int] = {}
        for number, counts in sorted(self.state.days.items()):
            if day is None or number == day:
                for name, n in counts.items():
                    totals[name] = totals.get(name, 0) + n
        everything = sum(totals.values())
        return {name: share(n, everything) for name, n in sorted(totals.items())}
