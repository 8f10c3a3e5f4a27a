"""What one batch says: while it is taken in (`Batch`), and when it has been (`Observation`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from leadline.events import Digest
from streams.baselines.reference_book import ReferenceBook
from streams.core.decoded import Fault
from streams.core.digest_cells import NO_ENTRIES, Entries, Named
from streams.core.stage import Record
from streams.counting.references import Reference
from streams.counting.tally import Indices
from streams.observe.combinations import Combinations
from streams.observe.gather import COHORT_S, Apart, Gather, digests, distinct_codes


@dataclass(slots=True)
class Observation:
    """Digests in order, faults by source, and repeated predictions (evidence, not faults); `drops` are tables that expired."""

    digests: list[Digest] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    duplicates: list[Record] = field(default_factory=list)
    drops: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """One batch under way: counts gathered by reference, the rest by model, faults and duplicates as they are found."""

    book: ReferenceBook
    combinations: Combinations
    faults: dict[str, list[Fault]]
    duplicates: list[Record] = field(default_factory=list)
    waited: set[bytes] = field(default_factory=set)
    """Keys of predictions whose labels had waited for them."""
    _gathers: dict[int, Gather] = field(default_factory=dict)
    _apart: dict[str, Apart] = field(default_factory=dict)

    def gather(self, reference: Reference) -> Gather:
        """The counts of the models with this reference."""
        found = self._gathers.get(id(reference))
        if found is None:
            found = self._gathers[id(reference)] = Gather(reference)
        return found

    def apart(self, model_id: str) -> Apart:
        """What is told of one model beside its counts."""
        found = self._apart.get(model_id)
        if found is None:
            found = self._apart[model_id] = Apart()
        return found

    def add_cohorts(
        self,
        combinations: Indices,
        times: npt.NDArray[np.float64],
        visible: npt.NDArray[np.float64],
        kind: int,
        signs: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Predictions (0), joined (1) or late (2) of each version, by the quarter hours of the prediction and of what was seen of it."""
        starts, seen = (times // COHORT_S).astype(np.int64), (visible // COHORT_S).astype(np.int64)
        first, first_seen = int(starts.min()), int(seen.min())
        span, width = int(starts.max()) - first + 1, int(seen.max()) - first_seen + 1
        cells = self.combinations.memberships[combinations, 0]
        numbers, inverse = distinct_codes((cells * span + (starts - first)) * width + (seen - first_seen))
        totals = np.bincount(inverse, weights=signs, minlength=len(numbers))
        for code, total in zip(numbers.tolist(), totals.tolist(), strict=True):
            rest, when = divmod(code, width)
            number, start = divmod(rest, span)
            cell = self.combinations.cells[number]
            version = cell.version if cell.stage != "shadow" else ""
            key = (version, (start + first) * COHORT_S, (when + first_seen) * COHORT_S)
            self.apart(cell.model_id).cohorts.setdefault(key, [0, 0, 0])[kind] += int(total)

    def digests(self, source: int, sequence: int, clock: float, sent_at: float) -> Iterator[Digest]:
        """The batch's messages, by model; numbered from `sequence` on."""
        counted: dict[str, tuple[Reference, list[Named], Entries]] = {}
        for gather in self._gathers.values():
            for model_id, names, entries in gather.cells(self.combinations):
                counted[model_id] = gather.reference, names, entries
        for model_id in sorted({*counted, *self._apart}):
            reference, names, entries = counted.get(model_id) or (self.book.get(model_id), [], NO_ENTRIES)
            said = digests(
                reference, model_id, names, entries, self.apart(model_id), (source, clock, sent_at), sequence
            )
            for digest in said:
                yield digest
                sequence = digest.sequence + 1
