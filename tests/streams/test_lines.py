"""Digests whose commit the store has lost are told from those that it still knows."""

from __future__ import annotations

import asyncio

from streams.core.records import Records
from streams.core.stage import Effects, Record, Send
from streams.store.lines import read_line, still_known, write_line
from streams.store.tables import Change, Outcome, Outgoing, Owner
from streams.store.tables_memory import MemoryTables

OBSERVER = Owner("observe", 2)


def sent(sequence: int, fence: str) -> Record:
    message = Outgoing(sequence, f"id-{sequence}", Send("digests", b"m", b"v"), fence)
    return Record(sequence, b"m", b"v", 0.0, write_line(OBSERVER, message))


async def commit(tables: MemoryTables, fence: str, before: int | None, *sequences: int) -> None:
    outbox = [Outgoing(sequence, f"id-{sequence}", Send("digests", b"m", b"v"), fence) for sequence in sequences]
    end = (before or 0) + 1
    assert (
        await tables.commit(OBSERVER, Change(fence, {"t": before}, {"t": end}, Effects(), outbox)) is Outcome.COMMITTED
    )


def test_a_line_is_read_as_it_was_written():
    message = Outgoing(7, "id", Send("digests", b"m", b"v"), "3:abcdef")
    assert read_line(write_line(OBSERVER, message)) == (OBSERVER, "3:abcdef", 7)
    assert read_line(b"something else") is None
    assert read_line(b"\xff") is None


def test_what_was_committed_is_taken_also_under_an_older_fence():
    async def check() -> None:
        tables = MemoryTables()
        first = (await tables.claim(OBSERVER)).fence
        await commit(tables, first, None, 1, 2)
        second = (await tables.claim(OBSERVER)).fence
        await commit(tables, second, 1, 3)
        records = [sent(1, first), sent(2, first), sent(3, second), sent(1, first)]
        assert await still_known(tables, Records.of(records)) == records

    asyncio.run(check())


def test_what_the_store_has_lost_is_left_out_before_and_after_it_was_counted_anew():
    async def check() -> None:
        tables = MemoryTables()
        first = (await tables.claim(OBSERVER)).fence
        await commit(
            tables, first, None, 1, 2
        )  # 3 and 4 were committed too, sent, and lost with the store's last second
        records = [sent(2, first), sent(3, first), sent(4, first)]
        assert await still_known(tables, Records.of(records)) == records[:1]
        second = (await tables.claim(OBSERVER)).fence
        await commit(tables, second, 1, 3, 4)
        again = [sent(3, second), sent(4, second)]
        assert await still_known(tables, Records.of(records + again)) == records[:1] + again

    asyncio.run(check())


def test_a_claim_that_the_store_has_lost_counts_for_nothing():
    async def check() -> None:
        tables = MemoryTables()
        await commit(tables, (await tables.claim(OBSERVER)).fence, None, 1)
        assert await still_known(tables, Records.of([sent(1, "1:another")])) == []

    asyncio.run(check())


def test_messages_of_others_are_taken_as_they_are():
    foreign = [Record(0, b"k", b"v", 0.0), Record(1, b"k", b"v", 0.0, b"no line")]
    assert asyncio.run(still_known(MemoryTables(), Records.of(foreign))) == foreign
