"""The broker under test: librdkafka's mock cluster, or one node of Apache Kafka behind a proxy."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from confluent_kafka import KafkaError

from streams.embedded.librdkafka import ApiKey
from streams.embedded.mock_broker import MockBroker
from tests.faults.proxy import Proxy
from tests.real.backend import create_on_kafka
from tests.real.environment import CACHE
from tests.real.kafka import KafkaServer

FAULTS = {
    ApiKey.PRODUCE: (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.REQUEST_TIMED_OUT, KafkaError._TRANSPORT),
    ApiKey.FETCH: (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError._TRANSPORT, KafkaError.REQUEST_TIMED_OUT),
    ApiKey.HEARTBEAT: (KafkaError._TRANSPORT, KafkaError.COORDINATOR_NOT_AVAILABLE),
    ApiKey.OFFSET_COMMIT: (KafkaError.NOT_COORDINATOR, KafkaError._TRANSPORT),
    ApiKey.JOIN_GROUP: (KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError._TRANSPORT),
    ApiKey.METADATA: (KafkaError._TRANSPORT,),
}


class Broker(Protocol):
    """What faults need. `complete`: aborted transactions are hidden from readers, and static members come back as they were."""

    bootstrap_servers: str
    complete: bool

    def create(self, topics: Mapping[str, int]) -> None: ...
    def outage(self, seconds: float) -> None: ...
    def errors(self, dice: random.Random) -> str: ...
    def slow(self, seconds: float, delay_s: float) -> None: ...
    def stop(self) -> None: ...


class Mock:
    """Down is: connections cut and new ones refused. Errors are answers of the protocol."""

    complete = False

    def __init__(self) -> None:
        self._cluster = MockBroker()
        self.bootstrap_servers = self._cluster.bootstrap_servers

    def create(self, topics: Mapping[str, int]) -> None:
        self._cluster.create_topics(topics)

    def outage(self, seconds: float) -> None:
        self._cluster.set_down()
        time.sleep(seconds)
        self._cluster.set_up()

    def errors(self, dice: random.Random) -> str:
        key = dice.choice(list(FAULTS))
        error = dice.choice(FAULTS[key])
        self._cluster.push_errors(key, [error] * dice.randint(1, 3))
        return f"{key.name} {KafkaError(error).name()}"

    def slow(self, seconds: float, delay_s: float) -> None:
        self._cluster.set_round_trip(int(delay_s * 2000))
        time.sleep(seconds)
        self._cluster.set_round_trip(0)

    def stop(self) -> None:
        self._cluster.stop()


class Real:
    """An outage is kill -9 and a start on the same data; errors are cut connections."""

    complete = True

    def __init__(self, folder: Path) -> None:
        self._server = KafkaServer(folder, CACHE, heap_mb=512)
        self._proxy = Proxy(self._server.port)
        self._server._properties.update(
            {
                "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._proxy.port}",
                "transaction.max.timeout.ms": "60000",
            }
        )
        self.bootstrap_servers = f"127.0.0.1:{self._proxy.port}"
        try:
            self._server.start()
        except BaseException:
            self.stop()
            raise

    def create(self, topics: Mapping[str, int]) -> None:
        create_on_kafka(self.bootstrap_servers)(topics)

    def outage(self, seconds: float) -> None:
        self._server.kill()
        time.sleep(seconds)
        self._server.start()

    def errors(self, dice: random.Random) -> str:
        self._proxy.cut()
        return "connections cut"

    def slow(self, seconds: float, delay_s: float) -> None:
        self._proxy.delay_s = delay_s
        time.sleep(seconds)
        self._proxy.delay_s = 0.0

    def stop(self) -> None:
        self._server.stop()
        self._proxy.close()
