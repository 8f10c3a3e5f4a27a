"""A child process that dies with us: after a normal end, an exception, Ctrl-C, SIGTERM, and kill -9.

Between us and the command stands `child_guard.py`, which watches a pipe that only we hold. The death signal of Linux
alone (`PR_SET_PDEATHSIG`) would not do: it is bound to the *thread* that started the child and does not exist on macOS.
The guard has a session of its own, so Ctrl-C in a terminal reaches us first, and the command is stopped when we say so.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

GUARD = Path(__file__).with_name("child_guard.py")


class Child:
    """One running command under its guard.

    `log` takes what the command writes to standard output and standard error. `remove` is a folder that the guard
    deletes once it has ended the command (not when the command ends by itself). `pass_fds` stay open in guard and
    command, so that a file lock is held as long as they live.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        remove: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.log = log
        options = ["--remove", str(remove)] if remove is not None else []
        with log.open("ab") as stderr:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(GUARD), *options, "--", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=cwd,
                env=None if env is None else dict(env),
                start_new_session=True,
                pass_fds=tuple(pass_fds),
            )
        assert self._guard.stdout is not None
        with self._guard.stdout as first_line:
            answer = first_line.readline()
        if not answer.strip().isdigit():
            why = self.log_tail()
            self.stop()
            raise OSError(f"could not start {command[0]}: {why}")
        self.pid = int(answer)  # of the command, not of the guard: what a fault test signals

    @property
    def running(self) -> bool:
        return self._guard.poll() is None

    @property
    def status(self) -> int | None:
        """The command's exit status, 128 and the signal's number where one ended it; None while it runs."""
        return self._guard.poll()

    def stop(self, timeout_s: float = 15.0) -> None:
        """End the command (SIGTERM, then SIGKILL) and wait for it. Safe to call twice."""
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._guard.terminate()  # said as well, because a process that we forked may hold the pipe open
        try:
            self._guard.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            self._guard.kill()
            self._guard.wait()

    def kill(self) -> None:
        """SIGKILL to the command, as a crash would be; returns when guard and command are gone."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, 9)
        self._guard.wait()
        if self._guard.stdin is not None:
            self._guard.stdin.close()

    def log_tail(self, limit: int = 2_000) -> str:
        """The last `limit` characters that the command wrote: what an error message should carry."""
        try:
            return self.log.read_text(errors="replace")[-limit:].strip()
        except FileNotFoundError:
            return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
