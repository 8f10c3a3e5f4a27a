"""The topics of one installation, as its configuration names them. Apart from the worker, so that asking for them loads no statistics."""

from __future__ import annotations

from collections.abc import Mapping

from leadline.config import Config
from streams.transport.topic_plan import MIB, TopicSpec, plan_topics
from streams.transport.topics import TopicMissing, missing_words

MAX_DIGEST_BYTES = 8 * MIB


def topic_specs(config: Config) -> tuple[TopicSpec, ...]:
    """All topics of an installation: the six, and the one for alerts that a sink refused."""
    kafka = config.kafka
    planned = plan_topics(
        kafka.topics,
        source_partitions=kafka.partitions,
        digest_partitions=kafka.partitions,
        replication=kafka.replication_factor,
        max_message_bytes=max(kafka.max_message_bytes, MIB),
        max_digest_bytes=MAX_DIGEST_BYTES,
    )
    alerts = next(spec for spec in planned if spec.name == kafka.topics.alerts)
    undelivered = TopicSpec(
        name=f"{kafka.topics.alerts}.undelivered",
        partitions=1,
        replication=alerts.replication,
        settings=alerts.settings,
    )
    return (*planned, undelivered)


def check_present(config: Config, found: Mapping[str, int]) -> None:
    """`TopicMissing` unless every topic exists. Counts may differ from the configuration's, which are for creating."""
    if missing := [spec.name for spec in topic_specs(config) if spec.name not in found]:
        raise TopicMissing(missing_words(missing, secured=config.kafka.security.username is not None))
