"""A real redis-server or valkey-server, the newest on PATH, with Leadline's settings."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import redis

from streams.embedded_errors import EmbeddedUnavailable
from streams.embedded_redis import HOST, configuration, free_port
from streams.redis_binary import RedisBinary, path_candidates, probe
from tests.real.process import PartMissing, Server

DATABASES = "64"  # tests take one after another
LEAST = (7, 0, 0)  # what production runs at least; the wheel's own server is older and has its own fixture


def newest_on_path() -> RedisBinary:
    """`PartMissing` unless PATH has a server of version `LEAST` or newer."""
    found: list[RedisBinary] = []
    for path in path_candidates():
        with contextlib.suppress(EmbeddedUnavailable):
            found.append(probe(path))
    newest = max(found, key=lambda binary: binary.version, default=None)
    if newest is None or newest.version < LEAST:
        raise PartMissing(
            "no redis-server or valkey-server of version 7 or newer on PATH (Debian: apt-get install redis-server)"
        )
    return newest


class RealRedis(Server):
    """A server with its data in `folder`. The port stays the same over restarts."""

    name = "redis"

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        detached: bool = False,
    ) -> None:
        super().__init__(folder, detached=detached)
        self.port = port or free_port()
        self._settings = {"databases": DATABASES, **(settings or {})}

    @property
    def redis_url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def command(self) -> Sequence[str]:
        file = self.folder / "redis.conf"
        (self.folder / "redis-data").mkdir(exist_ok=True)
        file.write_text(configuration(self.folder / "redis-data", self.port, self._settings))
        return [str(newest_on_path().path), str(file)]

    def answers(self) -> bool:
        with (
            contextlib.closing(redis.Redis(HOST, self.port, socket_timeout=2)) as client,
            contextlib.suppress(redis.ConnectionError, redis.TimeoutError),
        ):
            return bool(client.ping())
        return False
