"""One Apache Kafka and one Redis for all processes of a test run: the first that asks starts them, the others use them.

The servers are children of the process that started them, so nothing outlives a run that was killed. At its end that
process waits until nobody uses them. Who does is said by file locks, which the kernel drops together with their holder.
"""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.real.environment import CACHE, Addresses
from tests.real.kafka import KafkaServer
from tests.real.redis_server import RealRedis


@contextmanager
def shared_servers(folder: Path) -> Iterator[Addresses]:
    """Addresses of servers with their data in `folder`, which all processes of one run name alike.

    Raises `PartMissing` and `NotReady`, in each process that asks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told = folder / "env"
    with (folder / "gate").open("a") as gate, (folder / "users").open("a") as users:
        with _held(gate):
            addresses, started = Addresses.read_live(told), None
            if addresses is None:
                started = Servers(Path(tempfile.mkdtemp(dir=folder)))
                addresses = started.start()
                addresses.write(told)
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield addresses
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)
            if started is not None:
                with _held(gate):  # who comes now waits, and starts its own
                    fcntl.flock(users, fcntl.LOCK_EX)
                    told.unlink()
                    started.stop()


class Servers:
    """Both, with their files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.broker, self.store = KafkaServer(folder, CACHE), RealRedis(folder)

    def start(self) -> Addresses:
        try:
            self.store.start()
            self.broker.start()
        except BaseException:
            self.stop()
            raise
        return Addresses(self.broker.bootstrap_servers, self.store.redis_url)

    def stop(self) -> None:
        self.broker.stop()
        self.store.stop()


@contextmanager
def _held(gate: IO[str]) -> Iterator[None]:
    fcntl.flock(gate, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(gate, fcntl.LOCK_UN)
