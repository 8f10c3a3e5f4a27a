"""Backends for the pipeline's tests. Unit tests ask for none of these fixtures and start nothing."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from streams.embedded.embedded import Embedded
from tests.real.backend import DATABASES, Backend, create_on_kafka
from tests.real.environment import Addresses
from tests.real.process import PartMissing
from tests.real.shared import shared_servers

# How long an example takes says how busy the machine is, not whether the code is right. In CI the examples are the same each time.
settings.register_profile(
    "leadline",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
    print_blob=True,
)
settings.load_profile("leadline")


@pytest.fixture(scope="session")
def embedded() -> Iterator[Backend]:
    """The mock broker and the Redis server from a wheel, on scratch data."""
    with Embedded(redis_settings={"databases": str(DATABASES)}) as running:
        yield Backend("embedded", running.bootstrap_servers, running.redis_url, running.create_topics)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """Apache Kafka and a real Redis: those of `make kafka-up` if they are up, else started once for this run.

    Where a part is missing the tests are skipped with the reason; in CI (environment variable CI) they fail instead.
    """
    addresses = Addresses.read_live()
    if addresses is not None:
        yield backend_of(addresses)
        return
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which all processes of this run have in common
    try:
        with shared_servers(folder / "kafka") as addresses:
            yield backend_of(addresses)
    except PartMissing as missing:
        if os.environ.get("CI"):
            pytest.fail(f"no real Kafka and Redis in CI: {missing}")
        pytest.skip(f"no real Kafka and Redis here: {missing}")


@pytest.fixture(scope="session", params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def backend(request: pytest.FixtureRequest) -> Backend:
    """One suite, two backends."""
    chosen: Backend = request.getfixturevalue(request.param)
    return chosen


def backend_of(addresses: Addresses) -> Backend:
    servers = addresses.bootstrap_servers
    return Backend("kafka", servers, addresses.redis_url, create_on_kafka(servers))
