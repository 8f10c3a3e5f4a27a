"""The tables in Redis: one Lua script a commit, hashes for tables, all keys of an owner under one hash tag.

Keys: `{prefix}:i:{TAG}:meta` (fence, offsets, checkpoint), `:outbox` (sequence to message), `:t:TABLE` (rows), with
TAG such as `o:3`. A commit of 8,000 rows is one packed command; a pipeline of single commands costs ten times as much
in the client alone.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec
from redis.exceptions import NoScriptError

from streams.core.stage import Send
from streams.store.redis_client import Client, check_policy, connect, translated
from streams.store.redis_scripts import CLAIM, COMMIT
from streams.store.tables import Change, Claimed, Outcome, Outgoing, Owner, Rows, View

OUTCOMES = {1: Outcome.COMMITTED, 0: Outcome.FENCED, -1: Outcome.MISMATCH}
FIELDS_A_READ = 10_000
WHOLE_BELOW = (
    50_000  # rows; a larger table is scanned in steps, so that one owner's claim does not stop the server for others
)
VIEWS_A_ROUND = 500

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[str, str, bytes, bytes, int | None, str]).decode


def _name(sequence: int, line: str) -> str:
    """The field of a message in the outbox."""
    return f"{sequence} {line}"


class RedisTables:
    """`streams.store.tables.Tables` on Redis 6.2 or later, Valkey, or a Redis Cluster."""

    def __init__(self, url: str, prefix: str = "leadline") -> None:
        self._url = url
        self._prefix = prefix
        self._connected: Client | None = None
        self._shas: dict[str, str] = {}

    async def start(self) -> None:
        client = self._connected = await connect(self._url)
        await check_policy(client, self._url)
        with translated(self._url):
            for script in (CLAIM, COMMIT):
                self._shas[script] = await client.script_load(script)

    async def close(self) -> None:
        if self._connected is not None:
            client, self._connected = self._connected, None
            await client.aclose()

    @property
    def client(self) -> Client:
        if self._connected is None:
            raise RuntimeError("start() the tables first")
        return self._connected

    def _key(self, owner: Owner, name: str) -> str:
        return f"{self._prefix}:i:{{{owner.tag}}}:{name}"

    def _table(self, owner: Owner, table: str) -> str:
        return self._key(owner, f"t:{table}")

    async def _run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        with translated(self._url):
            try:
                return await self.client.execute_command("EVALSHA", self._shas[script], len(keys), *keys, *arguments)
            except NoScriptError:  # the server was restarted, or this Cluster node never saw it
                return await self.client.execute_command("EVAL", script, len(keys), *keys, *arguments)

    async def claim(self, owner: Owner) -> Claimed:
        nonce = uuid.uuid4().hex[:12]
        keys = [self._key(owner, "meta"), self._key(owner, "outbox")]
        fence, known, flat_meta, flat_outbox = await self._run(CLAIM, keys, [nonce])
        meta = dict(zip(flat_meta[::2], flat_meta[1::2], strict=True))
        offsets = {name[2:].decode(): int(offset) for name, offset in meta.items() if name.startswith(b"o:")}
        outbox: list[Outgoing] = []
        for sequence, packed in zip(flat_outbox[::2], flat_outbox[1::2], strict=True):
            identity, topic, key, value, partition, line = _unpack(packed)
            number = int(sequence.split(b" ")[0])
            outbox.append(Outgoing(number, identity, Send(topic, key, value, partition), line))
        outbox.sort(key=lambda message: message.sequence)
        return Claimed(
            fence.decode(), bool(known), offsets, meta.get(b"checkpoint", b""), int(meta.get(b"sequence", 0)), outbox
        )

    async def holds(self, owner: Owner, fence: str, offsets: Mapping[str, int] | None = None) -> bool:
        wanted = {"fence": fence, **{f"o:{topic}": str(offset) for topic, offset in (offsets or {}).items()}}
        with translated(self._url):
            stored = await self.client.execute_command("HMGET", self._key(owner, "meta"), *wanted)
        return list(stored) == [value.encode() for value in wanted.values()]

    async def read(self, owner: Owner, wanted: Mapping[str, Sequence[bytes]]) -> dict[str, Rows]:
        found: dict[str, Rows] = {}
        with translated(self._url):
            for table, fields in wanted.items():
                rows: Rows = {}
                key = self._table(owner, table)
                for start in range(0, len(fields), FIELDS_A_READ):
                    part = fields[start : start + FIELDS_A_READ]
                    values = await self.client.execute_command("HMGET", key, *part)
                    rows.update((field, value) for field, value in zip(part, values, strict=True) if value is not None)
                found[table] = rows
        return found

    async def load(self, owner: Owner, tables: Sequence[str]) -> dict[str, Rows]:
        loaded: dict[str, Rows] = {}
        with translated(self._url):
            for table in tables:
                key = self._table(owner, table)
                if await self.client.hlen(key) <= WHOLE_BELOW:
                    flat = await self.client.execute_command("HGETALL", key)
                    loaded[table] = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
                else:
                    scan: AsyncIterator[tuple[bytes, bytes]] = self.client.hscan_iter(key, count=5000)
                    loaded[table] = {field: value async for field, value in scan}
        return loaded

    async def lines(self, owner: Owner, fences: Sequence[str]) -> dict[str, int]:
        with translated(self._url):
            found = await self.client.execute_command("HMGET", self._key(owner, "lines"), *fences)
        return {fence: int(last) for fence, last in zip(fences, found, strict=True) if last is not None}

    async def commit(self, owner: Owner, change: Change) -> Outcome:
        effects = change.effects
        removes = {table: fields for table, fields in effects.removes.items() if fields}
        writes = {table: rows for table, rows in effects.writes.items() if rows}
        keys = [self._key(owner, "meta"), self._key(owner, "outbox"), self._key(owner, "lines")]
        keys += [self._table(owner, table) for table in chain(effects.drops, removes, writes)]
        sequence = change.outbox[-1].sequence if change.outbox else ""
        arguments: list[Any] = [
            change.fence,
            effects.checkpoint,
            sequence,
            len(change.offsets),
            2 * len(change.outbox),
            len(effects.drops),
            len(removes),
            len(writes),
        ]
        for topic, offset in change.offsets.items():
            expected = change.expected[topic]
            arguments += (topic, "" if expected is None else expected, offset)
        arguments += map(len, removes.values())
        arguments += (2 * len(rows) for rows in writes.values())
        for message in change.outbox:
            arguments += (_name(message.sequence, message.line), _pack((message.id, *message.send, message.line)))
        for fields in removes.values():
            arguments += fields
        for rows in writes.values():
            arguments += chain.from_iterable(rows.items())
        return OUTCOMES[int(await self._run(COMMIT, keys, arguments))]

    async def acknowledge(self, owner: Owner, messages: Sequence[tuple[int, str]]) -> None:
        if messages:
            # State from before 0.2 has names without a line; nothing is written under such a name any more.
            names = [name for sequence, line in messages for name in (_name(sequence, line), sequence)]
            with translated(self._url):
                await self.client.execute_command("HDEL", self._key(owner, "outbox"), *names)

    async def owed(self, owner: Owner) -> int:
        with translated(self._url):
            return int(await self.client.execute_command("HLEN", self._key(owner, "outbox")))

    async def show(self, views: Mapping[str, View], expire_s: int | None = None) -> None:
        items = list(views.items())
        with translated(self._url):
            for start in range(0, len(items), VIEWS_A_ROUND):
                await self._show(items[start : start + VIEWS_A_ROUND], expire_s)

    async def _show(self, views: Sequence[tuple[str, View]], expire_s: int | None) -> None:
        pipeline = self.client.pipeline(transaction=False)
        for key, view in views:
            if isinstance(view, str):
                pipeline.set(key, view, ex=expire_s)
                continue
            pipeline.delete(key)
            if view:
                pipeline.execute_command("HSET", key, *chain.from_iterable(view.items()))
                if expire_s is not None:
                    pipeline.expire(key, expire_s)
        await pipeline.execute()
