"""`python -m tests.faults.broken PROVOCATION SAFEGUARD run …`: a worker with a provocation, and perhaps without a safeguard.

A provocation does to the worker what a fault may do at any moment, so that the safeguard is needed for sure. With the
safeguard everything stays exact; a suite that stays green without it proves nothing.
"""

from __future__ import annotations

import itertools
import sys
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from leadline.cli import main
from leadline.events import Digest
from streams.core.stage import Record
from streams.judge.judge import Judge
from streams.store import tables_redis
from streams.store.tables import Outgoing, Owner, Tables
from streams.store.tables_redis import RedisTables
from streams.transport.chain import Part
from streams.transport.intake import Fetched, Intake
from streams.worker import folding
from streams.worker.claiming import Held
from streams.worker.outbox import Relay
from streams.worker.owner import Work

EVERY, ROUNDS = 10, 100


def batches_get_lost() -> None:
    """As Faust does when a rebalance comes between fetch and agent: of the first hundred rounds each tenth is thrown away.

    Not of the last ones: after a rebalance positions are set anew, which this does not do.
    """
    take, rounds = Intake.take, itertools.count(1)

    async def forgetful(self: Intake) -> list[Fetched]:
        ready = await take(self)
        number = next(rounds) if ready else 0
        return [] if number and number <= ROUNDS and number % EVERY == 0 else ready

    Intake.take = forgetful  # type: ignore[method-assign]


def first_worker_acknowledges_nothing() -> None:
    """As if it were killed between Kafka's confirmation and the store's: all that it sent is sent again by the next."""
    if "w1" not in sys.argv:
        return

    async def acknowledge(self: RedisTables, owner: Owner, messages: Sequence[tuple[int, str]]) -> None: ...

    RedisTables.acknowledge = acknowledge  # type: ignore[method-assign]


def without_chain() -> None:
    """A batch is believed to begin where the last one ended."""
    take = Work._take

    async def credulous(self: Work, held: Held, parts: Sequence[Part]) -> None:
        await take(self, held, [part._replace(begin=min(part.begin, held.offsets[part.topic])) for part in parts])

    Work._take = credulous  # type: ignore[method-assign]


def without_expected_offset() -> None:
    """A commit does not look where the store stands."""
    tables_redis.COMMIT = tables_redis.COMMIT.replace("then return -1 end", "then end")


def without_lines() -> None:
    """Digests are merged although the store has lost their commit."""

    async def all_of_them(tables: Tables, records: Sequence[Record]) -> list[Record]:
        return list(records)

    folding.still_known = all_of_them


def without_skip() -> None:
    """A judge merges whatever comes."""
    take = Judge.take

    def greedy(self: Judge, digest: Digest) -> None:
        if digest.source in self.sources:
            self.sources[digest.source].sequence = 0
        take(self, digest)

    Judge.take = greedy  # type: ignore[method-assign]


def without_stable_ids() -> None:
    """Each sending makes up an id."""
    submit = Relay.submit

    def inventive(self: Relay, owner: Owner, messages: Sequence[Outgoing]) -> None:
        submit(self, owner, [message._replace(id=uuid.uuid4().hex) for message in messages])

    Relay.submit = inventive  # type: ignore[method-assign]


PROVOCATIONS: dict[str, Callable[[], Any]] = {
    "lost-batches": batches_get_lost,
    "resends": first_worker_acknowledges_nothing,
    "nothing": lambda: None,
}
SAFEGUARDS: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "chain": without_chain,
    "expected-offset": without_expected_offset,
    "lines": without_lines,
    "skip": without_skip,
    "ids": without_stable_ids,
}

if __name__ == "__main__":
    provocation, safeguard = sys.argv[1:3]
    del sys.argv[1:3]
    PROVOCATIONS[provocation]()
    SAFEGUARDS[safeguard]()
    main()
