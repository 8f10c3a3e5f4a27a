"""`leadline run --embedded`: a broker, a Redis, a worker and whoever delivers, started and ended together."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from pydantic import SecretStr

from leadline.config import Config
from streams.core.stage import Send
from streams.embedded.child import GUARD
from streams.embedded.embedded import Embedded
from streams.embedded.embedded_errors import EmbeddedDataLost, EmbeddedError
from streams.embedded.embedded_watch import EmbeddedWatch
from streams.transport.beginning import DataGap
from streams.transport.configured_topics import topic_specs
from streams.transport.topic_plan import partition_counts
from streams.worker.run import GapTold, run

log = logging.getLogger(__name__)

CHILD_STOP_S = 12.0


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a user's own service finds the embedded parts."""

    bootstrap_servers: str
    redis_url: str


def with_addresses(config: Config, addresses: Addresses) -> Config:
    """The same configuration on these parts. Security options belong to another broker and go."""
    kafka = config.kafka.model_copy(
        update={
            "bootstrap_servers": addresses.bootstrap_servers,
            "security": type(config.kafka.security)(),
            "replication_factor": 1,
        }
    )
    redis = config.redis.model_copy(update={"url": SecretStr(addresses.redis_url)})
    return config.model_copy(update={"kafka": kafka, "redis": redis})


@contextmanager
def guarded_child(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A command that writes to our standard error and dies with us, also after kill -9 (`streams.embedded.child_guard`)."""
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", str(GUARD), "--", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches us, and we stop it when the worker has ended
    )
    assert guard.stdin is not None
    assert guard.stdout is not None
    try:
        guard.stdout.readline()  # its process id: from now on it is watched
        yield guard
    finally:
        guard.stdin.close()
        try:
            guard.wait(CHILD_STOP_S)
        except subprocess.TimeoutExpired:
            guard.kill()
            guard.wait()
        guard.stdout.close()


class LoudGap(GapTold):
    """In embedded mode a gap is the mock broker's forgetting: the run ends."""

    def __init__(self, config: Config, lost: Callable[[EmbeddedError], None]) -> None:
        super().__init__(config)
        self._lost = lost

    def __call__(self, gap: DataGap) -> Sequence[Send]:
        self._lost(EmbeddedDataLost(gap.topic, gap.partition, gap.first, gap.end))
        return super().__call__(gap)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def run_embedded(
    config: Config,
    *,
    data: Path | None,
    announce: Callable[[Addresses], None],
    deliver: Callable[[Addresses], Sequence[str]] | None = None,
    health_file: Path | None = None,
) -> int:
    """Until Ctrl-C or SIGTERM (0), or until something makes it stop (1). `announce` is called when events can be published.

    `deliver` gives the command of the delivery process. With `data` the Redis state is kept in that folder; the broker's log begins
    anew at every start, so positions are kept under its `log_id`. Raises `EmbeddedError` where a part does not start or data were lost.
    """
    failures: list[EmbeddedError] = []

    def lost(error: EmbeddedError) -> None:
        if not failures:
            failures.append(error)
            log.critical("stopping: %s", error)
            os.kill(os.getpid(), signal.SIGTERM)  # the worker's own way to end

    before = signal.signal(signal.SIGTERM, _interrupt)  # until the worker listens: leave by the context managers
    try:
        with ExitStack() as stack:
            embedded = stack.enter_context(Embedded(partition_counts(topic_specs(config)), folder=data))
            addresses = Addresses(embedded.bootstrap_servers, embedded.redis_url)
            config = with_addresses(config, addresses)
            if deliver is not None:
                stack.enter_context(guarded_child(deliver(addresses)))
            guard = stack.enter_context(embedded.lag_guard())
            watch = EmbeddedWatch(config, embedded.log_id, guard, on_ready=lambda: announce(addresses), on_lost=lost)
            stack.enter_context(watch)
            status = run(config, log_id=embedded.log_id, health_file=health_file, on_gap=LoudGap(config, lost))
            signal.signal(signal.SIGTERM, _interrupt)
    except KeyboardInterrupt:
        status = 0
    finally:
        signal.signal(signal.SIGTERM, before)
    if failures:
        raise failures[0]
    return status
