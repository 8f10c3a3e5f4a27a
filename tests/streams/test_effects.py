"""Merged effects must do what committing them one after the other does."""

from __future__ import annotations

import asyncio
import copy

from hypothesis import given
from hypothesis import strategies as st

from streams.core.effects import merge, overlay
from streams.core.stage import Effects, Send
from streams.store.tables import Change, Owner
from streams.store.tables_memory import MemoryTables

TABLES, FIELDS = ["a", "b"], [b"1", b"2", b"3"]
OWNER = Owner("observe", 0)


def some_effects() -> st.SearchStrategy[Effects]:
    table, field = st.sampled_from(TABLES), st.sampled_from(FIELDS)
    return st.builds(
        Effects,
        writes=st.dictionaries(table, st.dictionaries(field, st.binary(min_size=1, max_size=2))),
        removes=st.dictionaries(table, st.lists(field, max_size=3)),
        drops=st.lists(table, max_size=2, unique=True),
        checkpoint=st.sampled_from([b"", b"x", b"y"]),
        views=st.dictionaries(st.sampled_from(["v", "w"]), st.sampled_from([None, "text"])),
    )


async def after(*commits: Effects) -> tuple[object, bytes]:
    tables = MemoryTables()
    fence = (await tables.claim(OWNER)).fence
    start = Effects(writes={"a": {b"1": b"old", b"2": b"old"}, "b": {b"3": b"old"}})
    for number, effects in enumerate((start, *commits)):
        await tables.commit(OWNER, Change(fence, {"t": number or None}, {"t": number + 1}, copy.deepcopy(effects)))
    claimed = await tables.claim(OWNER)
    return await tables.load(OWNER, TABLES), claimed.checkpoint


@given(some_effects(), some_effects(), some_effects())
def test_merged_effects_are_the_commits_one_after_the_other(first: Effects, second: Effects, third: Effects) -> None:
    apart = asyncio.run(after(first, second, third))
    together = merge(merge(copy.deepcopy(first), copy.deepcopy(second)), copy.deepcopy(third))
    assert asyncio.run(after(together)) == apart


@given(some_effects())
def test_rows_of_the_batch_before_are_seen_as_if_committed(pending: Effects) -> None:
    async def seen() -> tuple[object, object]:
        tables = MemoryTables()
        fence = (await tables.claim(OWNER)).fence
        start = Effects(writes={"a": {b"1": b"old", b"2": b"old"}, "b": {b"3": b"old"}})
        await tables.commit(OWNER, Change(fence, {"t": None}, {"t": 1}, start))
        wanted = {"a": FIELDS, "b": FIELDS[1:]}
        before = overlay(await tables.read(OWNER, wanted), wanted, pending)
        await tables.commit(OWNER, Change(fence, {"t": 1}, {"t": 2}, pending))
        return before, await tables.read(OWNER, wanted)

    before, then = asyncio.run(seen())
    assert before == then


def test_sends_and_views_keep_their_order() -> None:
    first = Effects(sends=[Send("t", b"1", b"")], views={"k": "old", "l": "kept"})
    second = Effects(sends=[Send("t", b"2", b"")], views={"k": None})
    merged = merge(first, second)
    assert [send.key for send in merged.sends] == [b"1", b"2"]
    assert merged.views == {"k": None, "l": "kept"}
