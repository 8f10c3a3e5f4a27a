"""What is watched of the labels themselves: whether they come as they did, and mean what they did."""

from __future__ import annotations

import msgspec

from leadline.config import Rules
from leadline.events import Digest
from streams.judge.incidents import Firing, Where
from streams.judge.label_coverage import CoverageState, LabelCoverage
from streams.judge.label_definition import DefinitionState, LabelDefinitions

EVERYONE = Where(None, "live", None)


class LabelState(msgspec.Struct):
    """What is stored of a model's labels."""

    coverage: CoverageState = msgspec.field(default_factory=CoverageState)
    definitions: DefinitionState = msgspec.field(default_factory=DefinitionState)


class LabelWatch:
    """Of one model; labels are of all its versions together."""

    tests = 2

    def __init__(self, delay_window_s: float, pane_s: float, rules: Rules) -> None:
        self.pane_s, self.rules = pane_s, rules
        self.coverage = LabelCoverage(delay_window_s, rules)
        self.definitions = LabelDefinitions(pane_s, rules)

    def take(self, digest: Digest) -> None:
        self.coverage.take(digest.cohorts)
        self.definitions.take(digest.definitions)

    def advance(self, end: int, alpha: float) -> list[Firing]:
        """Judges what was seen before pane `end`."""
        if not self.coverage.has_news(end * self.pane_s) and not self.definitions.has_news():
            return []
        firings = [
            Firing(EVERYONE, finding, start, when)
            for finding, start, when in self.coverage.advance(end * self.pane_s, alpha)
        ]
        firings += [
            Firing(EVERYONE, finding, start, when) for finding, start, when in self.definitions.advance(end, alpha)
        ]
        disabled = self.rules.disabled
        return [firing for firing in firings if firing.finding.signal not in disabled]

    def save(self) -> LabelState:
        return LabelState(self.coverage.state, self.definitions.state)

    def restore(self, state: LabelState) -> None:
        self.coverage.state, self.definitions.state = state.coverage, state.definitions
