"""Creating and checking topics through the broker's own answers. Nothing here changes a topic that exists.

Faust declares no topics (`topic_allow_declare=False`): its partition counts come from its assignor, and a topic made on
first use has whatever the broker defaults to. The embedded mock broker answers no CreateTopics; `Embedded` creates
topics itself, and `ensure_topics` then finds them and only checks.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource  # the public name is not declared as exported
from confluent_kafka.cimpl import NewTopic

from streams.topic_plan import TopicSpec

POLL_S = 0.05


class TopicsError(RuntimeError):
    """Root of this module's errors; `reason` is bounded and serves as a metric label."""

    reason = "topics"


class BrokerUnreachable(TopicsError):
    """No broker answered in time."""

    reason = "broker_unreachable"


class TopicMissing(TopicsError):
    """A topic does not exist."""

    reason = "topic_missing"


class PartitionsDiffer(TopicsError):
    """A topic has another partition count than wanted, or two that are joined have different ones."""

    reason = "partitions_differ"


class CreateRefused(TopicsError):
    """The broker did not create a topic; the text carries its reason."""

    reason = "create_refused"


@dataclass(frozen=True, slots=True)
class EnsureReport:
    """Names of topics that were created and that were there already, both in the order asked for."""

    created: tuple[str, ...]
    existing: tuple[str, ...]


def admin_client(bootstrap_servers: str, settings: Mapping[str, str] | None = None) -> AdminClient:
    """An admin client. `settings` are librdkafka's (TLS, SASL); they are never logged."""
    return AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 3, **(settings or {})})


def describe_partitions(admin: AdminClient, *, timeout_s: float = 10.0) -> dict[str, int]:
    """Partition count of every topic that has a leader for each partition; internal topics too.

    Asks for all topics: asking for a single name creates it on brokers that create on demand, the mock broker among
    them.
    """
    try:
        metadata = admin.list_topics(timeout=timeout_s)
    except KafkaException as error:
        raise BrokerUnreachable(f"no answer from the broker within {timeout_s:g} s: {reason_of(error)}") from error
    return {
        name: len(topic.partitions)
        for name, topic in metadata.topics.items()
        if topic.error is None and all(partition.leader >= 0 for partition in topic.partitions.values())
    }


def check_partitions(specs: Iterable[TopicSpec], found: Mapping[str, int]) -> None:
    """Raise `TopicMissing` or `PartitionsDiffer`, naming every fault at once, unless `found` has what `specs` want."""
    missing = [spec.name for spec in specs if spec.name not in found]
    if missing:
        raise TopicMissing(f"missing: {', '.join(missing)}; create them with: leadline topics create")
    differing = [
        f"{spec.name} has {found[spec.name]}, wanted {spec.partitions}"
        for spec in specs
        if found[spec.name] != spec.partitions
    ]
    if differing:
        raise PartitionsDiffer(
            f"partition counts differ: {'; '.join(differing)}. A count is never changed under running producers: keys "
            "would move to other partitions. Set the configuration to what exists, or use another topic prefix"
        )


def check_copartitioned(topics: Collection[str], found: Mapping[str, int]) -> int:
    """The one partition count of topics that are joined; `TopicMissing` or `PartitionsDiffer` otherwise."""
    missing = [name for name in topics if name not in found]
    if missing:
        raise TopicMissing(f"missing: {', '.join(missing)}; create them with: leadline topics create")
    counts = {name: found[name] for name in topics}
    if len(set(counts.values())) != 1:
        each = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise PartitionsDiffer(f"joined topics need the same partition count: {each}")
    return next(iter(counts.values()))


def ensure_topics(admin: AdminClient, specs: Collection[TopicSpec], *, timeout_s: float = 30.0) -> EnsureReport:
    """Create what is missing, then wait until every partition has a leader, then check all counts.

    Safe to run twice and from several processes at once. Existing topics are left as they are; a differing count raises
    `PartitionsDiffer` before anything is created.
    """
    deadline = time.monotonic() + timeout_s
    found = describe_partitions(admin, timeout_s=timeout_s)
    existing = [spec for spec in specs if spec.name in found]
    check_partitions(existing, found)
    missing = [spec for spec in specs if spec.name not in found]
    if not missing:
        return EnsureReport((), tuple(spec.name for spec in existing))
    created = create_topics(admin, missing, timeout_s=timeout_s)
    while True:
        found = describe_partitions(admin, timeout_s=timeout_s)
        try:
            check_partitions(specs, found)
        except TopicsError:
            # A fresh topic shows up late, or with part of its partitions, until all brokers have heard of it.
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_S)
        else:
            return EnsureReport(tuple(created), tuple(spec.name for spec in specs if spec.name not in created))


def create_topics(admin: AdminClient, specs: Collection[TopicSpec], *, timeout_s: float = 30.0) -> list[str]:
    """Ask the broker to create `specs`; returns the names that this call created (another process may have been
    faster).
    """
    wanted = [
        NewTopic(
            spec.name,
            num_partitions=spec.partitions,
            replication_factor=spec.replication,
            config=dict(spec.settings),
        )
        for spec in specs
    ]
    created: list[str] = []
    refused: list[str] = []
    for name, future in admin.create_topics(wanted, operation_timeout=timeout_s, request_timeout=timeout_s).items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                refused.append(f"{name}: {reason_of(error)}")
        else:
            created.append(name)
    if refused:
        raise CreateRefused(
            f"not created: {'; '.join(refused)}. (The embedded broker answers no such request: it is given its topics "
            "at start)"
        )
    return created


def describe_settings(
    admin: AdminClient, topics: Collection[str], *, timeout_s: float = 10.0
) -> dict[str, dict[str, str]]:
    """Topic settings as the broker holds them, name to value. The mock broker does not answer this."""
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in topics]
    settings: dict[str, dict[str, str]] = {}
    for resource, future in admin.describe_configs(resources, request_timeout=timeout_s).items():
        try:
            entries = future.result()
        except KafkaException as error:
            raise TopicsError(f"{resource.name}: settings not described: {reason_of(error)}") from error
        settings[resource.name] = {name: str(entry.value) for name, entry in entries.items()}
    return settings


def differing_settings(specs: Iterable[TopicSpec], found: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Settings that are not as wanted, a line each: `leadline doctor` shows them; none is an error."""
    return [
        f"{spec.name}: {name} is {found[spec.name].get(name)}, wanted {value}"
        for spec in specs
        if spec.name in found
        for name, value in spec.settings.items()
        if found[spec.name].get(name) != value
    ]


def reason_of(error: KafkaException) -> str:
    """The broker's words without the exception's wrapping."""
    return str(error.args[0].str())
