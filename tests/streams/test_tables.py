"""One suite, two stores: what a commit promises must hold in memory and in Redis alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis

from streams.core.stage import Effects, Send
from streams.store.redis_client import shown
from streams.store.tables import Change, Outcome, Outgoing, Owner, StoreMisconfigured, StoreUnavailable, Tables
from streams.store.tables_memory import MemoryTables
from streams.store.tables_redis import RedisTables
from tests.real.backend import Backend
from tests.real.redis_cluster import RedisCluster

OWNER = Owner("observe", 3)
Check = Callable[[Tables], Awaitable[None]]
Run = Callable[[Check], None]


@pytest.fixture(params=["memory", "redis"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a check on an empty store."""
    url = request.getfixturevalue("embedded").fresh().redis_url if request.param == "redis" else None

    @asynccontextmanager
    async def opened() -> AsyncIterator[Tables]:
        tables: Tables = RedisTables(url) if url else MemoryTables()
        await tables.start()
        try:
            yield tables
        finally:
            await tables.close()

    def run_check(check: Check) -> None:
        async def body() -> None:
            async with opened() as tables:
                await check(tables)

        asyncio.run(body())

    return run_check


def rows(count: int, start: int = 0) -> dict[bytes, bytes]:
    return {b"field-%d" % number: b"value-%d" % number for number in range(start, start + count)}


def change(fence: str, before: int | None, after: int, effects: Effects | None = None, *outgoing: Outgoing) -> Change:
    return Change(fence, {"topic": before}, {"topic": after}, effects or Effects(), outgoing)


def test_a_first_claim_finds_an_unknown_owner(run: Run) -> None:
    async def check(tables: Tables) -> None:
        claimed = await tables.claim(OWNER)
        assert not claimed.known
        assert (claimed.offsets, claimed.checkpoint, claimed.sequence, claimed.outbox) == ({}, b"", 0, [])

    run(check)


def test_a_claim_alone_does_not_make_an_owner_known(run: Run) -> None:
    async def check(tables: Tables) -> None:
        await tables.claim(OWNER)
        assert not (await tables.claim(OWNER)).known

    run(check)


def test_a_commit_is_found_whole_by_the_next_claim(run: Run) -> None:
    async def check(tables: Tables) -> None:
        fence = (await tables.claim(OWNER)).fence
        message = Outgoing(1, "topic-3-9-0", Send("digests", b"key", b"value", 2))
        effects = Effects(writes={"a": rows(3)}, checkpoint=b"\x00state")
        assert await tables.commit(OWNER, change(fence, None, 10, effects, message)) is Outcome.COMMITTED
        claimed = await tables.claim(OWNER)
        assert claimed.known
        assert claimed.offsets == {"topic": 10}
        assert claimed.checkpoint == b"\x00state"
        assert claimed.sequence == 1
        assert claimed.outbox == [message]
        assert await tables.load(OWNER, ["a", "none"]) == {"a": rows(3), "none": {}}

    run(check)


def test_a_fenced_commit_changes_nothing(run: Run) -> None:
    async def check(tables: Tables) -> None:
        old = (await tables.claim(OWNER)).fence
        assert await tables.commit(OWNER, change(old, None, 10, Effects(writes={"a": rows(1)}))) is Outcome.COMMITTED
        new = (await tables.claim(OWNER)).fence
        assert not await tables.holds(OWNER, old)
        assert await tables.holds(OWNER, new)
        effects = Effects(writes={"a": rows(5)}, removes={"a": [b"field-0"]}, drops=["a"], checkpoint=b"zombie")
        outcome = await tables.commit(OWNER, change(old, 10, 20, effects, Outgoing(1, "id", Send("t", b"k", b"v"))))
        assert outcome is Outcome.FENCED
        claimed = await tables.claim(OWNER)
        assert (claimed.offsets, claimed.checkpoint, claimed.outbox) == ({"topic": 10}, b"", [])
        assert await tables.load(OWNER, ["a"]) == {"a": rows(1)}

    run(check)


def test_a_store_that_stands_elsewhere_does_not_hold(run: Run) -> None:
    async def body(tables: Tables) -> None:
        fence = (await tables.claim(OWNER)).fence
        await tables.commit(OWNER, change(fence, None, 10))
        topic = next(iter(change(fence, None, 10).offsets))
        assert await tables.holds(OWNER, fence, {topic: 10})
        assert not await tables.holds(OWNER, fence, {topic: 9})
        assert not await tables.holds(OWNER, fence, {topic: 10, "another": 0})
        assert not await tables.holds(OWNER, "0:stranger", {topic: 10})

    run(body)


@pytest.mark.parametrize("believed", [None, 9, 11])
def test_a_commit_on_another_offset_changes_nothing(run: Run, believed: int | None) -> None:
    async def check(tables: Tables) -> None:
        fence = (await tables.claim(OWNER)).fence
        assert await tables.commit(OWNER, change(fence, None, 10)) is Outcome.COMMITTED
        outcome = await tables.commit(OWNER, change(fence, believed, 20, Effects(writes={"a": rows(1)})))
        assert outcome is Outcome.MISMATCH
        assert (await tables.claim(OWNER)).offsets == {"topic": 10}
        assert await tables.load(OWNER, ["a"]) == {"a": {}}

    run(check)


def test_one_wrong_offset_of_two_refuses_both(run: Run) -> None:
    async def check(tables: Tables) -> None:
        fence = (await tables.claim(OWNER)).fence
        both = Change(fence, {"a": None, "b": None}, {"a": 5, "b": 6})
        assert await tables.commit(OWNER, both) is Outcome.COMMITTED
        wrong = Change(fence, {"a": 5, "b": 5}, {"a": 7, "b": 7})
        assert await tables.commit(OWNER, wrong) is Outcome.MISMATCH
        assert (await tables.claim(OWNER)).offsets == {"a": 5, "b": 6}

    run(check)


def test_a_repeated_commit_is_refused_so_that_a_retry_is_safe(run: Run) -> None:
    async def check(tables: Tables) -> None:
        once = change((await tables.claim(OWNER)).fence, None, 10, Effects(writes={"a": rows(1)}))
        assert await tables.commit(OWNER, once) is Outcome.COMMITTED
        assert await tables.commit(OWNER, once) is Outcome.MISMATCH

    run(check)


def test_large_commits_keep_every_row(run: Run) -> None:
    # More arguments than Lua can unpack at once, not a multiple of the chunk.
    count = 12_345

    async def check(tables: Tables) -> None:
        fence = (await tables.claim(OWNER)).fence
        effects = Effects(writes={"a": rows(count), "b": rows(7)})
        assert await tables.commit(OWNER, change(fence, None, 1, effects)) is Outcome.COMMITTED
        assert await tables.load(OWNER, ["a", "b"]) == {"a": rows(count), "b": rows(7)}
        gone = Effects(removes={"a": list(rows(count - 1))}, drops=["b"])
        assert await tables.commit(OWNER, change(fence, 1, 2, gone)) is Outcome.COMMITTED
        assert await tables.load(OWNER, ["a", "b"]) == {"a": rows(1, count - 1), "b": {}}

    run(check)


def test_drops_come_before_removes_and_removes_before_writes(run: Run) -> None:
    async def check(tables: Tables) -> None:
        fence = (await tables.claim(OWNER)).fence
        assert await tables.commit(OWNER, change(fence, None, 1, Effects(writes={"a": rows(5)}))) is Outcome.COMMITTED
        effects = Effects(writes={"a": {b"field-1": b"new"}}, removes={"a": [b"field-1"]}, drops=["a"])
        assert await tables.commit(OWNER, change(fence, 1, 2, effects)) is Outcome.COMMITTED
        assert await tables.load(OWNER, ["a"]) == {"a": {b"field-1": b"new"}}

    run(check)


def test_an_empty_checkpoint_keeps_the_last_one(run: Run) -> None:
    async def check(tables: Tables) -> None:
        fence = (await tables.claim(OWNER)).fence
        await tables.commit(OWNER, change(fence, None, 1, Effects(checkpoint=b"kept")))
        await tables.commit(OWNER, change(fence, 1, 2))
        assert (await tables.claim(OWNER)).checkpoint == b"kept"

    run(check)


def test_reading_gives_the_rows_that_exist(run: Run) -> None:
    async def check(tables: Tables) -> None:
        fence = (await tables.claim(OWNER)).fence
        await tables.commit(OWNER, change(fence, None, 1, Effects(writes={"a": rows(30_000)})))
        wanted = {"a": [*rows(25_000), b"absent"], "b": [b"x"], "empty": []}
        assert await tables.read(OWNER, wanted) == {"a": rows(25_000), "b": {}, "empty": {}}

    run(check)


def test_tables_too_large_for_one_answer_are_loaded_whole(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.store.tables_redis.WHOLE_BELOW", 100)

    async def check(tables: Tables) -> None:
        fence = (await tables.claim(OWNER)).fence
        await tables.commit(OWNER, change(fence, None, 1, Effects(writes={"a": rows(3_000)})))
        assert await tables.load(OWNER, ["a"]) == {"a": rows(3_000)}

    run(check)


def test_acknowledged_messages_are_not_found_again_and_others_keep_their_order(run: Run) -> None:
    async def check(tables: Tables) -> None:
        fence = (await tables.claim(OWNER)).fence
        messages = [Outgoing(number, f"id-{number}", Send("t", b"k", b"v")) for number in range(1, 13)]
        await tables.commit(OWNER, change(fence, None, 1, None, *messages))
        await tables.acknowledge(OWNER, [(2, ""), (3, ""), (99, "")])
        assert await tables.owed(OWNER) == 10
        claimed = await tables.claim(OWNER)
        assert [message.sequence for message in claimed.outbox] == [1, 4, 5, 6, 7, 8, 9, 10, 11, 12]
        assert claimed.sequence == 12
        await tables.acknowledge(OWNER, [(number, "") for number in range(1, 13)])
        again = await tables.claim(OWNER)
        assert (again.outbox, again.sequence) == ([], 12)
        assert await tables.owed(OWNER) == 0

    run(check)


def test_a_confirmation_from_before_the_store_went_back_forgets_nothing_that_is_owed_since(run: Run) -> None:
    """The number is the same, the message is not: the old one was sent, the new one perhaps never."""

    async def body(tables: Tables) -> None:
        fence = (await tables.claim(OWNER)).fence
        message = Outgoing(1, "id", Send("t", b"k", b"new"), "2:new")
        await tables.commit(OWNER, change(fence, None, 10, None, message))
        await tables.acknowledge(OWNER, [(1, "1:old")])
        assert (await tables.claim(OWNER)).outbox == [message]
        await tables.acknowledge(OWNER, [(1, "2:new")])
        assert (await tables.claim(OWNER)).outbox == []

    run(body)


def test_owners_do_not_see_each_other(run: Run) -> None:
    async def check(tables: Tables) -> None:
        others = [Owner("observe", 4), Owner("judge", 3)]
        fence = (await tables.claim(OWNER)).fence
        for other in others:
            await tables.claim(other)
        assert await tables.commit(OWNER, change(fence, None, 1, Effects(writes={"a": rows(1)}))) is Outcome.COMMITTED
        for other in others:
            assert await tables.load(other, ["a"]) == {"a": {}}
            assert not (await tables.claim(other)).known

    run(check)


def test_views_are_replaced_whole(embedded: Backend) -> None:
    url = embedded.fresh().redis_url

    async def check() -> None:
        tables = RedisTables(url)
        await tables.start()
        await tables.show(
            {"k:hash": {"old": "1", "both": "1"}, "k:text": "words", "k:gone": "x", "k:short": {"a": "b"}}
        )
        await tables.show({"k:hash": {"both": "2", "new": "2"}, "k:gone": None})
        await tables.show({"k:short": {"a": "c"}}, expire_s=60)
        await tables.close()

    asyncio.run(check())
    with redis.Redis.from_url(url, decode_responses=True) as client:
        assert client.hgetall("k:hash") == {"both": "2", "new": "2"}
        assert client.get("k:text") == "words"
        assert not client.exists("k:gone")
        assert client.hgetall("k:short") == {"a": "c"}
        assert 0 < client.ttl("k:short") <= 60
        assert client.ttl("k:hash") == -1


def test_redis_that_evicts_is_refused(embedded: Backend) -> None:
    url = embedded.fresh().redis_url
    with redis.Redis.from_url(url) as client:
        before = client.config_get("maxmemory-policy")["maxmemory-policy"]
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(StoreMisconfigured, match="noeviction"):
                asyncio.run(RedisTables(url).start())
        finally:
            client.config_set("maxmemory-policy", before)


def test_redis_without_its_scripts_gets_them_again(embedded: Backend) -> None:
    url = embedded.fresh().redis_url

    async def check() -> None:
        tables = RedisTables(url)
        await tables.start()
        with redis.Redis.from_url(url) as client:
            client.script_flush()
        fence = (await tables.claim(OWNER)).fence
        assert await tables.commit(OWNER, change(fence, None, 1)) is Outcome.COMMITTED
        await tables.close()

    asyncio.run(check())


def test_a_redis_that_does_not_answer_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1"):
        asyncio.run(RedisTables("redis://:secret@127.0.0.1:1/0").start())


def test_addresses_are_shown_without_their_secrets() -> None:
    assert shown("rediss://user:secret@redis.example:6380/2") == "rediss://redis.example:6380/2"


def test_every_key_of_an_owner_has_one_hash_tag(embedded: Backend) -> None:
    fresh = embedded.fresh()

    async def check() -> None:
        tables = RedisTables(fresh.redis_url, "pre")
        await tables.start()
        fence = (await tables.claim(OWNER)).fence
        message = Outgoing(1, "id", Send("t", b"k", b"v"))
        await tables.commit(OWNER, change(fence, None, 1, Effects(writes={"a": rows(1)}), message))
        await tables.close()

    asyncio.run(check())
    with redis.Redis.from_url(fresh.redis_url, decode_responses=True) as client:
        names = ["lines", "meta", "outbox", "t:a"]
        assert sorted(client.keys()) == [f"pre:i:{{o:3}}:{name}" for name in names]


@pytest.mark.kafka
def test_a_redis_cluster_keeps_each_owner_in_one_slot(tmp_path: Path) -> None:
    with RedisCluster(tmp_path, 3) as cluster:

        async def check() -> None:
            tables = RedisTables(cluster.url)
            await tables.start()
            for partition in range(12):
                owner = Owner("judge", partition)
                claimed = await tables.claim(owner)
                message = Outgoing(1, "id", Send("t", b"k", b"v"))
                effects = Effects(writes={"a": rows(5_000), "b": rows(2)}, checkpoint=b"state")
                assert await tables.commit(owner, change(claimed.fence, None, 7, effects, message)) is Outcome.COMMITTED
                assert await tables.commit(owner, change(claimed.fence, None, 7, effects)) is Outcome.MISMATCH
                assert await tables.read(owner, {"a": [b"field-3"], "b": [b"none"]}) == {
                    "a": {b"field-3": b"value-3"},
                    "b": {},
                }
                assert await tables.load(owner, ["b"]) == {"b": rows(2)}
                assert await tables.holds(owner, claimed.fence)
                again = await tables.claim(owner)
                assert (again.offsets, again.outbox, again.checkpoint) == ({"topic": 7}, [message], b"state")
                assert await tables.commit(owner, change(claimed.fence, 7, 8)) is Outcome.FENCED
                await tables.acknowledge(owner, [(1, "")])
                assert (await tables.claim(owner)).outbox == []
            await tables.show({f"view:{number}": {"a": "b"} for number in range(20)}, expire_s=60)
            await tables.close()

        asyncio.run(check())
