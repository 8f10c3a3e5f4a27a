"""The last resort against hangs: a thread that ends the process when nothing moves any more.

Hangs are the dominant failure of stream processors in the field. A supervisor (systemd, Kubernetes) restarts what
ended; it cannot restart what merely stands still.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

EXIT_FAILED = 1
EXIT_STALLED = 70
EXIT_STOP_TOO_SLOW = 71
TICK_S = 0.5
LAST_WORDS_S = 2.0


def end_process(status: int, words: str) -> None:
    """No clean-up: whatever hangs would hang that too. Nor a long wait to be heard: what hangs may be a pipe nobody reads."""
    end = threading.Timer(LAST_WORDS_S, os._exit, [status])
    end.daemon = True
    end.start()
    log.critical("%s, ending the process", words)
    faulthandler.dump_traceback(all_threads=True)
    logging.shutdown()
    sys.stderr.flush()
    os._exit(status)


class Progress:
    """Ages, in seconds, of what must move. Time that this process did not see (stopped, suspended) does not count."""

    def __init__(self, stall_s: float) -> None:
        self._stall = stall_s
        self._ages: dict[str, float] = {}
        self._marks: dict[str, object] = {}

    def see(self, name: str, mark: object, waiting: bool) -> None:
        """`mark` changes with progress; where nothing is `waiting`, standing still is no stall."""
        if not waiting:
            self._ages.pop(name, None)
        elif name not in self._ages or self._marks[name] != mark:
            self._ages[name] = 0.0
        self._marks[name] = mark

    def forget(self, name: str) -> None:
        self._ages.pop(name, None)
        self._marks.pop(name, None)

    def see_all(self, now: Mapping[str, tuple[object, bool]]) -> None:
        """Everything that there is to see, as (mark, waiting) by name; what is no longer in it is forgotten."""
        for gone in self._marks.keys() - now.keys():
            self.forget(gone)
        for name, (mark, waiting) in now.items():
            self.see(name, mark, waiting)

    def names(self) -> set[str]:
        return set(self._marks)

    def pass_time(self, seconds: float) -> None:
        for name in self._ages:
            self._ages[name] += seconds

    def stalled(self) -> str | None:
        """The name that has stood still for longest, if for too long."""
        worst = max(self._ages, key=lambda name: self._ages[name], default=None)
        return worst if worst is not None and self._ages[worst] >= self._stall else None

    def age(self, name: str) -> float:
        return self._ages.get(name, 0.0)

    def oldest(self) -> float:
        """Seconds for which something has stood still."""
        return max(self._ages.values(), default=0.0)


class Watchdog:
    """Watches `progress` from its own thread, and the stop once `stopping` was called.

    A stop with a reason that takes too long ends the process as that reason would have, with its text; one that was asked for, as hung.
    """

    def __init__(self, progress: Progress, stop_s: float, end: Callable[[int, str], None] = end_process) -> None:
        self.progress = progress
        self._stop_s = stop_s
        self._end = end
        self._lock = threading.Lock()
        self._stop_left: float | None = None
        self._reason: BaseException | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leadline-watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stopping(self, reason: BaseException | None = None) -> None:
        """From now on the process must end within its time; `reason` is why, if nobody has asked for it. The first one is kept."""
        with self._lock:
            self._stop_left = self._stop_s if self._stop_left is None else self._stop_left
            self._reason = self._reason or reason

    def close(self) -> None:
        self._over.set()

    def tick(self, seconds: float) -> None:
        """One look, after `seconds` that this process has lived."""
        with self._lock:
            if self._stop_left is not None:
                self._stop_left -= seconds
                if self._stop_left <= 0:
                    why = "" if self._reason is None else f" because of {type(self._reason).__name__}: {self._reason}"
                    status = EXIT_STOP_TOO_SLOW if self._reason is None else EXIT_FAILED
                    self._end(status, f"stopping{why} took longer than {self._stop_s:g} s")
                return
        self.progress.pass_time(seconds)
        if (name := self.progress.stalled()) is not None:
            self._end(EXIT_STALLED, f"no progress of {name} for {self.progress.age(name):.0f} s")

    def _run(self) -> None:
        while not self._over.wait(TICK_S):
            self.tick(TICK_S)  # not the clock's difference: a process that was stopped has not been standing still
