"""Claiming an owner: raise its fence, find where it begins, tell what the log no longer holds, build its stage from the store."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streams.core.stage import Send, Stage
from streams.observe import partitioner
from streams.observe.partitioner import KeyCheck
from streams.store import log_identity
from streams.store.log_identity import Identity
from streams.store.tables import Outcome, Outgoing, Owner
from streams.transport.beginning import beginning
from streams.worker.shared import Shared

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Held:
    """An owner's state in this process, as of its last commit; given by a claim.

    `offsets`: topic to next offset. `sequence`: of the last message owed to Kafka. `topics`: as the broker describes them.
    """

    fence: str
    sequence: int
    offsets: dict[str, int]
    stage: Stage
    topics: Mapping[str, Identity]
    keys: KeyCheck

    def owed(self, sends: Sequence[Send], identity: str, after: int = 0) -> list[Outgoing]:
        """These messages as the next commit owes them, `after` so many others of the same commit."""
        return owed(sends, identity, self.sequence + after, self.fence)

    def partitions(self, topic: str) -> int:
        """How many the topic has; 0 where the broker did not say."""
        return self.topics[topic].partitions if topic in self.topics else 0


def owed(sends: Sequence[Send], identity: str, sequence: int, fence: str) -> list[Outgoing]:
    """Messages with their numbers and ids."""
    return [Outgoing(sequence + k, f"{identity}-{k}", send, fence) for k, send in enumerate(sends, 1)]


async def try_claim(owner: Owner, topics: Sequence[str], shared: Shared) -> tuple[Held, list[Outgoing]] | None:
    """The owner's state and what it still owes to Kafka; None: somebody else claims it at this moment.

    Raises what `streams.transport.beginning` refuses, `StoreUnavailable`, `KafkaException`.
    """
    claimed = await shared.tables.claim(owner)
    shared.counters.claims += 1
    kept = await shared.tables.load(owner, [log_identity.TABLE, partitioner.TABLE])
    described = {} if shared.watch is None else await shared.watch.now()
    now = {topic: described[topic] for topic in topics if topic in described}
    found = await beginning(
        owner,
        topics,
        claimed,
        kept[log_identity.TABLE],
        now,
        settings=shared.settings,
        tables=shared.tables,
        intake=shared.intake,
    )
    shared.counters.gaps += len(found.gaps)
    outgoing: list[Outgoing] = []
    for gap in found.gaps:
        identity = f"{gap.topic}-{gap.partition}-{gap.first}-gap"
        outgoing += owed(shared.on_gap(gap), identity, claimed.sequence + len(outgoing), claimed.fence)
    change = found.change(claimed, shared.settings.log_id, outgoing)
    if change is not None and await shared.tables.commit(owner, change) is not Outcome.COMMITTED:
        return None
    factory = shared.factories[owner.kind]
    tables = await shared.tables.load(owner, factory.whole(claimed.checkpoint))
    held = Held(
        claimed.fence,
        outgoing[-1].sequence if outgoing else claimed.sequence,
        found.begin,
        factory.build(owner.partition, claimed.checkpoint, tables),
        now,
        KeyCheck(owner.partition, kept[partitioner.TABLE]),
    )
    log.info("%s claimed (%s) at %s, %d unsent", owner, claimed.fence, found.begin, len(claimed.outbox))
    return held, [*claimed.outbox, *outgoing]
