"""The whole way on a real Redis Cluster, and one node after another failing over under it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from pydantic import SecretStr

from leadline.cli.doctor_checks import server
from sinks.record import RedisRecordConfig
from streams.observe.partition_state import Checkpoint
from streams.store.redis_client import check_policy, connect
from streams.store.store import open_store
from streams.store.tables import Owner, StoreMisconfigured
from tests.leadline.cli_log import leadline
from tests.real.backend import Backend, Fresh
from tests.real.redis_cluster import RedisCluster
from tests.streams.fleet import until
from tests.streams.logs import make_log
from tests.streams.test_end_to_end import (
    JOIN_STATES,
    PARTITIONS,
    Way,
    assert_as_the_backtest_says,
    backtested,
    stop,
    wait_until_counted,
)


@dataclass(frozen=True)
class OnCluster(Backend):
    """The broker of another backend, with a Cluster, which has one database."""

    cluster_url: str = ""

    def fresh(self) -> Fresh:
        made = super().fresh()
        return Fresh(made.names, self.cluster_url, made.redis_prefix)


class ClusterWay(Way):
    """`Way`, reading from a Cluster."""

    def __init__(self, backend: OnCluster, folder: Path) -> None:
        super().__init__(backend, folder)
        self.store.close()
        self.client: Any = redis.RedisCluster.from_url(backend.cluster_url)

    def observed(self) -> Counter[str]:
        totals: Counter[str] = Counter()
        for partition in range(PARTITIONS):
            written = self._asked("hget", self.key(Owner("observe", partition)), "checkpoint")
            if written:
                kept = msgspec.msgpack.decode(written, type=Checkpoint)
                totals.update(kept.counts)
                totals.update({f"rejected:{reason}": n for reason, n in kept.rejected.items()})
        return totals

    def judged(self) -> dict[str, int]:
        shown = self._asked("hgetall", f"{self.config.redis.prefix}:model:risk") or {}
        return {name: int(shown.get(f"join:{name}".encode(), 0)) for name in JOIN_STATES}

    def _asked(self, command: str, *arguments: str) -> Any:
        """None while nobody serves the key."""
        try:
            return getattr(self.client, command)(*arguments)
        except redis.RedisError:
            return None

    def key(self, owner: Owner) -> str:
        return f"{self.config.redis.prefix}:i:{{{owner.tag}}}:meta"

    def close(self) -> None:
        super().close()
        self.client.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    # `always`: a node that restarts comes back with all that it has said yes to.
    with RedisCluster(tmp_path / "cluster", 3, 1, settings={"appendfsync": "always"}) as made:
        yield made


@pytest.fixture
def way(cluster: RedisCluster, embedded: Backend, tmp_path: Path) -> Iterator[ClusterWay]:
    backend = OnCluster(
        embedded.name, embedded.bootstrap_servers, embedded.redis_url, embedded.create_topics, cluster.url
    )
    (tmp_path / "way").mkdir()
    made = ClusterWay(backend, tmp_path / "way")
    yield made
    made.close()


@pytest.mark.kafka
@pytest.mark.slow
def test_nodes_of_a_cluster_fail_over_or_restart_one_after_another_and_no_figure_changes(
    way: ClusterWay, cluster: RedisCluster
) -> None:
    messages = way.write(make_log(31, 4000, every_s=4.0, new_wards=False))
    backtest = backtested(way)
    parts = 5
    each = len(messages) // parts + 1
    worker = way.start()

    def publish(part: int) -> None:
        """The next part, and wait until it is being counted."""
        before = sum(way.observed().values())
        way.publish(messages[part * each : (part + 1) * each])
        until(lambda: sum(way.observed().values()) > before, 90, way.told)

    observer, judge = Owner("observe", 0), Owner("judge", 1)
    publish(0)
    cluster.hand_over(way.key(observer))
    publish(1)
    lost = cluster.master_of(way.key(judge))
    cluster.lose(way.key(judge))
    publish(2)
    lost.start()  # comes back as a replica of the one that took its place
    cluster.wait_until_whole()
    alone = cluster.lose(way.key(observer))
    publish(3)
    alone.kill()  # nobody can take its place: whoever needs its slots waits
    other = next(node for node in cluster.nodes if node.pid is not None)
    cluster.wait(lambda: cluster.state(other) == "fail", "did not notice")
    way.publish(messages[4 * each :])
    alone.start()
    wait_until_counted(way, backtest, 120)
    assert worker.poll() is None, way.told()  # it has waited, not died
    shown_by_commands(way, messages[0][1].decode())
    stop(worker)
    assert_as_the_backtest_says(way, backtest)


def shown_by_commands(way: ClusterWay, request_id: str) -> None:
    """`status`, `request` and `doctor` on the Cluster."""
    status = leadline("status", "--json", cwd=way.folder)
    assert status.returncode == 0, status.stderr
    told = json.loads(status.stdout)
    assert [model["model_id"] for model in told["models"]] == ["risk"]
    assert {name: told["models"][0]["join"][name] for name in JOIN_STATES} == way.judged()
    assert len(told["joins"]) == PARTITIONS
    assert len(told["workers"]) == 1
    request = leadline("request", request_id, "--json", cwd=way.folder)
    assert request.returncode == 0, request.stderr
    assert json.loads(request.stdout)["model_id"] == "risk"
    doctor = leadline("doctor", "--json", cwd=way.folder)
    assert doctor.returncode == 0, doctor.stdout
    findings = {row["name"]: row for row in json.loads(doctor.stdout)["findings"]}
    assert findings["Redis Cluster"]["verdict"] == "warn"  # two of its nodes were killed, one came back
    assert "3 primaries, 2 others; primaries without a replica: 1" in findings["Redis Cluster"]["detail"]


@pytest.mark.kafka
def test_every_node_is_looked_at_and_the_delivery_record_lies_on_all(tmp_path: Path) -> None:
    with RedisCluster(tmp_path, 3) as cluster:
        with open_store(cluster.url) as opened:
            found = {finding.name: finding for finding in server(opened)}
        assert "all 3 nodes" in found["Redis eviction"].detail
        assert "primaries without a replica: 3" in found["Redis Cluster"].detail
        asyncio.run(connect_and_check(cluster.url))
        last = cluster.nodes[-1]
        cluster.ask(last, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        with open_store(cluster.url) as opened:
            faults = [finding for finding in server(opened) if finding.verdict == "fail"]
        assert [(fault.name, str(last.port) in fault.detail) for fault in faults] == [("Redis eviction", True)]
        with pytest.raises(StoreMisconfigured, match=f"{last.port}.*allkeys-lru"):
            asyncio.run(connect_and_check(cluster.url))

        async def deliveries() -> None:
            names = [f"alert-{number}" for number in range(30)]
            record = RedisRecordConfig(url=SecretStr(cluster.url)).open()
            for name in names:
                await record.mark("sink", name)
            await record.close()
            after = RedisRecordConfig(url=SecretStr(cluster.url)).open()
            assert [await after.seen("sink", name) for name in names] == [True] * len(names)
            assert not await after.seen("sink", "another")
            await after.close()

        asyncio.run(deliveries())
        assert all(int(cluster.ask(node, "DBSIZE")) > 0 for node in cluster.nodes)


async def connect_and_check(url: str) -> None:
    client = await connect(url)
    try:
        await check_policy(client, url)
    finally:
        await client.aclose()
