"""A Redis that crashes, loses its last moments, and fails over, behind one address that stays."""

from __future__ import annotations

import time
from pathlib import Path

import redis

from streams.embedded.embedded_redis import RedisServer
from streams.embedded.redis_binary import RedisBinary
from tests.faults.proxy import Proxy

SETTINGS = {"auto-aof-rewrite-percentage": "0", "repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}


class Store:
    """The primary of the moment at `url`; `direct` goes around the proxy, for looking at it."""

    def __init__(self, folder: Path, binary: RedisBinary | None, *, keeps: bool = False) -> None:
        """`keeps`: what it has acknowledged is on the disk. Where each second is written together, and the disk is slow, a server that is
        killed loses the last two of them, and what had been told of them is told again with other stamps."""
        self._folder = folder
        self._settings = {**SETTINGS, "appendfsync": "always" if keeps else "everysec"}
        self._binary = binary
        self._made = 0
        self._primary = self._server()
        self.proxy = Proxy(self._primary.port)
        self.url = f"redis://127.0.0.1:{self.proxy.port}/0"
        self.direct = self._client(self._primary)

    def _server(self) -> RedisServer:
        self._made += 1
        return RedisServer(self._folder / f"redis-{self._made}", binary=self._binary, settings=self._settings)

    @staticmethod
    def _client(server: RedisServer) -> redis.Redis:
        return redis.Redis("127.0.0.1", server.port, socket_timeout=10)

    def restart(self, lose_s: float = 0.0, away_s: float = 0.0) -> None:
        """Kill the server and start it on its append-only file, of which the last `lose_s` seconds are gone."""
        file = self._log()
        kept = file.stat().st_size
        time.sleep(lose_s)
        self._primary.kill()
        if lose_s:
            with file.open("r+b") as log:
                log.truncate(kept)  # a command cut in two, as a crash leaves it; Redis drops it
        time.sleep(away_s)
        self._primary.start()

    def _log(self) -> Path:
        """The append-only file that is written now: one file before Redis 7, the last of a folder since."""
        parts = sorted(
            (self._primary.folder / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime
        )
        return parts[-1] if parts else self._primary.folder / "appendonly.aof"

    def fail_over(self, lag_s: float) -> None:
        """A replica that has missed the last `lag_s` seconds takes the primary's place for good."""
        link = Proxy(self._primary.port)
        replica = self._server()
        client = self._client(replica)
        try:
            client.replicaof("127.0.0.1", link.port)
            deadline = time.monotonic() + 20
            while client.info("replication").get("master_link_status") != "up":
                if time.monotonic() > deadline:
                    raise TimeoutError("the replica did not get in step")
                time.sleep(0.05)
            link.freeze()
            time.sleep(lag_s)
            self.proxy.refuse()
            self._primary.kill()
            client.replicaof("NO", "ONE")
            self._primary.stop()
            self._primary, self.direct = replica, client
            self.proxy.move(replica.port)
            self.proxy.refuse(False)
        finally:
            link.close()

    def stop(self) -> None:
        self.proxy.close()
        self._primary.stop()
