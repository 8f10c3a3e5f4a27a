"""What a stage of the pipeline takes and gives: records in, effects out. No Kafka, no Redis, no Faust, no clock.

The shell (transport, tables, agents, outbox) moves bytes in and commits what comes out; the core (`Observer`, `Judge`) only computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


class Record(NamedTuple):
    """One Kafka message. `timestamp` is the broker's (epoch seconds), used only to judge clocks that cannot be right.

    `line` says, of our own digests alone, which commit sent it (`streams.store.lines`); no stage looks at it.
    """

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: float
    line: bytes | None = None


class Send(NamedTuple):
    """A message to publish after the commit. `partition` None: by Kafka's murmur2 of the key."""

    topic: str
    key: bytes
    value: bytes
    partition: int | None = None


@dataclass(slots=True)
class Effects:
    """What one batch changes. `writes` and `removes` name rows by table and field, `drops` whole tables; `checkpoint` replaces the
    owner's small state. All of it is committed at once with the new offsets, or nothing is."""

    writes: dict[str, dict[bytes, bytes]] = field(default_factory=dict)
    removes: dict[str, list[bytes]] = field(default_factory=dict)
    drops: list[str] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)
    checkpoint: bytes = b""
    views: dict[str, dict[str, str] | str | None] = field(default_factory=dict)
    """What people read: full key to hash fields, to a string, or None to delete. Written after the commit, outside the promise."""


Arrived = Mapping[str, Sequence[Record]]
"""What came for one owner, by source: "predictions" and "labels", or "changes" and "digests". What comes first is taken first."""


class Stage(Protocol):
    """One owner's core. The shell calls, for each batch: `needed`, reads those rows, then `fold`; after a failed commit it throws the
    object away and builds a new one from the store."""

    def needed(self, arrived: Arrived) -> Mapping[str, Sequence[bytes]]:
        """Rows the cache cannot answer: table to fields."""
        ...

    def fold(self, arrived: Arrived, found: Mapping[str, Mapping[bytes, bytes]], now: float) -> Effects:
        """Takes the batch in; without records only the time has passed. `now` is processing time (epoch seconds), used for idleness and
        latency only, never for a figure."""
        ...


class StageFactory(Protocol):
    """Builds the core of one owner from what its last commit wrote. `whole` lists tables that must be loaded in full first."""

    def whole(self, checkpoint: bytes) -> Sequence[str]: ...

    def build(self, partition: int, checkpoint: bytes, tables: Mapping[str, Mapping[bytes, bytes]]) -> Stage: ...
