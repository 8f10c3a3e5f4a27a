"""Reading what the worker keeps in Redis, without a loop and without a claim: for the command line and for threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from redis import Redis, RedisCluster

from streams.store.redis_client import reached, shown, translated
from streams.store.tables import StoreUnavailable

TIMEOUT_S = 5.0
SCAN_COUNT = 1000


def open_store(url: str) -> Store:
    """A connection to a plain Redis or a Cluster. `StoreUnavailable` where nobody answers, `StoreMisconfigured` where we are refused."""
    options: dict[str, Any] = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
    with reached(url):
        plain = Redis.from_url(url, **options)
        try:
            if not plain.info("cluster").get("cluster_enabled"):
                return Store(plain, url)
        except BaseException:
            plain.close()
            raise
        plain.close()
        return Store(RedisCluster.from_url(url, **options), url)


class Store:
    """Read-only. Raises the errors of `streams.store.tables`."""

    def __init__(self, client: Any, url: str) -> None:
        # Any: the types of redis-py promise an answer or an awaitable, whichever client it is.
        self._client = client
        self._url = url

    def keys(self, pattern: str) -> Iterator[str]:
        """Keys that match a glob pattern, sorted. Bytes that are no UTF-8 are no key of ours."""
        with translated(self._url):
            found = [key.decode(errors="replace") for key in self._client.scan_iter(match=pattern, count=SCAN_COUNT)]
        return iter(sorted(set(found)))

    def text(self, key: str) -> bytes | None:
        with translated(self._url):
            value: bytes | None = self._client.get(key)
        return value

    def fields(self, key: str) -> dict[str, str]:
        """A hash of text; empty where there is none."""
        return {name.decode(): value.decode() for name, value in self.rows(key).items()}

    def rows(self, key: str) -> dict[bytes, bytes]:
        """A hash of bytes."""
        with translated(self._url):
            found: dict[bytes, bytes] = self._client.hgetall(key)
        return found

    def row(self, key: str, field: bytes) -> bytes | None:
        with translated(self._url):
            value: bytes | None = self._client.hget(key, field)
        return value

    def some(self, key: str, fields: Sequence[str]) -> list[bytes | None]:
        with translated(self._url):
            values: list[bytes | None] = self._client.hmget(key, list(fields))
        return values

    def kind(self, key: str) -> str:
        """hash, string, …, or none."""
        with translated(self._url):
            kind: bytes = self._client.type(key)
        return kind.decode()

    def info(self, section: str) -> dict[str, dict[str, Any]]:
        """INFO of every node by its address; empty where a node of a Cluster does not answer."""
        client = self._client
        if not hasattr(client, "get_nodes"):  # of a Cluster alone
            with translated(self._url):
                return {shown(self._url): client.info(section)}
        found: dict[str, dict[str, Any]] = {}
        for node in client.get_nodes():
            found[node.name] = {}
            with suppress(StoreUnavailable), translated(self._url):
                # By its own connection: through the Cluster's, a dead node would set off a search for its successor.
                found[node.name] = client.get_redis_connection(node).info(section)
        return found

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
