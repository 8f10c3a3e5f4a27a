"""Broker and Redis without Docker or root: librdkafka's mock cluster in this process, a Redis server beside it.

    with Embedded({"leadline.predictions": 4, "leadline.labels": 4}, folder=Path("leadline-data")) as embedded:
        print(embedded.bootstrap_servers, embedded.redis_url)

Both listen on loopback only, so a service on the same machine can publish. Redis keeps its data in `folder`; the broker
keeps its log in memory and begins anew at every start, under a new `log_id`: offsets found in Redis under another one
belong to a log that is gone. Both end with us, also after Ctrl-C, SIGTERM and kill -9 (`streams.embedded.child`).
"""

import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from streams.embedded.embedded_redis import RedisServer
from streams.embedded.lag_guard import LagGuard
from streams.embedded.mock_broker import MockBroker, PlainMockBroker, start_mock_broker


class Embedded:
    """A running mock broker and Redis server. `topics` maps names to partition counts, created before any client can
    ask.

    Without `folder` the Redis data are scratch and deleted at the end. Raises the errors of `streams.embedded.embedded_errors`.
    """

    def __init__(
        self,
        topics: Mapping[str, int] | None = None,
        *,
        folder: Path | None = None,
        redis_port: int | None = None,
        redis_settings: Mapping[str, str] | None = None,
        brokers: int = 1,
    ) -> None:
        self.log_id = uuid.uuid4().hex
        self.redis = RedisServer(folder, port=redis_port, settings=redis_settings)
        try:
            self.broker: MockBroker | PlainMockBroker = start_mock_broker(topics, brokers=brokers)
        except BaseException:
            self.redis.stop()
            raise

    @property
    def bootstrap_servers(self) -> str:
        return self.broker.bootstrap_servers

    @property
    def redis_url(self) -> str:
        return self.redis.url

    def create_topics(self, topics: Mapping[str, int]) -> None:
        """More topics, name to partition count: the mock broker answers no CreateTopics, so clients cannot."""
        self.broker.create_topics(topics)

    def lag_guard(self) -> LagGuard:
        """A guard over this broker's logs; the caller closes it."""
        return LagGuard(self.bootstrap_servers)

    def stop(self) -> None:
        """End both and wait until they are gone. Safe to call twice."""
        try:
            self.broker.stop()
        finally:
            self.redis.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
