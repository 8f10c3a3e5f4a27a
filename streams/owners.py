"""Owners at work: claim, load, build; then check the chain, read, fold, commit, send; and claim again when a commit is refused."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from streams.chain import Part, Place
from streams.effects import merge, overlay
from streams.intake import Fetched, Intake
from streams.outbox import Relay
from streams.settings import WorkerSettings
from streams.stage import Effects, Send, Stage, StageFactory
from streams.tables import Change, Kind, Outcome, Outgoing, Owner, StoreUnavailable, Tables, View

log = logging.getLogger(__name__)

RETRY_S = 0.5


class StateMissing(Exception):
    """Redis knows nothing of an owner whose offsets Kafka knows; `reason` is the metric label."""

    reason = "state_missing"


class StateAhead(Exception):
    """The tables stand beyond the end of the log: the topic was made anew, or lost its tail."""

    reason = "state_ahead_of_log"


@dataclass(frozen=True, slots=True)
class DataGap:
    """The log no longer holds [first, end) of a partition that the tables have not seen."""

    topic: str
    partition: int
    first: int
    end: int


@dataclass(slots=True)
class Counters:
    """Since the start of the process."""

    records: int = 0
    batches: int = 0
    commits: int = 0
    refused: int = 0
    rewinds: int = 0
    gaps: int = 0


GapHook = Callable[[DataGap], Sequence[Send]]


def no_alert(gap: DataGap) -> Sequence[Send]:
    return ()
