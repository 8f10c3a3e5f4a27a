"""Where an owner begins, and when it must not: what the store says, held against what the broker says now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from streams.core.stage import Effects, Send
from streams.store import log_identity
from streams.store.log_identity import Identity, TopicRecreated
from streams.store.tables import Change, Claimed, Outgoing, Owner, Rows, Tables
from streams.transport.chain import Place
from streams.transport.intake import Intake
from streams.transport.settings import WorkerSettings

log = logging.getLogger(__name__)


class StateMissing(Exception):
    """Redis knows nothing of an owner whose offsets Kafka knows; `reason` is the metric label."""

    reason = "state_missing"


class StateAhead(Exception):
    """The tables stand beyond the end of the log: it has lost its tail."""

    reason = "state_ahead_of_log"


@dataclass(frozen=True, slots=True)
class DataGap:
    """The log no longer holds [first, end) of a partition, which the tables have not seen."""

    topic: str
    partition: int
    first: int
    end: int


GapHook = Callable[[DataGap], Sequence[Send]]


def no_alert(gap: DataGap) -> Sequence[Send]:
    """The gap is in the worker's log only."""
    return ()


@dataclass(slots=True)
class Beginning:
    """`begin` and `stored`: offset by topic, to be and as found. `gaps` lie between. `rows` are of the table `log`."""

    begin: dict[str, int] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)
    gaps: list[DataGap] = field(default_factory=list)
    rows: Rows = field(default_factory=dict)

    def change(self, claimed: Claimed, log_id: str, outgoing: Sequence[Outgoing]) -> Change | None:
        """What makes the store agree; None where it does."""
        if self.begin == self.stored and not self.rows:
            return None
        expected = {stored_name(topic, log_id): self.stored.get(topic) for topic in self.begin}
        offsets = {stored_name(topic, log_id): offset for topic, offset in self.begin.items()}
        effects = Effects(writes={log_identity.TABLE: self.rows}) if self.rows else Effects()
        return Change(claimed.fence, expected, offsets, effects, outgoing)


async def beginning(
    owner: Owner,
    topics: Sequence[str],
    claimed: Claimed,
    known: Rows,
    now: Mapping[str, Identity],
    *,
    settings: WorkerSettings,
    tables: Tables,
    intake: Intake,
) -> Beginning:
    """`known`: the owner's table `log`; `now`: its topics as the broker describes them.

    Raises `StateMissing`, `StateAhead`, `TopicRecreated` or `PartitionsChanged` where counting on would be a guess.
    """
    log_id = settings.log_id
    if not known and owner.partition:
        # An owner without state may be of a partition that was added: the first one knows how many there were.
        first_of_kind = await tables.load(Owner(owner.kind, 0), [log_identity.TABLE])
        log_identity.check_counts(first_of_kind[log_identity.TABLE], now)
    log_identity.check_counts(known, now)
    if not claimed.known and not settings.accept_new_state:
        await _check_new(owner, topics, settings, intake)
    anew = log_identity.recreated(known, now, log_id)
    if anew and not settings.accept_new_state:
        raise TopicRecreated(
            f"{owner}: {log_identity.recreation(anew)}. Use another redis.prefix and kafka.group for the new topic; or start "
            "one worker with --accept-new-state to keep the state and count the new topic from its beginning"
        )
    rows = log_identity.rows_of(now, log_id)
    found = Beginning(rows={name: value for name, value in rows.items() if known.get(name) != value})
    for topic in topics:
        first, end = await intake.bounds(Place(topic, owner.partition))
        offset = claimed.offsets.get(stored_name(topic, log_id))
        if offset is None:
            found.begin[topic] = first
            continue
        found.stored[topic] = offset
        found.begin[topic] = first if topic in anew else max(first, offset)
        if topic in anew:
            continue
        if offset > end:
            raise StateAhead(f"{owner} stands at {topic}/{owner.partition} offset {offset}, but the log ends at {end}")
        if offset < first:
            found.gaps.append(DataGap(topic, owner.partition, offset, first))
            log.error(
                "DATA GAP: %s/%s no longer holds offsets %d to %d, never read",
                topic,
                owner.partition,
                offset,
                first - 1,
            )
    return found


async def _check_new(owner: Owner, topics: Sequence[str], settings: WorkerSettings, intake: Intake) -> None:
    places = [Place(topic, owner.partition) for topic in topics]
    committed = {place: offset for place, offset in (await intake.committed(places)).items() if offset}
    if committed and not settings.log_id:
        where = ", ".join(f"{place.topic}/{place.partition} at {offset}" for place, offset in committed.items())
        raise StateMissing(
            f"Redis holds no state of {owner}, but group {settings.group} has committed {where}: "
            "Redis came back empty, or is another one. Restore it, or start one worker with --accept-new-state to count the log again "
            "from its beginning."
        )


def stored_name(topic: str, log_id: str) -> str:
    """The topic's name in the store's offsets: with another `log_id`, another offset."""
    return f"{topic}#{log_id}" if log_id else topic
