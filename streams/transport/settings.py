"""What a worker is told at its start, as plain values. `leadline.config` maps the user's YAML to it."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streams.store.tables import Kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Topics:
    """Names of the topics that a worker reads, by role."""

    predictions: str = "leadline.predictions"
    labels: str = "leadline.labels"
    changes: str = "leadline.changes"
    digests: str = "leadline.digests"

    def groups(self, roles: frozenset[Kind]) -> dict[Kind, tuple[str, ...]]:
        """Topics of each kind of owner; equal partitions of one group belong together."""
        known: dict[Kind, tuple[str, ...]] = {
            "observe": (self.predictions, self.labels),
            "judge": (self.changes, self.digests),
        }
        return {kind: topics for kind, topics in known.items() if kind in roles}

    def source(self, topic: str) -> str:
        """The role of a topic, as stages know it."""
        return {
            self.predictions: "predictions",
            self.labels: "labels",
            self.changes: "changes",
            self.digests: "digests",
        }[topic]


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSettings:
    """Times are seconds, sizes records unless the name says otherwise."""

    bootstrap_servers: str
    redis_url: str
    group: str = "leadline"
    topics: Topics = field(default_factory=Topics)
    roles: frozenset[Kind] = frozenset({"observe", "judge"})
    worker_id: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")
    key_prefix: str = "leadline"
    group_instance_id: str | None = None
    """Static membership: one per replica, so that a restart within the session timeout moves no partition."""
    session_timeout_s: float = 30.0
    heartbeat_s: float = 1.0
    claim_timeout_s: float = 120.0
    """How long claiming and loading all partitions of one assignment may take."""
    fetch_records: int = 10_000
    batch_records: int = 8_000
    """The most that one fold and one commit take in."""
    owners_at_once: int = 4
    """Batches of different owners in hand: one is computed while Redis works on another."""
    fairness_slack_s: float = 2.0
    """How far, in broker time, one topic of an owner may run ahead of another that has more to come."""
    outbox_bound: int = 20_000
    """Messages sent but not confirmed by Kafka, at which owners wait."""
    mirror_s: float = 1.0
    """Between commits to Kafka, which only lag tools read."""
    idle_fold_s: float | None = None
    """Call an owner's `fold` with no records after so long without any; None: never."""
    status_s: float = 1.0
    topics_s: float = 5.0
    """Between looks whether the topics are still the same, with as many partitions."""
    stall_s: float = 300.0
    """Without progress of a partition that has lag, or of the event loop, for so long, the process ends itself."""
    stop_s: float = 8.0
    """Stopping takes at most so long before the process ends itself."""
    health_file: Path | None = None
    """Renewed every second for the probe of a supervisor (`leadline health`)."""
    accept_new_state: bool = False
    """Start although Kafka knows commits of this group and Redis nothing: the log is read from its beginning."""
    log_id: str = ""
    """Names the log that offsets belong to. With a new name (a broker that forgets at every start) state is kept,
    offsets begin anew.
    """
    kafka: Mapping[str, Any] = field(default_factory=dict)
    """librdkafka options for all clients: security.protocol, sasl.*, ssl.*."""
    consumer: Mapping[str, Any] = field(default_factory=dict)
    producer: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.roles:
            raise ValueError("roles: at least one of observe, judge")
        if self.heartbeat_s * 2 > self.session_timeout_s:
            raise ValueError("heartbeat_s must be at most half of session_timeout_s")
