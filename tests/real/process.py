"""A server process that is either ours (dies with us) or left running, found again by its pid file."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from streams.embedded.child import Child


class PartMissing(RuntimeError):
    """Something that these servers need is not installed here; the text says what."""


class NotReady(RuntimeError):
    """A server ended, or did not answer in time; the text carries the end of its log."""


def started_at(pid: int) -> str | None:
    """When process `pid` began, as `ps` words it, or None if there is none: tells a process from a later one of the
    same id.
    """
    shown = subprocess.run(["ps", "-o", "lstart=,stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    text = shown.stdout.strip()
    began, _, state = text.rpartition(" ")
    return None if not text or state.startswith("Z") else began.strip()


@dataclass(frozen=True)
class PidFile:
    """Process id and start time in a file. A stale one (process gone, id taken by another) reads as None."""

    path: Path

    def write(self, pid: int) -> None:
        self.path.write_text(f"{pid}\n{started_at(pid) or ''}\n")

    def read(self) -> int | None:
        try:
            pid, began = self.path.read_text().splitlines()
            return int(pid) if began and started_at(int(pid)) == began else None
        except (FileNotFoundError, ValueError):
            return None

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


class Server:
    """One server of `command` with its files in `folder`. `detached`: outlives us, for `make kafka-up`."""

    name = "server"

    def __init__(self, folder: Path, *, detached: bool = False) -> None:
        self.folder = folder
        self.detached = detached
        self.log = folder / f"{self.name}.log"
        self.pid_file = PidFile(folder / f"{self.name}.pid")
        self._child: Child | None = None

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return os.environ

    def answers(self) -> bool:
        """Whether a client would be served now."""
        raise NotImplementedError

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self.pid_file.read()

    def start(self, timeout_s: float = 60.0) -> None:
        """Start and wait until it answers. A server that already runs in this folder is kept."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.pid is None:
            if self.detached:
                with self.log.open("ab") as log:
                    process = subprocess.Popen(
                        self.command(),
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        env=dict(self.environment()),
                        start_new_session=True,
                    )
                self.pid_file.write(process.pid)
            else:
                self._child = Child(self.command(), log=self.log, env=self.environment())
                self.pid_file.write(self._child.pid)
        self.wait_until(self.answers, timeout_s)

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not ready():
            ended = self.pid is None  # before its log is read: the last words come just before the end
            tail = self.log.read_text(errors="replace")[-2_000:]
            if ended:
                raise NotReady(f"{self.name} ended: {tail}")
            if time.monotonic() > deadline:
                raise NotReady(f"{self.name} did not answer within {timeout_s:g} s: {tail}")
            time.sleep(0.1)

    def stop(self, timeout_s: float = 30.0) -> None:
        """SIGTERM, and SIGKILL if that does not help in time. Safe to call when nothing runs."""
        self._end(signal.SIGTERM, timeout_s)

    def kill(self) -> None:
        """SIGKILL, as a crash would be."""
        self._end(signal.SIGKILL, 10.0)

    def restart(self) -> None:
        """Stop and start on the same port and data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: alive, and silent."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        pid = self.pid
        if pid is not None:
            os.kill(pid, number)

    def _end(self, number: signal.Signals, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        self.resume()  # a paused process does not hear SIGTERM
        self._signal(number)
        while self.pid is not None:
            if time.monotonic() > deadline:
                self._signal(signal.SIGKILL)
            time.sleep(0.05)
        if self._child is not None:
            self._child.stop()  # its guard too
            self._child = None
        self.pid_file.remove()
