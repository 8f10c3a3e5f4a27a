"""What a judge knows beside counts: names that services published, and which unknown feature looks like a missing one. For people."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from detectors.divergence import psi_debiased
from leadline.events import Digest
from streams.counting.figure import subject_of
from streams.counting.layout import PIPELINE_SLOTS, RUNTIME_SLOTS, Vector
from streams.counting.optional_fields import hashed
from streams.counting.references import Reference
from streams.counting.schema_notes import RENAME
from streams.judge.incidents import Where
from streams.rules.finding import Finding

MAX_NAMES = 200  # of one version
LEAST_VALUES, ALIKE = (
    20,
    0.25,
)  # a renamed feature: so many values, and a PSI against the missing one's reference below this
SHOWN = 5


class Notes:
    """Names of one model, by version. `seen` and `renames` are its whole state."""

    def __init__(
        self, seen: dict[str, dict[str, int]] | None = None, renames: dict[str, list[int]] | None = None
    ) -> None:
        self.seen: dict[str, dict[str, int]] = seen if seen is not None else {}
        self.renames: dict[str, list[int]] = renames if renames is not None else {}

    def take(self, digest: Digest) -> None:
        """Adds what a digest says; names beyond a bound are left out."""
        for version, names in digest.schema_seen.items():
            of_version = self.seen.setdefault(version, {})
            for name, n in names.items():
                if name in of_version or len(of_version) < MAX_NAMES:
                    of_version[name] = of_version.get(name, 0) + n
        for pair, counts in digest.renames.items():
            held = self.renames.get(pair)
            if held is not None and len(held) == len(counts):
                self.renames[pair] = [a + b for a, b in zip(held, counts, strict=True)]
            elif held is None and len(self.renames) < MAX_NAMES:
                self.renames[pair] = list(counts)

    def detail(self, finding: Finding, where: Where, reference: Reference, baseline: Vector | None) -> str | None:
        """In words: which names a finding is about."""
        if finding.detail:
            return finding.detail
        if finding.signal == "absent_rate":
            became = self._renamed(finding.subject, reference)
            return f"renamed {finding.subject} -> {became}" if became is not None else None
        if finding.signal == "extra_feature_rate":
            return self._named("unknown ", where, "unknown: ")
        if finding.signal == "invalid_rate" and finding.subject is not None:
            return self._named(f"type {finding.subject}: ", where, "comes as ")
        if finding.signal in ("pipeline_fingerprint", "runtime_version") and baseline is not None:
            section, slots = ("pipeline", PIPELINE_SLOTS) if finding.signal[0] == "p" else ("runtime", RUNTIME_SLOTS)
            known = reference.layout.part(baseline, section) > 0
            return self._named(f"{section} ", where, "", lambda name: not known[hashed(name, slots)])
        return None

    def _named(
        self, kind: str, where: Where, words: str, chosen: Callable[[str], bool] = lambda name: True
    ) -> str | None:
        """The names of a kind in the versions of a cell."""
        found = {
            name.removeprefix(kind)
            for version, names in self.seen.items()
            if where.version is None or where.version == version
            for name in names
            if name.startswith(kind)
        }
        # In order of name: how often each was noted depends on how batches were cut.
        shown = sorted(name for name in found if chosen(name))
        if not shown:
            return None
        return words + ", ".join(shown[:SHOWN]) + (f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else "")

    def _renamed(self, missing: str | None, reference: Reference) -> str | None:
        """The unknown feature whose values lie as the missing one's did, where there is one."""
        place = next((at for at, feature in enumerate(reference.features) if subject_of(feature.name) == missing), None)
        everything = reference.cell(None)
        if place is None or everything is None:
            return None
        feature = reference.features[place]
        codes = np.rint(reference.layout.part(everything, f"feature:{feature.name}")).astype(np.int64)
        base = np.bincount(feature.groups, weights=codes, minlength=feature.group_count).astype(np.int64)
        alike: list[tuple[float, str]] = []
        for pair, counts in self.renames.items():
            name, _, unknown = pair.partition(RENAME)
            if name == feature.name and len(counts) == len(base) and sum(counts) >= LEAST_VALUES:
                distance = float(psi_debiased(np.array(counts, dtype=np.int64), base))
                if distance < ALIKE:
                    alike.append((distance, unknown))
        return min(alike)[1] if alike else None
