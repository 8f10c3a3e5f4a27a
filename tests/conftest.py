"""Backends for the pipeline's tests. Unit tests ask for none of these fixtures and start nothing."""

import os
from collections.abc import Iterator

import pytest

from streams.embedded import Embedded
from tests.real.backend import DATABASES, Backend, create_on_kafka
from tests.real.environment import CACHE, Addresses
from tests.real.kafka import KafkaServer
from tests.real.process import PartMissing
from tests.real.redis_server import RealRedis


@pytest.fixture(scope="session")
def embedded() -> Iterator[Backend]:
    """The mock broker and the Redis server from a wheel, on scratch data."""
    with Embedded(redis_settings={"databases": str(DATABASES)}) as running:
        yield Backend("embedded", running.bootstrap_servers, running.redis_url, running.create_topics)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """Apache Kafka and a real Redis: those of `make kafka-up` if they are up, else started for this run.

    Where a part is missing the tests are skipped with the reason; in CI (environment variable CI) they fail instead.
    """
    addresses = Addresses.read_live()
    if addresses is not None:
        yield backend_of(addresses)
        return
    folder = tmp_path_factory.mktemp("kafka")
    broker, store = KafkaServer(folder, CACHE), RealRedis(folder)
    try:
        store.start()
        broker.start()
        yield backend_of(Addresses(broker.bootstrap_servers, store.redis_url))
    except PartMissing as missing:
        if os.environ.get("CI"):
            pytest.fail(f"no real Kafka and Redis in CI: {missing}")
        pytest.skip(f"no real Kafka and Redis here: {missing}")
    finally:
        broker.stop()
        store.stop()


@pytest.fixture(scope="session", params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def backend(request: pytest.FixtureRequest) -> Backend:
    """One suite, two backends."""
    chosen: Backend = request.getfixturevalue(request.param)
    return chosen


def backend_of(addresses: Addresses) -> Backend:
    servers = addresses.bootstrap_servers
    return Backend("kafka", servers, addresses.redis_url, create_on_kafka(servers))
