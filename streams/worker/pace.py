"""How long a batch waits for more before it is taken, by how busy the worker is.

While there is time nothing waits. A worker with hundreds of models spends most of its time on what a batch costs beside its events: a
digest for each model, a commit, a message. Under pressure a batch therefore waits, up to a second, and is several times as large: what
it costs is paid more rarely, and what is said comes a second later.
"""

from __future__ import annotations

MOST_S = 1.0
LEAST_S = 0.05
BUSY, CALM = 0.6, 0.3  # shares of a core
STEP = 1.5


class Pace:
    """`linger_s`: how long a batch waits now, seconds."""

    def __init__(self) -> None:
        self.linger_s = 0.0
        self._cpu_s: float | None = None
        self._at_s = 0.0

    def see(self, cpu_s: float, now_s: float) -> float:
        """The worker's CPU seconds so far, and the time. Returns the new `linger_s`."""
        if self._cpu_s is not None and now_s > self._at_s:
            share = (cpu_s - self._cpu_s) / (now_s - self._at_s)
            if share > BUSY:
                self.linger_s = min(max(self.linger_s * STEP, LEAST_S), MOST_S)
            elif share < CALM:
                self.linger_s = self.linger_s / STEP if self.linger_s > LEAST_S else 0.0
        self._cpu_s, self._at_s = cpu_s, now_s
        return self.linger_s
