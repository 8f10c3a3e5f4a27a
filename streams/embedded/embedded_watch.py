"""Beside an embedded worker: says when it is ready, and ends it loudly before data could be missed in silence."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from leadline.config import Config
from streams.embedded.embedded_errors import EmbeddedDataLost, EmbeddedError
from streams.embedded.lag_guard import LagGuard, LogRange, Partition
from streams.store.store import Store, open_store
from streams.store.tables import StoreError

log = logging.getLogger(__name__)

STARTING_S = 0.1
LOOK_S = 1.0
GRACE_S = 5.0


class EmbeddedWatch:
    """A thread that compares what Redis says was counted with what the mock broker still holds.

    `on_ready` is called once every partition is claimed: until then nobody is told the addresses, so nothing can have been
    published and forgotten before. After that the worker may for a moment hold records in memory that the broker has forgotten;
    a partition that stays below the log's beginning for five seconds without moving has lost them: `on_lost`.
    """

    def __init__(
        self,
        config: Config,
        log_id: str,
        guard: LagGuard,
        *,
        on_ready: Callable[[], None],
        on_lost: Callable[[EmbeddedError], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        topics, partitions = config.kafka.topics, config.kafka.partitions
        self._url = config.redis.url.get_secret_value()
        prefix = config.redis.prefix
        self._where: dict[Partition, tuple[str, str]] = {
            (topic, partition): (f"{prefix}:i:{{{kind}:{partition}}}:meta", f"o:{topic}#{log_id}")
            for kind, names in (("o", (topics.predictions, topics.labels)), ("j", (topics.changes, topics.digests)))
            for topic in names
            for partition in range(partitions)
        }
        self._guard = guard
        self._on_ready, self._on_lost = on_ready, on_lost
        self._clock = clock
        self._behind: dict[Partition, tuple[int, float]] = {}  # the position that must move, and since when
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="leadline-embedded", daemon=True)
        self._store: Store | None = None

    def positions(self) -> dict[Partition, int | None]:
        """What the tables hold; None: not claimed yet."""
        if self._store is None:
            self._store = open_store(self._url)
        found: dict[Partition, int | None] = {}
        for place, (key, field) in self._where.items():
            (value,) = self._store.some(key, [field])
            found[place] = None if value is None else int(value)
        return found

    def judge(self, positions: Mapping[Partition, int], logs: Mapping[Partition, LogRange]) -> None:
        """`EmbeddedDataLost` for a partition that stands below its log, and does not move."""
        now = self._clock()
        for place, position in sorted(positions.items()):
            low = logs[place].low
            if position >= low:
                self._behind.pop(place, None)
                continue
            stood, since = self._behind.get(place, (-1, now))
            if position != stood:
                self._behind[place] = (position, now)
            elif now - since >= GRACE_S:
                raise EmbeddedDataLost(*place, position, low)

    def _watch(self) -> None:
        ready = False
        while not self._ended.wait(LOOK_S if ready else STARTING_S):
            try:
                positions = self.positions()
                known = {place: position for place, position in positions.items() if position is not None}
                if not ready and len(known) == len(positions):
                    ready = True
                    self._on_ready()
                if ready:
                    self.judge(known, self._guard.logs(known))
            except EmbeddedDataLost as error:
                self._on_lost(error)
                return
            except (StoreError, EmbeddedError) as error:
                log.warning("%s", error)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(10.0)
        if self._store is not None:
            self._store.close()
