"""What all owners of one worker work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from streams.core.stage import Send, StageFactory
from streams.observe.partitioner import Finding
from streams.store.tables import Kind, Tables, View
from streams.transport.beginning import GapHook, no_alert
from streams.transport.intake import Intake
from streams.transport.settings import WorkerSettings
from streams.transport.topic_watch import TopicWatch
from streams.worker.outbox import Relay

KeyHook = Callable[[Finding], Sequence[Send]]


def no_key_alert(finding: Finding) -> Sequence[Send]:
    """Misplaced keys show in the worker's status only."""
    return ()


@dataclass(slots=True)
class Counters:
    """Since the start of the process."""

    records: int = 0
    batches: int = 0
    commits: int = 0
    refused: int = 0
    rewinds: int = 0
    claims: int = 0
    gaps: int = 0


@dataclass(slots=True)
class Shared:
    """`views` collects what is to be shown, latest wins."""

    settings: WorkerSettings
    tables: Tables
    relay: Relay
    intake: Intake
    factories: Mapping[Kind, StageFactory]
    on_gap: GapHook = no_alert
    on_keys: KeyHook = no_key_alert
    watch: TopicWatch | None = None
    counters: Counters = field(default_factory=Counters)
    views: dict[str, View] = field(default_factory=dict)
