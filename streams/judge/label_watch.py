"""What is watched of the labels themselves: whether they come as they did, and mean what they did."""

from __future__ import annotations

import msgspec

from leadline.config import Rules
from leadline.events import Digest
from streams.judge.incidents import Firing, Where
from streams.judge.label_coverage import CoverageState, LabelCoverage, Shortfall
from streams.judge.label_definition import DefinitionState, LabelDefinitions

EVERYONE = Where(None, "live", None)


class LabelState(msgspec.Struct):
    """What is stored of a model's labels."""

    coverage: CoverageState = msgspec.field(default_factory=CoverageState)
    versions: dict[str, CoverageState] = {}
    alone: str | None = None
    definitions: DefinitionState = msgspec.field(default_factory=DefinitionState)


class LabelWatch:
    """Of one model: whether labels come, of all versions together and, where several serve, of each; and what all of them mean."""

    def __init__(self, delay_window_s: float, pane_s: float, rules: Rules) -> None:
        self.delay_window_s, self.pane_s, self.rules = delay_window_s, pane_s, rules
        self.coverage = LabelCoverage(delay_window_s, rules)
        self.versions: dict[str, LabelCoverage] = {}
        """Empty while there is but one: what is watched of all is then its."""
        self.alone: str | None = None
        """The only version so far; empty: shadows alone."""
        self.definitions = LabelDefinitions(pane_s, rules)

    @staticmethod
    def tests(versions: int) -> int:
        """How many signals a look tests where so many versions serve."""
        return 2 + (versions if versions > 1 else 0)

    def take(self, digest: Digest) -> None:
        names = {version for version, _ in digest.cohort_versions}
        if self.versions or len({*names, self.alone} - {None}) > 1:
            self._split()
            at = 0
            for version, n in digest.cohort_versions:
                if version:
                    self._of(version).take(digest.cohorts[at : at + n])
                at += n
        elif names:
            [self.alone] = names
        self.coverage.take(digest.cohorts)
        self.definitions.take(digest.definitions)

    def _split(self) -> None:
        """What was watched of all until now was the only version's."""
        if self.alone:
            state = msgspec.msgpack.decode(msgspec.msgpack.encode(self.coverage.state), type=CoverageState)
            self._of(self.alone).state = state
        self.alone = None

    def _of(self, version: str) -> LabelCoverage:
        found = self.versions.get(version)
        if found is None:
            found = self.versions[version] = LabelCoverage(self.delay_window_s, self.rules)
        return found

    def advance(self, end: int, alpha: float) -> list[Firing]:
        """Judges what was seen before pane `end`."""
        when = end * self.pane_s
        if not self.coverage.has_news(when) and not self.definitions.has_news():
            return []
        firings = [
            Firing(where, finding, start, until)
            for where, coverages in self._short(when, alpha)
            for finding, start, until in coverages
        ]
        firings += [
            Firing(EVERYONE, finding, start, until) for finding, start, until in self.definitions.advance(end, alpha)
        ]
        disabled = self.rules.disabled
        return [firing for firing in firings if firing.finding.signal not in disabled]

    def _short(self, when: float, alpha: float) -> list[tuple[Where, list[Shortfall]]]:
        """Whose labels fall short: versions' where others' come as they should, else those of all together."""
        whole = self.coverage.advance(when, alpha)
        of_version = {version: coverage.advance(when, alpha) for version, coverage in sorted(self.versions.items())}
        short = [version for version, found in of_version.items() if found]
        others = [version for version in self.versions if version not in short and self.versions[version].expected()]
        if short and others:
            return [(Where(version, "live", None), of_version[version]) for version in short]
        return [(EVERYONE, whole)]

    def save(self) -> LabelState:
        return LabelState(
            self.coverage.state,
            {version: coverage.state for version, coverage in self.versions.items()},
            self.alone,
            self.definitions.state,
        )

    def restore(self, state: LabelState) -> None:
        self.coverage.state, self.definitions.state = state.coverage, state.definitions
        self.alone = state.alone
        for version, of_version in state.versions.items():
            self._of(version).state = of_version
