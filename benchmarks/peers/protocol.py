"""How the benchmark and a peer's process talk: one JSON argument in, JSON lines out.

A peer prints ``{"counted": n}`` now and then (for the progress bar) and ends with ``{"result": {...}}``. The clock
starts at the first record that reaches the peer's own code and stops when the last one is counted, so starting the
interpreter, joining the group and creating state stores cost nothing.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

PROGRESS_EVERY = 8192  # events; a power of two, so that the check is one "and"


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer is to do. ``events`` counts both topics; ``one_in`` is the ADWIN sample (1 = all values); ``job`` is "same" or "core".

    ``reference`` is the path of the edges file, ``scratch`` an empty folder for state stores, ``run_id`` the prefix
    of every topic and group that the peer may create.
    """

    bootstrap: str
    predictions: str
    labels: str
    partitions: int
    events: int
    one_in: int
    job: str
    variant: str
    run_id: str
    reference: str
    scratch: str


def read_spec() -> Spec:
    """The spec of this process, from its only argument."""
    return msgspec.json.decode(sys.argv[1], type=Spec)


def say(message: dict[str, Any]) -> None:
    """One JSON line to the benchmark, at once; past ``sys.stdout``, which Faust turns into a log."""
    assert sys.__stdout__ is not None
    sys.__stdout__.write(json.dumps(message) + "\n")
    sys.__stdout__.flush()


def peak_rss_mb(pid: int | None = None) -> float:
    """Peak resident memory of a process (default: this one), MB.

    ``ru_maxrss`` would count the parent's memory at the time of the fork as ours.
    """
    for line in Path(f"/proc/{pid or 'self'}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM in /proc: the benchmark runs on Linux only")


class Stopwatch:
    """Counts events from the first to the ``total``-th and knows how long that took."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.counted = 0
        self._next_report = PROGRESS_EVERY
        self._started = 0.0
        self._cpu_started = 0.0
        self._figures: dict[str, Any] | None = None

    def begin(self) -> None:
        """Call when the first record (or batch) is in hand, before any work on it. Later calls do nothing."""
        if not self._started:
            self._cpu_started = time.process_time()
            self._started = time.perf_counter()

    def add(self, events: int = 1) -> bool:
        """Count events that are completely worked off; true once all are."""
        self.counted += events
        if self.counted >= self._next_report:
            self._next_report = self.counted + PROGRESS_EVERY
            say({"counted": self.counted})
        if self.counted < self.total:
            return False
        self.stop()
        return True

    def stop(self) -> None:
        """Stop the clock (the first call counts)."""
        if self._figures is None:
            self._figures = {
                "seconds": time.perf_counter() - self._started,
                "cpu_seconds": time.process_time() - self._cpu_started,
                "peak_rss_mb": peak_rss_mb(),
            }

    def report(self, counts: dict[str, Any]) -> None:
        """Print the result: the clock's figures and what was counted. Raises RuntimeError if the clock still runs."""
        if self._figures is None:
            raise RuntimeError(f"only {self.counted} of {self.total} events were counted")
        say({"result": {"events": self.counted, **self._figures, **counts}})
