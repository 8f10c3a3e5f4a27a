"""What a rule is: some signals, how many tests it makes of one span, and its findings in a stack of looks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from streams.rules.finding import Finding
from streams.rules.looks import Looks


class Rule(Protocol):
    """Holds no state between looks."""

    signals: frozenset[str]
    """Every signal that it can find."""
    tests: int
    """How many tests it makes of one look: the false-alarm budget is shared among them."""

    def findings(self, looks: Looks) -> Iterator[tuple[int, Finding]]:
        """(look, finding) of all that pass both doors. What it says of one look comes in an order that does not depend on the others."""
        ...
