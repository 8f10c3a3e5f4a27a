"""Which topics Leadline uses, as values: names, partition counts, settings. Asks no broker; `streams.transport.topics` does."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

DAY_MS = 86_400_000
FOREVER_MS = -1
MIB = 1024 * 1024


class Names(Protocol):
    """The six names; `TopicNames` has them, and so has the configuration's `kafka.topics`."""

    @property
    def predictions(self) -> str: ...
    @property
    def labels(self) -> str: ...
    @property
    def changes(self) -> str: ...
    @property
    def digests(self) -> str: ...
    @property
    def alerts(self) -> str: ...
    @property
    def rejected(self) -> str: ...


@dataclass(frozen=True, slots=True)
class TopicNames:
    """Full topic names under one prefix, so that several installations share a cluster."""

    prefix: str = "leadline"

    @property
    def predictions(self) -> str:
        return f"{self.prefix}.predictions"

    @property
    def labels(self) -> str:
        return f"{self.prefix}.labels"

    @property
    def changes(self) -> str:
        return f"{self.prefix}.changes"

    @property
    def digests(self) -> str:
        return f"{self.prefix}.digests"

    @property
    def alerts(self) -> str:
        return f"{self.prefix}.alerts"

    @property
    def rejected(self) -> str:
        return f"{self.prefix}.rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """One wanted topic. `settings` are Kafka's topic configurations, as text."""

    name: str
    partitions: int
    replication: int = 1
    settings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if self.partitions < 1 or self.replication < 1:
            raise ValueError(
                f"topic {self.name}: {self.partitions} partitions, replication {self.replication}: at least 1 of each"
            )


def plan_topics(
    names: Names | None = None,
    *,
    source_partitions: int = 4,
    digest_partitions: int = 4,
    replication: int = 1,
    source_retention_ms: int = 7 * DAY_MS,
    alert_retention_ms: int = 30 * DAY_MS,
    changes_retention_ms: int = FOREVER_MS,
    max_message_bytes: int = MIB,
    max_digest_bytes: int = 8 * MIB,
) -> tuple[TopicSpec, ...]:
    """The six topics. Predictions and labels get the same count, because they are joined partition by partition.

    Changes share the digests' count: `judge` owns both by model. Alerts and rejected records need order within a key
    only. `source_retention_ms` bounds how long a worker may be away, not the delay window: Redis keeps what waits for
    its label.
    """
    names = names or TopicNames()

    def spec(name: str, partitions: int, retention_ms: int, max_bytes: int = max_message_bytes) -> TopicSpec:
        settings = {"retention.ms": str(retention_ms), "cleanup.policy": "delete", "max.message.bytes": str(max_bytes)}
        if name in (names.predictions, names.labels):
            # What `join.max_future` is held against. The default is the producer's clock, which is wrong together with
            # the events' stamps when a machine's clock is.
            settings["message.timestamp.type"] = "LogAppendTime"
        return TopicSpec(name=name, partitions=partitions, replication=replication, settings=MappingProxyType(settings))

    return (
        spec(names.predictions, source_partitions, source_retention_ms),
        spec(names.labels, source_partitions, source_retention_ms),
        spec(names.changes, digest_partitions, changes_retention_ms),
        spec(names.digests, digest_partitions, source_retention_ms, max_digest_bytes),
        spec(names.alerts, 1, alert_retention_ms),
        spec(
            names.rejected, 1, source_retention_ms, 2 * max_message_bytes
        ),  # original bytes and the reason around them
    )


def partition_counts(specs: Iterable[TopicSpec]) -> dict[str, int]:
    """Name to partition count: what the embedded broker is started with."""
    return {spec.name: spec.partitions for spec in specs}
