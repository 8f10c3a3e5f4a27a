"""A batch through an owner's stage: what it needs is read, what it says becomes effects and messages. Nothing is committed."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from streams.core.stage import Effects
from streams.observe import partitioner
from streams.store.lines import still_known
from streams.store.tables import Outgoing, Owner, StoreUnavailable
from streams.transport.chain import Part
from streams.worker.claiming import Held
from streams.worker.shared import Shared

log = logging.getLogger(__name__)


async def fold(owner: Owner, held: Held, parts: Sequence[Part], shared: Shared) -> tuple[Effects, list[Outgoing]]:
    """`parts`: at least one, each beginning where the owner stands. What its stage raises is logged with the offsets."""
    if owner.kind == "judge":
        parts = [part._replace(records=await still_known(shared.tables, part.records)) for part in parts]
    arrived = {shared.settings.topics.source(part.topic): part.records for part in parts}
    try:
        wanted = held.stage.needed(arrived)
        found = await shared.tables.read(owner, wanted) if wanted else {}
        effects = held.stage.fold(arrived, found, time.time())
    except StoreUnavailable:
        raise
    except Exception:
        read = ", ".join(f"{part.topic} offsets {part.begin} to {part.end - 1}" for part in parts)
        log.exception("%s failed on %s", owner, read)
        raise
    # Every commit moves the offset of its first part on: no two have the same.
    outgoing = held.owed(effects.sends, f"{parts[0].topic}-{owner.partition}-{parts[0].end - 1}")
    if owner.kind == "observe":
        for part in parts:
            held.keys.see(part.topic, part.records, held.partitions(part.topic))
        effects.writes[partitioner.TABLE] = held.keys.rows(part.topic for part in parts)
    return effects, outgoing
