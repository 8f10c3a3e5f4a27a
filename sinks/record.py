"""The delivery record: which sink already has which alert, so that a resend after a crash reaches nobody twice.

Marked after a sink has taken the alert and before the offset is committed: a kill between taking and marking repeats
the alert, under the same id. A record that cannot be read or written never holds an alert back: told twice is better
than not told.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TextIO

from pydantic import Field
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import RedisError

from sinks.base import Settings
from sinks.secrets import Secret

log = logging.getLogger(__name__)
REMEMBERED = 100_000
WEEK_S = 7 * 86400.0


class DeliveryRecord(Protocol):
    """What was delivered, by sink and alert id. Its methods raise nothing but cancellation."""

    async def seen(self, sink: str, alert_id: str) -> bool: ...

    async def mark(self, sink: str, alert_id: str) -> None: ...

    async def close(self) -> None: ...


class MemoryRecordConfig(Settings):
    """`kind: memory`: forgets at the end of the process."""

    kind: Literal["memory"] = "memory"

    def open(self) -> DeliveryRecord:
        return MemoryRecord()


class FileRecordConfig(Settings):
    """`kind: file`: for one delivery process on one machine."""

    kind: Literal["file"] = "file"
    path: Path = Path(".leadline/delivered.jsonl")
    ttl_s: float = Field(default=WEEK_S, gt=0)

    def open(self) -> DeliveryRecord:
        return FileRecord(self)


class RedisRecordConfig(Settings):
    """`kind: redis`: shared by all processes of a group. Keys: `PREFIX:delivered:SINK:ALERT_ID`, with a TTL."""

    kind: Literal["redis"] = "redis"
    url: Secret
    prefix: str = "leadline"
    ttl_s: float = Field(default=WEEK_S, ge=1)
    timeout_s: float = Field(default=2.0, gt=0)

    def open(self) -> DeliveryRecord:
        return RedisRecord(self)


AnyRecordConfig = Annotated[MemoryRecordConfig | FileRecordConfig | RedisRecordConfig, Field(discriminator="kind")]


class MemoryRecord:
    """The last `REMEMBERED` deliveries of this process."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def seen(self, sink: str, alert_id: str) -> bool:
        return (sink, alert_id) in self._known

    async def mark(self, sink: str, alert_id: str) -> None:
        self.remember(sink, alert_id, 0.0)

    async def close(self) -> None:
        pass

    def remember(self, sink: str, alert_id: str, at: float) -> None:
        self._known[sink, alert_id] = at
        self._known.move_to_end((sink, alert_id))
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def entries(self) -> Iterator[tuple[str, str, float]]:
        return ((sink, alert_id, at) for (sink, alert_id), at in self._known.items())


class RecordInUse(RuntimeError):
    """Another process holds the record's file."""


class FileRecord(MemoryRecord):
    """A journal of one JSON object a delivery, rewritten without the expired entries at each start and whenever it has
    doubled.
    """

    def __init__(self, config: FileRecordConfig, now: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._config = config
        self._now = now
        self._lines = 0
        self._troubled = False
        config.path.parent.mkdir(parents=True, exist_ok=True)
        # The lock lies beside the journal, because the journal itself is replaced.
        self._lock = config.path.with_name(config.path.name + ".lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise RecordInUse(f"{config.path} is in use by another process; a Redis record can be shared") from None
        self._load()
        self._journal: TextIO | None = self._rewrite()

    async def mark(self, sink: str, alert_id: str) -> None:
        at = self._now()
        self.remember(sink, alert_id, at)
        if self._journal is None:
            return
        try:
            self._journal.write(_line(sink, alert_id, at))
            self._journal.flush()  # survives kill -9; a power cut costs a repetition
            self._lines += 1
            if self._lines > 2 * len(self._known) + 1000:
                self._journal.close()
                self._journal = self._rewrite()
            self._troubled = False
        except OSError as error:
            if not self._troubled:
                log.warning("delivery record not written (%s): a restart may repeat alerts", type(error).__name__)
            self._troubled = True

    async def close(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()
            self._lock.close()

    def _load(self) -> None:
        oldest = self._now() - self._config.ttl_s
        try:
            with self._config.path.open(encoding="utf-8", errors="replace") as file:
                for line in file:
                    entry = _entry(line)
                    if entry is not None and entry[2] >= oldest:
                        self.remember(*entry)
        except FileNotFoundError:
            pass

    def _rewrite(self) -> TextIO:
        oldest = self._now() - self._config.ttl_s
        fresh = self._config.path.with_name(self._config.path.name + ".new")
        kept = [entry for entry in self.entries() if entry[2] >= oldest]
        with fresh.open("w", encoding="utf-8") as file:
            file.writelines(_line(*entry) for entry in kept)
        os.replace(fresh, self._config.path)
        self._lines = len(kept)
        return self._config.path.open("a", encoding="utf-8")


def _line(sink: str, alert_id: str, at: float) -> str:
    return json.dumps({"sink": sink, "alert_id": alert_id, "at": round(at, 3)}) + "\n"


def _entry(line: str) -> tuple[str, str, float] | None:
    """An entry, or None for a line torn by a kill."""
    try:
        value: Any = json.loads(line)
        return str(value["sink"]), str(value["alert_id"]), float(value["at"])
    except (ValueError, KeyError, TypeError):
        return None


class RedisRecord:
    """One key a delivery. While Redis is away, what this process remembers must do."""

    def __init__(self, config: RedisRecordConfig) -> None:
        self._prefix = config.prefix
        self._ttl_ms = round(config.ttl_s * 1000)
        self._memory = MemoryRecord()
        self._troubled = False
        self._url = config.url.get_secret_value()
        self._options: dict[str, Any] = {"socket_timeout": config.timeout_s, "socket_connect_timeout": config.timeout_s}
        self._connected: Redis | RedisCluster | None = None
        self._connecting = asyncio.Lock()

    async def _redis(self) -> Redis | RedisCluster:
        """Plain or a Cluster, whichever the server is. Asked with the first delivery: Redis may be away when we start."""
        async with self._connecting:
            if self._connected is None:
                self._connected = await self._connect()
            return self._connected

    async def _connect(self) -> Redis | RedisCluster:
        plain = Redis.from_url(self._url, **self._options)
        try:
            cluster = (await plain.info("cluster")).get("cluster_enabled")
        except BaseException:
            await plain.aclose()
            raise
        if not cluster:
            return plain
        await plain.aclose()
        return RedisCluster.from_url(self._url, **self._options)

    async def seen(self, sink: str, alert_id: str) -> bool:
        if await self._memory.seen(sink, alert_id):
            return True
        try:
            found = bool(await (await self._redis()).exists(self._key(sink, alert_id)))
        except (TimeoutError, RedisError, OSError) as error:
            self._trouble(error)
            return False
        self._troubled = False
        return found

    async def mark(self, sink: str, alert_id: str) -> None:
        await self._memory.mark(sink, alert_id)
        try:
            await (await self._redis()).set(self._key(sink, alert_id), round(time.time(), 3), px=self._ttl_ms)
        except (TimeoutError, RedisError, OSError) as error:
            self._trouble(error)

    async def close(self) -> None:
        if self._connected is None:
            return
        try:
            await self._connected.aclose()
        except (RedisError, OSError):
            pass  # there is nothing left to lose

    def _key(self, sink: str, alert_id: str) -> str:
        return f"{self._prefix}:delivered:{sink}:{alert_id}"

    def _trouble(self, error: BaseException) -> None:
        if not self._troubled:  # the class alone: a message of redis-py may quote the URL
            log.warning("delivery record in Redis not available (%s): alerts may be repeated", type(error).__name__)
        self._troubled = True
