"""A real redis-server or valkey-server, the newest on PATH, with Leadline's settings."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from streams.embedded.embedded_errors import EmbeddedUnavailable
from streams.embedded.embedded_redis import HOST, configuration, free_port
from streams.embedded.redis_binary import RedisBinary, path_candidates, probe
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


@dataclass(frozen=True)
class Tls:
    """Who vouches for the server, and what it shows."""

    authority: Path
    certificate: Path
    key: Path

    def settings(self, port: int) -> str:
        files = f"tls-cert-file {self.certificate}\ntls-key-file {self.key}\ntls-ca-cert-file {self.authority}\n"
        return f"port 0\ntls-port {port}\n{files}tls-auth-clients no\ntls-cluster yes\ntls-replication yes\n"

    def client(self) -> dict[str, Any]:
        return {"ssl": True, "ssl_ca_certs": str(self.authority)}


class RealRedis(Server):
    """A server with its data in `folder`. The port stays the same over restarts."""

    name = "redis"

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        tls: Tls | None = None,
        client: Mapping[str, Any] | None = None,
        detached: bool = False,
    ) -> None:
        """With `tls` the port speaks nothing else. `client`: options of redis-py with which `answers` asks, such as a user."""
        super().__init__(folder, detached=detached)
        self.port = port or free_port()
        self._settings = {"databases": DATABASES, **(settings or {})}
        self._tls = tls
        self._client = {**(tls.client() if tls else {}), **(client or {})}

    @property
    def redis_url(self) -> str:
        """Where it is, as one without a name reaches it."""
        if self._tls is None:
            return f"redis://{HOST}:{self.port}/0"
        return f"rediss://{HOST}:{self.port}/0?ssl_ca_certs={self._tls.authority}"

    def command(self) -> Sequence[str]:
        file = self.folder / "redis.conf"
        (self.folder / "redis-data").mkdir(exist_ok=True)
        text = configuration(self.folder / "redis-data", self.port, self._settings)
        if self._tls is not None:
            text += self._tls.settings(self.port)  # of two lines of one name the later holds
        file.write_text(text)
        return [str(newest_on_path().path), str(file)]

    def answers(self) -> bool:
        with (
            contextlib.closing(redis.Redis(HOST, self.port, socket_timeout=2, **self._client)) as client,
            contextlib.suppress(redis.ConnectionError, redis.TimeoutError),
        ):
            return bool(client.ping())
        return False
