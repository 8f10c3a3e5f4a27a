"""The health file of a worker: renewed every second, read by the probe of a supervisor (`leadline health`)."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

STALE_S = 30.0  # a loop that is busy for seconds is none that hangs


@dataclass(frozen=True, slots=True)
class Health:
    """A worker at one moment. `standing_s`: for how long a partition with lag, or the event loop, has not moved; `healthy`: not too long.

    `at` is the monotonic clock, which all processes of one machine share and nobody sets.
    """

    worker_id: str
    pid: int
    state: str
    healthy: bool
    standing_s: float
    at: float


def write_health(path: Path, health: Health) -> None:
    """Replace the file as a whole. `OSError` where that is not possible."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(asdict(health)))
    os.replace(fresh, path)


def ailment(path: Path, now: float | None = None) -> str | None:
    """What is wrong with the worker that writes this file, in words; None: nothing."""
    try:
        health = Health(**json.loads(path.read_text()))
    except FileNotFoundError:
        return f"there is no {path}: no worker has started that writes it (leadline run --health-file), or it has ended"
    except (OSError, ValueError, TypeError) as error:
        return f"{path} is no health file: {error}"
    age = (time.monotonic() if now is None else now) - health.at
    who = f"worker {health.worker_id} (process {health.pid}, {health.state})"
    if not 0 <= age <= STALE_S:  # below 0: written before the machine was started anew
        return (
            f"{who} has not renewed {path} for {age:.0f} s"
            if age > 0
            else f"{path} is from before this machine's start"
        )
    if not health.healthy:
        return f"{who} has not moved for {health.standing_s:.0f} s although there is something to read"
    return None
