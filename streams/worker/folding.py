"""A batch through an owner's stage: what it needs is read, what it says becomes effects and messages. Nothing is committed."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from streams.core.effects import merge, overlay
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
    effects: Effects | None = None
    outgoing: list[Outgoing] = []
    for part in parts:
        source = shared.settings.topics.source(part.topic)
        try:
            wanted = held.stage.needed(source, part.records)
            found = await shared.tables.read(owner, wanted) if wanted else {}
            if effects is not None:
                overlay(found, wanted, effects)
            new = held.stage.fold(source, part.records, found, time.time())
        except StoreUnavailable:
            raise
        except Exception:
            log.exception("%s failed on %s offsets %d to %d", owner, part.topic, part.begin, part.end - 1)
            raise
        outgoing += held.owed(new.sends, f"{part.topic}-{owner.partition}-{part.end - 1}", len(outgoing))
        effects = new if effects is None else merge(effects, new)
    assert effects is not None  # parts is not empty
    if owner.kind == "observe":
        for part in parts:
            held.keys.see(part.topic, part.records, held.partitions(part.topic))
        effects.writes[partitioner.TABLE] = held.keys.rows(part.topic for part in parts)
    return effects, outgoing
