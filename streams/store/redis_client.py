"""A Redis client for the Faust loop: plain or Cluster, whichever the server is, TLS and ACL by the URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import hiredis
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    MasterDownError,
    NoPermissionError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    TimeoutError,
)

from leadline import redis_url
from streams.store.tables import StoreMisconfigured, StoreUnavailable

Client = Redis | RedisCluster

SOCKET_TIMEOUT_S = 20.0
PASSING = (ConnectionError, TimeoutError, BusyLoadingError, ReadOnlyError, ClusterDownError, MasterDownError, OSError)
REFUSED = (AuthenticationError, NoPermissionError)


class CommandsPackedInC:
    """The asyncio client packs commands in Python, argument by argument: 1 microsecond a row. hiredis takes a third."""

    def pack_command(self, *arguments: Any) -> list[bytes]:
        command = arguments[0]
        if isinstance(command, str) and " " in command:  # "CONFIG GET" is two arguments to the server
            arguments = (*command.split(), *arguments[1:])
        return [hiredis.pack_command(arguments)]


def packing(base: type[Any]) -> type[Any]:
    """The connection class `base`, packing in C."""
    return type(f"Packed{base.__name__}", (CommandsPackedInC, base), {})


def check_url(url: str) -> None:
    """`StoreMisconfigured` for what is no URL of Redis."""
    if words := redis_url.fault(url):
        raise StoreMisconfigured(f"redis.url is {words}" if words.startswith("no ") else f"redis.url: {words}")


def shown(url: str) -> str:
    """The URL without its secrets, for messages. It has passed `check_url`."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Redis' errors as ours. What passes by itself is `StoreUnavailable`; a refusal is `StoreMisconfigured`."""
    try:
        yield
    except REFUSED as error:
        raise StoreMisconfigured(f"Redis at {shown(url)} refuses us: {_refusal(error)}") from error
    except PASSING as error:
        raise StoreUnavailable(f"Redis at {shown(url)}: {type(error).__name__}: {error}{_tls_hint(error)}") from error
    except RedisClusterException as error:
        if isinstance(error.__cause__, REFUSED):  # its text repeats the cause; the cause says whether waiting helps
            why = _refusal(error.__cause__)
            raise StoreMisconfigured(f"Redis Cluster at {shown(url)} refuses us: {why}") from error
        raise StoreUnavailable(f"Redis Cluster at {shown(url)}: {error}") from error
    except ResponseError as error:
        if str(error).startswith(("OOM", "MISCONF", "NOREPLICAS", "LOADING", "MASTERDOWN", "UNBLOCKED")):
            # Full, or unable to save: nothing was written, and people can mend it while we wait.
            raise StoreUnavailable(f"Redis at {shown(url)}: {error}") from error
        raise


@contextmanager
def reached(url: str) -> Iterator[None]:
    """`translated` around the first exchange with a server, when it is most likely that the address is wrong."""
    check_url(url)
    try:
        with translated(url):
            yield
    except (TypeError, ValueError) as error:  # of redis-py, for what stands after the question mark
        raise StoreMisconfigured(f"redis.url, after the question mark: {error}") from error
    except StoreUnavailable as error:
        text = str(error)
        if url.startswith("redis://") and ("closed by server" in text or "reset by peer" in text):
            raise StoreUnavailable(f"{text}; if this port speaks TLS, redis.url begins with rediss://") from error
        if isinstance(error.__cause__, ConnectionError | TimeoutError) and not _tls_hint(error.__cause__):
            where = "redis.url, --redis-url or LEADLINE_REDIS_URL"
            raise StoreUnavailable(f"{text.rstrip('.')}; start Redis, or say by {where} where it is") from error
        raise


def _refusal(error: BaseException) -> str:
    if isinstance(error, NoPermissionError):
        remedy = "the rights that the user of redis.url needs stand in docs/operations.md, TLS, users, ACLs"
    else:
        remedy = "look at user and password in redis.url"
    words = "it asks for a user" if str(error).startswith("HELLO must be") else str(error).rstrip(".")
    return f"{words}; {remedy}"


def _tls_hint(error: BaseException) -> str:
    """Why TLS did not come about, from OpenSSL's words."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        if "mismatch" in text:
            return " Redis' certificate does not name the host of redis.url"
        return " ssl_ca_certs in redis.url (rediss://…?ssl_ca_certs=/path/ca.pem) must name the authority that signed its certificate"
    if "WRONG_VERSION_NUMBER" in text or "record layer failure" in text.lower():
        return " This port speaks no TLS: redis.url begins with redis://, or has another port"
    if "No such file" in text:
        return " A file that redis.url names is not there"
    return ""


async def connect(url: str) -> Client:
    """A connected client. `StoreUnavailable` where nobody answers, `StoreMisconfigured` where the server refuses us."""
    options: dict[str, Any] = {
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": 5.0,
        "socket_read_size": 1 << 18,
        # A commit that is repeated finds its offsets moved and does nothing, so a retry is safe.
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), 2),
    }
    with reached(url):
        plain = Redis.from_url(url, **options)
        try:
            cluster = (await plain.info("cluster")).get("cluster_enabled")
        except BaseException:
            await plain.aclose()
            raise
        if not cluster:
            await plain.aclose()  # its pool would hand out the connection that asked again, which packs slowly
            packed = Redis.from_url(url, **options)
            packed.connection_pool.connection_class = packing(packed.connection_pool.connection_class)
            return packed
        await plain.aclose()
        client: RedisCluster = RedisCluster.from_url(url, **options)
        await client.initialize()
        for node in client.get_nodes():
            node.connection_class = packing(node.connection_class)
        return client


async def check_policy(client: Client, url: str) -> None:
    """`StoreMisconfigured` unless `maxmemory-policy` is noeviction: an evicted row is a prediction lost in silence."""
    with translated(url):
        if isinstance(client, RedisCluster):  # unless told, it asks one node, whichever
            answers = await client.info("memory", target_nodes=RedisCluster.PRIMARIES)
        else:
            answers = {"": await client.info("memory")}
    for node, answer in answers.items():
        policy = answer.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            where = f", node {node}," if node else ""
            raise StoreMisconfigured(
                f"Redis at {shown(url)}{where} has maxmemory-policy {policy}: it would evict state. Set it to noeviction "
                "(redis-cli CONFIG SET maxmemory-policy noeviction) and give it memory enough, "
                "or give Leadline a Redis of its own."
            )
