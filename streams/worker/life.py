"""Signs of life for supervisors: the health file, and systemd's notifications. They ask nothing of Kafka or Redis."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from pathlib import Path

from leadline.health import Health, write_health
from streams.worker.watchdog import Progress

log = logging.getLogger(__name__)

BEAT_S = 1.0


class Life:
    """Beats once a second while the event loop does. `watched`: the ages that the watchdog keeps, stalled at `stall_s`."""

    def __init__(self, worker_id: str, file: Path | None, watched: Progress, stall_s: float) -> None:
        self.state = "starting"
        self._worker_id, self._file, self._watched, self._stall_s = worker_id, file, watched, stall_s
        self._told = ""
        self._faulty = False

    @property
    def healthy(self) -> bool:
        """Whether nothing has stood still for half the time that ends the process."""
        return self._watched.oldest() < self._stall_s / 2

    async def beat_on(self) -> None:
        """Until cancelled."""
        while True:
            self.beat()
            await asyncio.sleep(BEAT_S)

    def beat(self) -> None:
        """One sign of life."""
        if self._file is not None:
            standing = self._watched.oldest()
            health = Health(self._worker_id, os.getpid(), self.state, self.healthy, standing, time.monotonic())
            try:
                write_health(self._file, health)
                self._faulty = False
            except OSError as error:
                if not self._faulty:
                    log.warning("health file not written: %s", error)
                self._faulty = True
        words = {"running": "READY=1", "stopping": "STOPPING=1"}.get(self.state, "") if self.state != self._told else ""
        self._told = self.state
        notify_systemd([f"STATUS={self.state}", *(["WATCHDOG=1"] if self.healthy else []), *([words] if words else [])])

    def end(self) -> None:
        """No worker, no file."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.unlink(missing_ok=True)


def notify_systemd(lines: list[str]) -> None:
    """sd_notify(3). Does nothing where systemd does not ask for it (Type=notify)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        out.setblocking(False)
        out.sendto("\n".join(lines).encode(), f"\0{address[1:]}" if address.startswith("@") else address)
