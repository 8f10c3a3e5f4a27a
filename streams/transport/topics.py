"""Creating and checking topics through the broker's own answers. Nothing here changes a topic that exists.

Faust declares no topics (`topic_allow_declare=False`): its partition counts come from its assignor, and a topic made on
first use has whatever the broker defaults to. The embedded mock broker answers no CreateTopics; `Embedded` creates
topics itself, and `ensure_topics` then finds them and only checks.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource  # the public name is not declared as exported
from confluent_kafka.cimpl import NewTopic

from leadline.kafka_refusals import RIGHTS, explained, final, named
from streams.transport.topic_plan import TopicSpec

POLL_S = 0.05
FIRST_ANSWER_S = 2.0  # then it is asked whether there is anything to wait for


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


class BrokerRefuses(TopicsError):
    """The broker, or its certificate, is not one for us; waiting will not help."""

    reason = "broker_refuses"


class Admin(AdminClient):
    """An admin client that remembers what its connections heard: a call of its own fails with `timed out` alone."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.where = str(options["bootstrap.servers"])
        self.heard: list[KafkaError] = []
        with_ears: dict[str, Any] = {**options, "error_cb": self.heard.append}
        super().__init__(with_ears)

    def refusal(self) -> KafkaError | None:
        """The last error that waiting does not mend, if there was any."""
        self.poll(0)
        return next((error for error in reversed(self.heard) if final(error)), None)

    def complaint(self) -> str | None:
        """The first thing that a connection said, in its words."""
        said = (error for error in self.heard if error.code() != KafkaError._ALL_BROKERS_DOWN)
        return next((explained(error) for error in said), None)


def admin_client(bootstrap_servers: str, settings: Mapping[str, Any] | None = None) -> Admin:
    """An admin client. `settings` are librdkafka's (TLS, SASL); they are never logged. `BrokerRefuses` for unusable ones."""
    try:
        return Admin({"bootstrap.servers": bootstrap_servers, "log_level": 2, **(settings or {})})
    except KafkaException as error:
        raise BrokerRefuses(f"no client can be made: {named(reason_of(error))}") from error


def describe_partitions(admin: AdminClient, *, timeout_s: float = 10.0) -> dict[str, int]:
    """Partition count of every topic that has a leader for each partition; internal topics too.

    Asks for all topics: asking for a single name creates it on brokers that create on demand, the mock broker among
    them. Raises `BrokerUnreachable`, or `BrokerRefuses` as soon as that is known.
    """
    deadline = time.monotonic() + timeout_s
    patience = min(FIRST_ANSWER_S, timeout_s)
    while True:
        try:
            metadata = admin.list_topics(timeout=patience)
            break
        except KafkaException as error:
            refusal = admin.refusal() if isinstance(admin, Admin) else None
            if refusal is not None:
                raise BrokerRefuses(f"Kafka: {explained(refusal)}") from error
            patience = deadline - time.monotonic()
            if patience <= 0:
                where = f" at {admin.where}" if isinstance(admin, Admin) else ""
                why = (admin.complaint() if isinstance(admin, Admin) else None) or reason_of(error)
                words = f"no broker answered{where} within {timeout_s:g} s ({why})"
                raise BrokerUnreachable(
                    f"{words}; look at kafka.bootstrap_servers and kafka.security.protocol"
                ) from error
    return {
        name: len(topic.partitions)
        for name, topic in metadata.topics.items()
        if topic.error is None and all(partition.leader >= 0 for partition in topic.partitions.values())
    }


def missing_words(missing: Collection[str], *, secured: bool = False) -> str:
    """`secured`: the broker knows who asks. It does not tell him of topics that he may not describe."""
    words = f"missing: {', '.join(missing)}; create them with: leadline topics create"
    return f"{words}, or let the user of kafka.security.username describe them ({RIGHTS})" if secured else words


def check_partitions(specs: Iterable[TopicSpec], found: Mapping[str, int]) -> None:
    """Raise `TopicMissing` or `PartitionsDiffer`, naming every fault at once, unless `found` has what `specs` want."""
    if missing := [spec.name for spec in specs if spec.name not in found]:
        raise TopicMissing(missing_words(missing))
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
    if missing := [name for name in topics if name not in found]:
        raise TopicMissing(missing_words(missing))
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
    refused: dict[str, list[str]] = {}
    for name, future in admin.create_topics(wanted, operation_timeout=timeout_s, request_timeout=timeout_s).items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                why = explained(error.args[0])
                if error.args[0].code() == KafkaError._TIMED_OUT:
                    why += " (the embedded broker answers no such request: it is given its topics at start)"
                refused.setdefault(why, []).append(name)
        else:
            created.append(name)
    if refused:
        raise CreateRefused("; ".join(f"not created: {', '.join(names)}: {why}" for why, names in refused.items()))
    return created


def describe_settings(
    admin: AdminClient, topics: Collection[str], *, timeout_s: float = 10.0
) -> dict[str, dict[str, str]]:
    """Topic settings as the broker holds them, name to value. The mock broker does not answer this."""
    if not topics:
        return {}  # confluent-kafka refuses to ask for nothing
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
