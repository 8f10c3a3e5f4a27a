"""What an owner commits although nothing was read: time that passes, holes in the log, keys that lie where they do not belong."""

from __future__ import annotations

import logging
import time

from streams.core.stage import Effects
from streams.observe import partitioner
from streams.observe.partitioner import Misplacements, unpacked
from streams.store.tables import Outgoing, Owner
from streams.transport.beginning import DataGap
from streams.worker.claiming import Held
from streams.worker.owner import Work
from streams.worker.shared import Shared

log = logging.getLogger(__name__)


async def fold_idle(work: Work, shared: Shared) -> None:
    """Let the stage see the time although nothing came."""

    async def passed(held: Held) -> tuple[Effects, list[Outgoing]] | None:
        work.active_at = time.monotonic()
        topic = work.topics[0]
        effects = held.stage.fold({}, {}, time.time())
        if effects == Effects():
            return None
        identity = f"{topic}-{work.owner.partition}-{held.offsets[topic] - 1}-idle{held.sequence}"
        return effects, held.owed(effects.sends, identity)

    await work.say(passed)


async def tell_gap(work: Work, shared: Shared, gap: DataGap) -> None:
    """A hole that nothing explains was passed over."""

    async def hole(held: Held) -> tuple[Effects, list[Outgoing]]:
        shared.counters.gaps += 1
        log.error("DATA GAP: %s/%s has no records from %d to %d", gap.topic, gap.partition, gap.first, gap.end - 1)
        return Effects(), held.owed(shared.on_gap(gap), f"{gap.topic}-{gap.partition}-{gap.first}-hole")

    await work.say(hole)


async def tell_keys(work: Work, shared: Shared) -> None:
    """Add up what all observers have counted of their keys; tell what began or is over. For the first one alone."""

    async def misplaced(held: Held) -> tuple[Effects, list[Outgoing]] | None:
        count = max((held.partitions(topic) for topic in work.topics), default=0)
        rows = {p: await shared.tables.load(Owner("observe", p), [partitioner.TABLE]) for p in range(count)}
        before = rows[0][partitioner.TABLE].get(partitioner.INCIDENTS, b"") if rows else b""
        incidents = Misplacements(before)
        seen = {p: unpacked(found[partitioner.TABLE]) for p, found in rows.items()}
        findings = incidents.look(seen, time.time())
        if (row := incidents.row()) == before:
            return None
        outgoing: list[Outgoing] = []
        for finding in findings:
            what = "misplaced keys" if finding.begun else "no more misplaced keys"
            log.error("%s in %s: %d, %.1f %% of the last", what, finding.topic, finding.misplaced, 100 * finding.share)
            identity = f"{finding.topic}-keys-{finding.number}-{'open' if finding.begun else 'resolved'}"
            outgoing += held.owed(shared.on_keys(finding), identity, len(outgoing))
        return Effects(writes={partitioner.TABLE: {partitioner.INCIDENTS: row}}), outgoing

    await work.say(misplaced)
