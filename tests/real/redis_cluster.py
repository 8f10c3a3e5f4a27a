"""A Redis Cluster on loopback: masters with slots in equal parts, each with as many replicas as wanted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import redis

from streams.embedded.embedded_redis import HOST, free_port
from tests.real.redis_server import RealRedis, Tls

SLOTS = 16_384
NODE_TIMEOUT_MS = 1500  # after which the others take a silent node for dead
SETTINGS = {
    "cluster-enabled": "yes",
    "cluster-node-timeout": str(NODE_TIMEOUT_MS),
    "cluster-replica-validity-factor": "0",  # a replica may always stand for election
    "repl-diskless-sync-delay": "0",
    "databases": "1",
}


class RedisCluster:
    """`masters` nodes with `replicas` each. Use as a context manager."""

    def __init__(
        self,
        folder: Path,
        masters: int = 3,
        replicas: int = 0,
        *,
        settings: Mapping[str, str] | None = None,
        tls: Tls | None = None,
        client: Mapping[str, Any] | None = None,
    ) -> None:
        self._masters = masters
        self._client = {**(tls.client() if tls else {}), **(client or {})}
        self.nodes: list[RealRedis] = []
        for number in range(masters * (1 + replicas)):
            own = {**SETTINGS, "cluster-port": str(free_port()), **(settings or {})}
            node = RealRedis(folder / f"node-{number}", settings=own, tls=tls, client=client)
            node.folder.mkdir(parents=True)
            self.nodes.append(node)

    @property
    def url(self) -> str:
        """Of a node that runs; it knows the others."""
        return next(node for node in self.nodes if node.pid is not None).redis_url

    def client(self, node: RealRedis) -> redis.Redis:
        return redis.Redis(HOST, node.port, decode_responses=True, socket_timeout=5, **self._client)

    def ask(self, node: RealRedis, *command: str | int) -> Any:
        with self.client(node) as client:
            return client.execute_command(*command)

    def __enter__(self) -> Self:
        try:
            for node in self.nodes:
                node.start()
            self._form()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def _form(self) -> None:
        masters, replicas = self.nodes[: self._masters], self.nodes[self._masters :]
        for number, node in enumerate(masters):
            first, last = SLOTS * number // self._masters, SLOTS * (number + 1) // self._masters - 1
            self.ask(node, "CLUSTER", "ADDSLOTSRANGE", first, last)
        for number, node in enumerate(self.nodes):
            self.ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        with self.client(self.nodes[0]) as first_node:
            for node in self.nodes[1:]:
                with self.client(node) as other:
                    bus = int(other.config_get("cluster-port")["cluster-port"])
                first_node.execute_command("CLUSTER MEET", HOST, node.port, bus)
        self.wait(lambda: all(len(self.known(node)) == len(self.nodes) for node in self.nodes), "did not meet")
        for number, node in enumerate(replicas):
            master = masters[number % self._masters]
            self.ask(node, "CLUSTER", "REPLICATE", self.ask(master, "CLUSTER", "MYID"))
        self.wait_until_whole()

    def known(self, node: RealRedis) -> list[str]:
        """A line for each node that this one has shaken hands with."""
        said: Any = self.ask(node, "CLUSTER", "NODES")
        if isinstance(said, dict):  # as redis-py reads it
            return [f"{where} {told['flags']}" for where, told in said.items() if "handshake" not in told["flags"]]
        return [line for line in str(said).splitlines() if "handshake" not in line]

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"the cluster {what} within {seconds:g} s")
            time.sleep(0.05)

    def state(self, node: RealRedis) -> str:
        """`ok`, or `fail` while the node knows of a slot that nobody serves."""
        with self.client(node) as client:
            return str(client.cluster("info").get("cluster_state"))

    def wait_until_whole(self) -> None:
        """Every slot is served, every running replica in step."""

        def whole() -> bool:
            for node in self.nodes:
                if node.pid is None:
                    continue
                with self.client(node) as client:
                    try:
                        if self.state(node) != "ok":
                            return False
                        told = client.info("replication")
                    except redis.RedisError:
                        return False
                if told["role"] == "slave" and told["master_link_status"] != "up":
                    return False
            return True

        self.wait(whole, "was not whole")

    def master_of(self, key: str) -> RealRedis:
        """The node that serves a key now."""
        running = [node for node in self.nodes if node.pid is not None]
        slot = int(self.ask(running[0], "CLUSTER", "KEYSLOT", key))
        for node in running:
            with self.client(node) as client:
                if client.info("replication")["role"] != "master":
                    continue
            for first, last, *_ in self._slots(node):
                if first <= slot <= last:
                    return node
        raise AssertionError(f"nobody serves {key}")

    def _slots(self, node: RealRedis) -> list[tuple[int, int]]:
        """Ranges that the node itself serves."""
        own = next(line for line in self._raw_nodes(node) if "myself" in line)
        ranges = [part.split("-") for part in own.split()[8:] if not part.startswith("[")]
        return [(int(part[0]), int(part[-1])) for part in ranges]

    def _raw_nodes(self, node: RealRedis) -> list[str]:
        with self.client(node) as client:
            client.response_callbacks.pop("CLUSTER NODES", None)
            return str(client.execute_command("CLUSTER NODES")).splitlines()

    def replica_of(self, master: RealRedis) -> RealRedis:
        for node in self.nodes:
            if node is master or node.pid is None:
                continue
            with self.client(node) as client:
                told = client.info("replication")
            if told["role"] == "slave" and int(told["master_port"]) == master.port:
                return node
        raise AssertionError(f"the node at {master.port} has no replica")

    def hand_over(self, key: str) -> RealRedis:
        """The replica of the key's master takes its place, in step, while clients go on. The new master."""
        replica = self.replica_of(self.master_of(key))
        self.ask(replica, "CLUSTER", "FAILOVER")
        self.wait(lambda: self.master_of(key) is replica, "did not hand over")
        return replica

    def lose(self, key: str) -> RealRedis:
        """The key's master is killed; its replica is elected by the others. The new master."""
        master = self.master_of(key)
        replica = self.replica_of(master)
        master.kill()

        def elected() -> bool:
            with self.client(replica) as client:
                return bool(client.info("replication")["role"] == "master")

        self.wait(elected, "did not elect the replica")
        return replica
