"""The Apache Kafka and the Redis that a benchmark runs on: those that are named, or its own, gone at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from streams.transport.topics import BrokerUnreachable, TopicsError, admin_client, describe_partitions
from tests.real.process import NotReady, PartMissing
from tests.real.shared import Servers

WAIT_S = 10.0


class NoServers(Exception):
    """There is no broker or no Redis to run on. The text says what to do."""


@contextmanager
def servers(
    bootstrap: str | None, redis: str | None, folder: Path, say: Callable[[str], None]
) -> Iterator[tuple[str, str]]:
    """Addresses of both. Named ones are looked at before anything else is done; without names both are started in `folder`."""
    if bootstrap and redis:
        try:
            # Quiet: librdkafka would repeat every refused connection on standard error.
            describe_partitions(admin_client(bootstrap, {"log_level": 0}), timeout_s=WAIT_S)
        except BrokerUnreachable as error:
            raise NoServers(f"{error}. Without --bootstrap and --redis the benchmark brings its own") from None
        except TopicsError as error:
            raise NoServers(str(error)) from None
        yield bootstrap, redis
        return
    if bootstrap or redis:
        raise NoServers("give both --bootstrap and --redis, or neither: then the benchmark brings its own")
    say("starting Apache Kafka and Redis …")
    own = Servers(folder)
    try:
        addresses = own.start()
    except (PartMissing, NotReady) as error:
        raise NoServers(
            f"no Kafka and Redis to run on: {error}. Or name running ones: --bootstrap HOST:PORT --redis URL"
        ) from None
    try:
        yield addresses.bootstrap_servers, addresses.redis_url
    finally:
        own.stop()
