"""The two backends that the pipeline's tests run on: the embedded parts, and real Apache Kafka with a real Redis."""

import itertools
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import redis

from streams.transport.topic_plan import TopicNames, TopicSpec
from streams.transport.topics import admin_client, ensure_topics

DATABASES = 64  # of the Redis servers that the tests start
_numbers = itertools.count(1)


class CreateTopics(Protocol):
    def __call__(self, topics: Mapping[str, int], /) -> None: ...


@dataclass(frozen=True)
class Fresh:
    """What one test has for itself: topics under a prefix of its own, an empty Redis database, a key prefix."""

    names: TopicNames
    redis_url: str
    redis_prefix: str


@dataclass(frozen=True)
class Backend:
    """Addresses of a running broker and Redis. `create_topics` takes name to partition count."""

    name: str
    bootstrap_servers: str
    redis_url: str
    create_topics: CreateTopics

    def fresh(self) -> Fresh:
        """Nothing of another test in it, also of another run on the same servers."""
        base = self.redis_url.rpartition("/")[0]
        with redis.Redis.from_url(f"{base}/0") as client:
            # Counted in Redis: two runs on one server get different databases, as long as few tests run at once.
            database = 1 + int(client.incr("leadline-tests:databases")) % (DATABASES - 1)
        with redis.Redis.from_url(f"{base}/{database}") as client:
            client.flushdb()
        unique = f"t{os.getpid()}-{next(_numbers)}-{uuid.uuid4().hex[:8]}"
        return Fresh(TopicNames(f"{unique}.leadline"), f"{base}/{database}", unique)


def create_on_kafka(bootstrap_servers: str) -> CreateTopics:
    """Topic creation by the admin client, for a broker that answers it."""

    def create(topics: Mapping[str, int], /) -> None:
        specs = [TopicSpec(name=name, partitions=partitions) for name, partitions in topics.items()]
        ensure_topics(admin_client(bootstrap_servers), specs)

    return create
