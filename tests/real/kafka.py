"""Apache Kafka as one KRaft node (broker and controller) on loopback."""

import base64
import contextlib
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.embedded.embedded_redis import free_port
from tests.real.maven import fetch_jars
from tests.real.process import NotReady, PartMissing, Server

HOST = "127.0.0.1"
LOG_LEVEL = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"


class KafkaServer(Server):
    """A broker with its data in `folder`; jars are cached in `cache`. `properties` add to or override
    server.properties.

    The ports stay the same over restarts, so that clients find it again.
    """

    name = "kafka"

    def __init__(
        self,
        folder: Path,
        cache: Path,
        *,
        port: int | None = None,
        properties: Mapping[str, str] | None = None,
        scram: Mapping[str, str] | None = None,
        client: Mapping[str, str] | None = None,
        heap_mb: int = 768,
        detached: bool = False,
    ) -> None:
        """`scram`: SCRAM-SHA-512 users with their passwords, there from the first start. `client`: librdkafka's options of
        one whom the broker lets in, for `answers`.
        """
        super().__init__(folder, detached=detached)
        self.cache = cache
        self.port = port or free_port()
        self._controller_port = free_port()
        self._properties = dict(properties or {})
        self._scram = dict(scram or {})
        self._client = dict(client or {})
        self._heap_mb = heap_mb

    @property
    def bootstrap_servers(self) -> str:
        return f"{HOST}:{self.port}"

    def properties(self) -> dict[str, str]:
        """What server.properties says. Listener names are keys, so TLS and SASL come in by `properties`."""
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{HOST}:{self._controller_port}",
            "listeners": f"PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{self.port}",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.folder / "data"),
            "num.partitions": "4",
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": "0",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            **self._properties,
        }

    def override(self, properties: Mapping[str, str]) -> None:
        """More of server.properties, from the next start on: what is known only when the ports are."""
        self._properties.update(properties)

    def start(self, timeout_s: float = 90.0) -> None:
        """Fetch the jars if they are missing, format the storage if it is new, start, wait for the first answer."""
        if self.pid is None:
            self._jars = fetch_jars(self.cache)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file.write_text("".join(f"{name}={value}\n" for name, value in self.properties().items()))
            if not (self.folder / "data" / "meta.properties").exists():
                self._format()
        super().start(timeout_s)

    def command(self) -> Sequence[str]:
        return [*self._java(), f"-Xmx{self._heap_mb}m", "kafka.Kafka", str(self._file)]

    def answers(self) -> bool:
        options = {"bootstrap.servers": self.bootstrap_servers, "log_level": 0, "socket.timeout.ms": 2_000}
        client = AdminClient({**options, **self._client})
        with contextlib.suppress(KafkaException):
            return bool(client.list_topics(timeout=2).brokers)
        return False

    @property
    def _file(self) -> Path:
        return self.folder / "server.properties"

    def _java(self) -> list[str]:
        java = shutil.which("java")
        if java is None:
            raise PartMissing("java is not on PATH: Apache Kafka 4 needs Java 17 or newer")
        return [java, "-cp", f"{self._jars}/*", LOG_LEVEL]

    def _format(self) -> None:
        tool = [*self._java(), "kafka.tools.StorageTool"]
        # As `random-uuid` makes it, without the second that a Java machine takes to start. A leading dash would be an option.
        cluster = "L" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
        users = [f"SCRAM-SHA-512=[name={name},password={password}]" for name, password in self._scram.items()]
        added = [argument for user in users for argument in ("--add-scram", user)]
        made = subprocess.run(
            [*tool, "format", "-t", cluster, "-c", str(self._file), *added],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise NotReady(f"storage was not formatted: {made.stdout}{made.stderr}")
