"""A Redis server of our own: loopback only, append-only file in a folder that the user names, gone when we are gone."""

import contextlib
import fcntl
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from streams.embedded.child import Child
from streams.embedded.embedded_errors import EmbeddedStartFailed, FolderInUse, FolderTooNew
from streams.embedded.redis_binary import RedisBinary, find_redis_binary

HOST = "127.0.0.1"
LOCK = "leadline.lock"
LOG = "redis.log"
ATTEMPTS = 5  # a port found free can be taken before the server binds it
MULTI_PART_AOF = (7, 0, 0)  # from this version the append-only file is a folder, which older servers do not see


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def configuration(folder: Path, port: int, settings: Mapping[str, str]) -> str:
    """The text of redis.conf. `settings` add to it and override it, except for address and folder."""
    values = {
        "protected-mode": "yes",
        "daemonize": "no",
        "databases": "16",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": '""',  # the append-only file is the one truth; a snapshot beside it costs a fork
        "maxmemory-policy": "noeviction",  # an evicted row would be a lost prediction
        **settings,
        "bind": HOST,
        "port": str(port),
        "dir": quoted(folder),
    }
    return "".join(f"{name} {value}\n" for name, value in values.items())


def quoted(folder: Path) -> str:
    """A path as redis.conf reads it: in double quotes, with backslashes for what would end them."""
    text = str(folder)
    if "\n" in text:
        raise EmbeddedStartFailed(f"a data folder's name cannot hold a line break: {text!r}")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class RedisServer:
    """A running redis-server (or valkey-server). Without `folder` its data go to a scratch folder that is deleted at
    the end.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        port: int | None = None,
        binary: RedisBinary | None = None,
        settings: Mapping[str, str] | None = None,
        start_timeout_s: float = 60.0,
        lock_timeout_s: float = 5.0,
    ) -> None:
        self.binary = binary or find_redis_binary()
        self._scratch = folder is None
        self.folder = (
            Path(tempfile.mkdtemp(prefix="leadline-redis-")) if folder is None else folder.expanduser().resolve()
        )
        self._wanted_port = port
        self._settings = dict(settings or {})
        self._start_timeout_s = start_timeout_s
        self._lock_timeout_s = lock_timeout_s
        self._refuse_newer_data()
        self.start()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.running

    def start(self) -> None:
        """Start the server and wait until it has loaded its data; again on the same port after `stop` or `kill`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock() as lock:
            for attempt in range(1, ATTEMPTS + 1):
                self.port = self._wanted_port or free_port()
                config = self.folder / "redis.conf"
                config.write_text(configuration(self.folder, self.port, self._settings))
                self._child = Child(
                    [str(self.binary.path), str(config)],
                    log=self.folder / LOG,
                    remove=self.folder if self._scratch else None,
                    pass_fds=[lock.fileno()],  # the lock lives as long as the server, not as long as we do
                )
                try:
                    self._wait_until_ready()
                except EmbeddedStartFailed as error:
                    self._child.stop()
                    if self._wanted_port or attempt == ATTEMPTS or "in use" not in str(error):
                        raise
                else:
                    self._wanted_port = self.port
                    return

    def stop(self) -> None:
        """SIGTERM: the server syncs its append-only file and ends; scratch data go. Safe to call twice."""
        self._child.stop()
        if self._scratch:
            shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL, for fault tests: up to a second of writes may be gone, as `appendfsync everysec` says."""
        self._child.kill()

    def _lock(self) -> IO[bytes]:
        lock = (self.folder / LOCK).open("ab")
        deadline = time.monotonic() + self._lock_timeout_s
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                # After kill -9 of the last run its server is still writing its file out: wait for that, not for more.
                if time.monotonic() > deadline:
                    lock.close()
                    raise FolderInUse(
                        f"{self.folder}: another embedded Redis works in this folder; stop it or name another folder"
                    ) from error
                time.sleep(0.05)
            else:
                return lock

    def _refuse_newer_data(self) -> None:
        if self.binary.version < MULTI_PART_AOF and (self.folder / "appendonlydir").exists():
            major, minor, _ = self.binary.version
            raise FolderTooNew(
                f"{self.folder} was written by Redis 7 or newer; {self.binary.path} is {major}.{minor} and would start "
                "empty. Use the newer server (put it on PATH) or another folder"
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        # No retries inside the client: this loop is the retry, and it looks whether the server still lives.
        client = redis.Redis(HOST, self.port, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))
        with contextlib.closing(client):
            while True:
                if not self._child.running:
                    raise EmbeddedStartFailed(f"{self.binary.path} ended at once: {self._child.log_tail()}")
                try:
                    # The process id tells our server from a stranger's that holds the port.
                    if client.info("server").get("process_id") == self._child.pid:
                        return
                except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError) as error:
                    waiting_for = str(error)  # refused, or BusyLoadingError while it reads its file
                else:
                    waiting_for = f"port {self.port} is in use by another server"
                if time.monotonic() > deadline:
                    raise EmbeddedStartFailed(
                        f"{self.binary.path} was not ready after {self._start_timeout_s:g} s: {waiting_for}"
                    )
                time.sleep(0.02)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
