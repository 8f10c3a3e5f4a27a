"""The whole way in one process: the user's configuration as a worker's settings, and its cores.

`run` is the life of a worker on the configured broker and Redis; `streams.embedded.run_embedded` brings both along.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from leadline.config import Config
from streams.baselines.reference_book import ReferenceBook
from streams.core.stage import Send
from streams.observe.partitioner import Finding
from streams.store.redis_client import shown
from streams.store.tables import Kind
from streams.transport.beginning import DataGap
from streams.transport.configured_topics import MAX_DIGEST_BYTES, check_present, topic_specs
from streams.transport.settings import Topics, WorkerSettings
from streams.transport.topics import admin_client, describe_partitions
from streams.worker.factories import JudgeFactory, ObserveFactory
from streams.worker.gap_alert import gap_alert
from streams.worker.key_alert import key_alert
from streams.worker.learned import LearnedBaselines
from streams.worker.process import run_worker

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0  # others hear by it that somebody has left, so takeover takes at least as long
IDLE_FOLD_S = 2.5  # a little more than the views' own pause, so that what the last batch changed is shown
BOTH: frozenset[Kind] = frozenset({"observe", "judge"})


def worker_settings(
    config: Config,
    *,
    roles: frozenset[Kind] = BOTH,
    worker_id: str | None = None,
    instance_id: str | None = None,
    log_id: str = "",
    health_file: Path | None = None,
) -> WorkerSettings:
    """The configuration in the worker's words."""
    kafka, topics = config.kafka, config.kafka.topics
    session_s = kafka.session_timeout
    settings = WorkerSettings(
        bootstrap_servers=kafka.bootstrap_servers,
        redis_url=config.redis.url.get_secret_value(),
        group=kafka.group,
        topics=Topics(
            predictions=topics.predictions, labels=topics.labels, changes=topics.changes, digests=topics.digests
        ),
        roles=roles,
        key_prefix=config.redis.prefix,
        group_instance_id=instance_id,
        session_timeout_s=session_s,
        heartbeat_s=min(HEARTBEAT_S, session_s / 3),
        idle_fold_s=IDLE_FOLD_S,
        accept_new_state=config.accept_new_state,
        log_id=log_id,
        health_file=health_file,
        kafka=kafka.security.librdkafka(),
        producer={"message.max.bytes": MAX_DIGEST_BYTES},
    )
    if worker_id is None:
        return settings
    return replace(settings, worker_id=worker_id)


class GapTold:
    """The worker's hook for data that is gone: an alert, and `seen` for who must know of it."""

    def __init__(self, config: Config) -> None:
        self._topic = config.kafka.topics.alerts
        self.seen: list[DataGap] = []

    def __call__(self, gap: DataGap) -> Sequence[Send]:
        self.seen.append(gap)
        alert = gap_alert(gap)
        return [Send(self._topic, alert.incident_id.encode(), alert.model_dump_json().encode())]


class KeysTold:
    """The worker's hook for misplaced keys: an alert."""

    def __init__(self, config: Config) -> None:
        self._topic = config.kafka.topics.alerts

    def __call__(self, finding: Finding) -> Sequence[Send]:
        alert = key_alert(finding)
        return [Send(self._topic, alert.incident_id.encode(), alert.model_dump_json().encode())]


def run(
    config: Config,
    *,
    roles: frozenset[Kind] = BOTH,
    worker_id: str | None = None,
    instance_id: str | None = None,
    log_id: str = "",
    health_file: Path | None = None,
    on_gap: GapTold | None = None,
) -> int:
    """A worker until SIGTERM or SIGINT; the exit status.

    Before anything starts: `ConfigError` for a reference that cannot be read, `TopicsError` where the broker or a
    topic is missing, `StoreError` where Redis is.
    """
    settings = worker_settings(
        config, roles=roles, worker_id=worker_id, instance_id=instance_id, log_id=log_id, health_file=health_file
    )
    book = ReferenceBook(config)
    found = describe_partitions(admin_client(settings.bootstrap_servers, settings.kafka))
    check_present(config, found)
    with LearnedBaselines(config, book):
        log.info(
            "worker %s: group %s on %s, Redis %s",
            settings.worker_id,
            settings.group,
            settings.bootstrap_servers,
            shown(settings.redis_url),
        )
        observe = ObserveFactory(config, book, found[config.kafka.topics.digests])
        judge = JudgeFactory(config, book)
        return run_worker(
            settings,
            observe,
            judge,
            on_gap=on_gap or GapTold(config),
            on_keys=KeysTold(config),
        )


__all__ = ["BOTH", "GapTold", "run", "topic_specs", "worker_settings"]
