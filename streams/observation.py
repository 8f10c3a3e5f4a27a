"""What one batch says: while it is taken in (`Batch`), and when it has been (`Observation`)."""

from __future__ import annotations

from dataclasses import dataclass, field

from leadline.events import Digest
from streams.decode import Fault
from streams.gather import Gather
from streams.reference_book import ReferenceBook
from streams.stage import Record


@dataclass(slots=True)
class Observation:
    """Digests in order, faults, and repeated predictions (evidence, not faults); `drops` are tables that expired."""

    digests: list[Digest] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    duplicates: list[Record] = field(default_factory=list)
    drops: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """One batch under way: counts gathered by model, faults and duplicates as they are found."""

    book: ReferenceBook
    gathers: dict[str, Gather] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    duplicates: list[Record] = field(default_factory=list)

    def gather(self, model_id: str) -> Gather:
        """The counts of one model in this batch."""
        found = self.gathers.get(model_id)
        if found is None:
            found = self.gathers[model_id] = Gather(model_id, self.book.get(model_id))
        return found
