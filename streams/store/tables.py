"""The durable state of owners: claims, rows, offsets and unsent messages, changed together or not at all.

An owner is one source partition (`observe`) or one partition of digests (`judge`). Whoever claims it gets a new fence
token; a commit carries the token and the offsets that it believes in, and is refused when either is not what the store
holds. Two stores keep this contract: `tables_memory` (tests, one process) and `tables_redis`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from streams.core.stage import Effects, Send

Kind = Literal["observe", "judge"]
View = dict[str, str] | str | None
Rows = dict[bytes, bytes]


class Owner(NamedTuple):
    """Whose state it is."""

    kind: Kind
    partition: int

    @property
    def tag(self) -> str:
        """Redis Cluster hash tag: every key of one owner lies in one slot."""
        return f"{self.kind[0]}:{self.partition}"

    def __str__(self) -> str:
        return f"{self.kind}/{self.partition}"


class Outgoing(NamedTuple):
    """A message that a commit owes to Kafka. `sequence` orders one owner's; `id` is the same in every resend.

    `line` is the fence of the commit: with `sequence` it tells whether the store still knows that commit.
    """

    sequence: int
    id: str
    send: Send
    line: str = ""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim found. `known`: a commit of this owner was ever stored. `offsets`: topic to next offset."""

    fence: str
    known: bool
    offsets: dict[str, int]
    checkpoint: bytes
    sequence: int
    outbox: list[Outgoing]


class Outcome(enum.Enum):
    COMMITTED = "committed"
    FENCED = "fenced"  # somebody else has claimed the owner since
    MISMATCH = "mismatch"  # the stored offsets are not those that the batch continues


@dataclass(frozen=True, slots=True)
class Change:
    """One commit. `expected` and `offsets` name the same topics; `expected` None: the topic has no offset yet."""

    fence: str
    expected: Mapping[str, int | None]
    offsets: Mapping[str, int]
    effects: Effects = field(default_factory=Effects)
    outbox: Sequence[Outgoing] = ()


class StoreError(Exception):
    """The store of the tables failed; `reason` is the metric label."""

    reason = "store"


class StoreUnavailable(StoreError):
    """No answer, so whether a commit happened is unknown: claim again and see."""

    reason = "store_unavailable"


class StoreMisconfigured(StoreError):
    """The store would lose rows by its configuration: the worker must not start on it."""

    reason = "store_misconfigured"


class Tables(Protocol):
    """A store of owners' state. Every method may raise `StoreUnavailable`."""

    async def start(self) -> None:
        """Connect and check the configuration (`StoreMisconfigured`)."""
        ...

    async def close(self) -> None: ...

    async def claim(self, owner: Owner) -> Claimed:
        """Take the owner over: every earlier fence token of it is void from now on."""
        ...

    async def holds(self, owner: Owner, fence: str, offsets: Mapping[str, int] | None = None) -> bool:
        """Whether `fence` is still the owner's latest, and the store stands at `offsets`: one that went back does not."""
        ...

    async def read(self, owner: Owner, wanted: Mapping[str, Sequence[bytes]]) -> dict[str, Rows]:
        """The rows that exist among `wanted` (table to fields)."""
        ...

    async def load(self, owner: Owner, tables: Sequence[str]) -> dict[str, Rows]:
        """Whole tables."""
        ...

    async def lines(self, owner: Owner, fences: Sequence[str]) -> dict[str, int]:
        """Fence to the last message committed under it; a fence under which none is known is left out."""
        ...

    async def commit(self, owner: Owner, change: Change) -> Outcome:
        """Apply drops, removes, writes (in this order), offsets, checkpoint (if any), outbox; or nothing at all."""
        ...

    async def acknowledge(self, owner: Owner, messages: Sequence[tuple[int, str]]) -> None:
        """Forget messages that Kafka has confirmed, by sequence and line.

        After a store went back, the same sequence is another message: confirmed is only that of the old line.
        """
        ...

    async def owed(self, owner: Owner) -> int:
        """How many messages wait to be acknowledged."""
        ...

    async def show(self, views: Mapping[str, View], expire_s: int | None = None) -> None:
        """Replace what people read (full key to hash fields, string, or None to delete), outside `commit`'s promise."""
        ...
