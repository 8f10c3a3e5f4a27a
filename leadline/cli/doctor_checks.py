"""The checks of `leadline doctor`, each a function from the configuration to findings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from leadline.config import Config, ConfigError
from sinks.registry import SinkConfigError, parse_sinks
from streams.store.redis_client import shown
from streams.store.store import Store, open_store
from streams.store.tables import StoreError, StoreMisconfigured
from streams.transport.configured_topics import topic_specs
from streams.transport.topics import (
    BrokerRefuses,
    BrokerUnreachable,
    TopicsError,
    admin_client,
    check_copartitioned,
    describe_partitions,
    describe_settings,
    differing_settings,
)

BROKER_WAIT_S = 5.0
OLDEST_REDIS = (6, 2)
FULL_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `mend` says what to do, where there is something to do."""

    name: str
    verdict: Literal["ok", "warn", "fail"]
    detail: str
    mend: str = ""

    def row(self) -> dict[str, str]:
        return {"name": self.name, "verdict": self.verdict, "detail": self.detail, "mend": self.mend}


def examine(config: Config) -> list[Finding]:
    """Everything, in the order in which it should be mended."""
    return [
        Finding("configuration", "ok", f"valid; models named: {', '.join(config.models) or 'none, defaults for all'}"),
        *references(config),
        sinks(config),
        *broker(config),
        *store(config),
    ]


def references(config: Config) -> Iterator[Finding]:
    """Every configured reference, read as the worker reads it."""
    named = {model_id: model for model_id, model in config.models.items() if model.reference is not None}
    if not named:
        return
    from streams.baselines.reference_files import read_reference
    from streams.counting.features import BadReference

    for model_id, model in named.items():
        assert model.reference is not None  # chosen by it
        try:
            found = read_reference(
                model.reference,
                task=model.task,
                positive_label=model.positive_label,
                threshold=model.threshold,
                business=model.business,
                probes=model.probes,
                resources=model.resources,
            )
        except (BadReference, OSError) as error:
            yield Finding(
                f"reference of {model_id}",
                "fail",
                str(error),
                f"build one with `leadline reference build`, name it under models.{model_id}.reference",
            )
            continue
        words = f"{model.reference.name}: {found.task}, {found.rows:,} rows, {len(found.features)} features"
        yield Finding(f"reference of {model_id}", "ok", words)


def sinks(config: Config) -> Finding:
    """Whether `leadline deliver` could start."""
    if not config.sinks:
        return Finding(
            "sinks",
            "warn",
            "none: alerts go to the terminal of `leadline deliver` alone",
            "add a list `sinks:` to the configuration",
        )
    try:
        parsed = parse_sinks(config.sinks)
    except SinkConfigError as error:
        return Finding("sinks", "fail", str(error), "mend the entries that are named")
    return Finding("sinks", "ok", ", ".join(sink.label for sink in parsed))


def broker(config: Config) -> Iterator[Finding]:
    """The broker, its topics, their partition counts and settings."""
    kafka = config.kafka
    secured = kafka.security.username is not None
    try:
        admin = admin_client(kafka.bootstrap_servers, {"log_level": 0, **kafka.security.librdkafka()})
        found = describe_partitions(admin, timeout_s=BROKER_WAIT_S)
    except (BrokerRefuses, ConfigError) as error:
        yield Finding("broker", "fail", str(error), "correct the keys that are named")
        return
    except BrokerUnreachable as error:
        mend = f"docker compose up, or make kafka-up, starts one; if it runs there: does it speak {kafka.security.protocol}?"
        yield Finding("broker", "fail", str(error), mend)
        return
    user = f", as {kafka.security.username}" if secured else ""
    yield Finding("broker", "ok", f"{kafka.bootstrap_servers} ({kafka.security.protocol}{user})")
    specs = topic_specs(config)
    missing = [spec.name for spec in specs if spec.name not in found]
    if missing:
        mend = "leadline topics create"
        if secured:
            mend += ", or an ACL: a topic that this user may not describe looks to him as if it were not there"
        yield Finding("topics", "fail", f"missing: {', '.join(missing)}", mend)
    else:
        yield Finding("topics", "ok", f"all {len(specs)} exist")
    for pair in ((kafka.topics.predictions, kafka.topics.labels), (kafka.topics.changes, kafka.topics.digests)):
        if set(pair) & set(missing):
            continue
        name = f"partitions of {pair[0]} and {pair[1]}"
        try:
            count = check_copartitioned(pair, found)
        except TopicsError as error:
            yield Finding(
                name,
                "fail",
                str(error),
                "make one of them anew with the other's count: the join works partition by partition",
            )
            continue
        if count == kafka.partitions:
            yield Finding(name, "ok", f"{count} each")
        else:
            yield Finding(
                name,
                "warn",
                f"{count} each, kafka.partitions says {kafka.partitions}",
                f"set kafka.partitions to {count}",
            )
    try:
        settings = describe_settings(
            admin, [spec.name for spec in specs if spec.name in found], timeout_s=BROKER_WAIT_S
        )
    except TopicsError:
        return  # the embedded broker does not tell, and needs none
    if differing := differing_settings(specs, settings):
        yield Finding("topic settings", "warn", "\n".join(differing), "kafka-configs --alter, unless it is meant so")


def store(config: Config) -> Iterator[Finding]:
    """Redis, and what workers say of themselves there."""
    url = config.redis.url.get_secret_value()
    try:
        with open_store(url) as opened:
            yield Finding("Redis", "ok", shown(url))
            yield from server(opened)
            yield from workers(opened, config.redis.prefix)
    except StoreMisconfigured as error:
        yield Finding("Redis", "fail", str(error), "set redis.url, or the user's rights")
    except StoreError as error:
        yield Finding("Redis", "fail", str(error), "docker compose up, or make kafka-up, starts one")


def server(opened: Store) -> Iterator[Finding]:
    """Version, eviction, durability, memory; on a Cluster of every node, what is equal said once."""
    nodes = opened.info("everything")
    where: dict[Finding, list[str]] = {}
    for node, told in nodes.items():
        for finding in of_node(told):
            where.setdefault(finding, []).append(node)
    for finding, found_at in where.items():
        if len(nodes) == 1:
            yield finding
        elif len(found_at) == len(nodes):
            yield replace(finding, detail=f"{finding.detail} (all {len(nodes)} nodes)")
        else:
            yield replace(finding, detail=f"{finding.detail} (node {', '.join(found_at)})")
    if len(nodes) > 1:
        yield from cluster(list(nodes.values()))


def cluster(nodes: list[dict[str, Any]]) -> Iterator[Finding]:
    """Whether every part of the state has a second home."""
    primaries = [node for node in nodes if node.get("role") == "master"]
    alone = sum(not node.get("connected_slaves") for node in primaries)
    words = f"{len(primaries)} primaries, {len(nodes) - len(primaries)} others"
    if alone:
        mend = "add a replica to each: while such a node is away, the partitions whose state it holds wait"
        yield Finding("Redis Cluster", "warn", f"{words}; primaries without a replica: {alone}", mend)
    else:
        yield Finding("Redis Cluster", "ok", words)


def of_node(node: dict[str, Any]) -> Iterator[Finding]:
    """What INFO of one node tells."""
    if not node:
        yield Finding(
            "Redis node", "warn", "does not answer", "start it, or make the Cluster forget it (CLUSTER FORGET)"
        )
        return
    version = str(node.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST_REDIS:
        yield Finding("Redis version", "fail", version, "use Redis 6.2 or later, or Valkey")
    else:
        yield Finding("Redis version", "ok", version)
    policy = node.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        yield Finding("Redis eviction", "ok", "noeviction")
    else:
        mend = "redis-cli CONFIG SET maxmemory-policy noeviction, and in its configuration file"
        yield Finding("Redis eviction", "fail", f"{policy}: an evicted row is a prediction lost in silence", mend)
    if node.get("aof_enabled"):
        yield Finding("Redis durability", "ok", "append-only file")
    else:
        mend = "redis-cli CONFIG SET appendonly yes, and in its configuration file"
        words = "no append-only file: a restart loses state, and the worker will refuse to go on"
        yield Finding("Redis durability", "warn", words, mend)
    limit, used = node.get("maxmemory") or 0, node.get("used_memory") or 0
    if limit and used > FULL_SHARE * limit:
        words = f"{used / limit:.0%} of maxmemory is used"
        yield Finding("Redis memory", "warn", words, "give it more, or shorten join.delay_window")


def workers(opened: Store, prefix: str) -> Iterator[Finding]:
    """Workers of the last minute."""
    known = list(opened.keys(f"{prefix}:worker:*"))
    if not known:
        yield Finding("workers", "warn", "none is running", "leadline run")
    for key in known:
        view = opened.fields(key)
        name = f"worker {key.rpartition(':worker:')[2]}"
        words = f"{view.get('state')}, lag {view.get('lag')}, {view.get('events_per_second')} events/s"
        if view.get("healthy") != "yes":
            yield Finding(
                name, "warn", f"{words}: a partition stands still", "read its log; its supervisor should restart it"
            )
        elif int(view.get("data_gaps") or 0):
            yield Finding(
                name,
                "warn",
                f"{words}; data gaps: {view['data_gaps']}",
                "raise the topics' retention.ms: data were gone before they were read",
            )
        elif float(view.get("misplaced_keys") or 0):
            yield Finding(
                name,
                "warn",
                f"{words}; keys in wrong partitions: {float(view['misplaced_keys']):.1%}",
                "a producer does not partition as Java does: docs/events.md, Keys and partitions",
            )
        else:
            yield Finding(name, "ok", words)
