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
    else:
        parts = in_step(parts, shared.settings.batch_span_s)
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


def in_step(parts: Sequence[Part], span_s: float) -> list[Part]:
    """The same records in pieces of at most `span_s` of broker time, the topics by turns; as they are where they span no more.

    A batch of a backlog may reach over days. Its predictions as a whole would move event time so far that rows are gone before the labels
    that came minutes after them are looked at.
    """
    stamps = [record.timestamp for part in parts for record in part.records]
    if len(parts) < 2 or not stamps or max(stamps) - min(stamps) <= span_s:
        return list(parts)
    found: list[Part] = []
    left = list(parts)
    while any(part.records for part in left):
        horizon = min(part.records[0].timestamp for part in left if part.records) + span_s
        for at, part in enumerate(left):
            count = next((n for n, record in enumerate(part.records) if record.timestamp > horizon), len(part.records))
            if count == len(part.records):
                taken, left[at] = part, part._replace(begin=part.end, records=[])
            else:
                middle = part.records[count].offset
                taken = part._replace(end=middle, records=part.records[:count])
                left[at] = part._replace(begin=middle, records=part.records[count:])
            if taken.end > taken.begin:
                found.append(taken)
    return found
