"""Which fault comes next: seeded, one after another, each with the time that it needs."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults.ground import SESSION_S, Ground, until

MOST_WORKERS = 3
Faults = dict[str, float]  # name to weight

GENTLE: Faults = {  # the store keeps everything
    "kill": 8,
    "kill_static": 6,
    "kill_all": 2,
    "term": 3,
    "add": 3,
    "zombie": 1,
    "redis_restart": 3,
    "redis_cut": 2,
    "redis_slow": 1,
    "outage": 2,
    "errors": 5,
    "slow": 1,
}
CAMPAIGN: Faults = {
    "kill": 3,
    "kill_static": 9,
    "kill_all": 2,
    "term": 5,
    "add": 4,
    "zombie": 1,
    "redis_restart": 4,
    "redis_cut": 2,
    "redis_slow": 0.7,
    "outage": 1.5,
    "errors": 7,
    "slow": 0.7,
}
MEANWHILE = ("errors", "redis_cut", "redis_restart")  # while a worker is paused, or starts
REST_S = 20.0  # for the group to settle, so that a takeover is that of one worker
LOSING: Faults = {"redis_lossy_restart": 5, "redis_fail_over": 3}  # the store goes back in time
LOSSY: Faults = {**GENTLE, **LOSING}


@dataclass
class Tally:
    """What was done. `after_kill`, `after_term`: seconds until others had claimed all that a worker owned, in a group at rest."""

    done: Counter[str] = field(default_factory=Counter)
    after_kill: list[float] = field(default_factory=list)
    after_term: list[float] = field(default_factory=list)
    to_stop: list[float] = field(default_factory=list)


class Schedule:
    """Runs faults against a ground, and knows how each is done."""

    def __init__(
        self, ground: Ground, seed: int, weights: Faults, note: Callable[[str], None] = lambda line: None
    ) -> None:
        self.ground, self.weights, self.note = ground, weights, note
        self.dice = random.Random(seed)
        self.tally = Tally()

    def begin(self, workers: int = 2) -> None:
        """The first workers, ready. The first has a static membership, so that it can come back at once."""
        for number in range(workers):
            # One after another: the mock takes two that join at once badly.
            self._ready([self.ground.start(static=number < 2 and self.ground.broker.complete)], 90)

    def run(self, until_s: float) -> None:
        """Faults until that moment (monotonic seconds)."""
        names, weights = list(self.weights), list(self.weights.values())
        while time.monotonic() < until_s:
            (name,) = self.dice.choices(names, weights)
            self.do(name)
            time.sleep(self.dice.uniform(0.1, 1.5))

    def do(self, name: str) -> None:
        """One fault by its name."""
        self.ground.supervise()
        began = time.monotonic()
        done = getattr(self, f"_{name}")()
        self.note(f"{name}{'' if done is None else f' ({done})'} took {time.monotonic() - began:.1f} s")
        self.tally.done[name] += 1

    def _pick(self, static: bool) -> str:
        """One that owns something; of several, any. Others may still be starting."""
        if not self._of(static):
            self.ground.start(static=static)
        until(self._any_ready(static), 60, lambda: f"a worker owns partitions; {self.ground.ended[-3:]}")
        return self.dice.choice([name for name in self._of(static) if self.ground.claimed(name)] or self._of(static))

    def _of(self, static: bool) -> list[str]:
        return [name for name in self.ground.workers if (name in self.ground.static) == static]

    def _any_ready(self, static: bool) -> Callable[[], bool]:
        def ready() -> bool:
            self.ground.supervise()
            return any(self.ground.claimed(name) for name in self._of(static))

        return ready

    def _rest(self) -> bool:
        """Wait a while for the group to settle; whether it has. While workers are still starting other faults go on."""
        deadline = time.monotonic() + REST_S
        while not self.ground.at_rest():
            self.ground.supervise()
            if time.monotonic() > deadline:
                return False
            starting = not all(self.ground.claimed(name) for name in self.ground.workers)
            if starting:
                self._meanwhile(self.dice.uniform(1.0, 3.0))
            else:
                time.sleep(0.1)
        return True

    def _meanwhile(self, seconds: float) -> None:
        """Something that takes no time of its own."""
        self.do(self.dice.choice([name for name in MEANWHILE if name in self.weights] or ["nothing"]))
        time.sleep(seconds)

    def _ready(self, names: list[str], seconds: float) -> None:
        """Wait until these workers own something; with the broker or the store just back that takes its time."""

        def all_claimed() -> bool:
            self.ground.supervise()
            return all(self.ground.claimed(name) for name in names)

        until(all_claimed, seconds, lambda: f"{names} own partitions; {self.ground.ended[-3:]}")

    # Workers

    def _kill(self) -> str | None:
        """kill -9 of one that the group has to miss first, with another one there to take over."""
        name = self._pick(static=False)
        measured = self._rest() and len(self.ground.workers) > 1
        fences = self.ground.fences(name)
        self.ground.kill(name)
        if measured:
            self.tally.after_kill.append(self._taken_over(fences))
        self.ground.start()
        return f"taken over after {self.tally.after_kill[-1]:.1f} s" if measured else None

    def _kill_all(self) -> None:
        """The machine goes."""
        names = list(self.ground.workers)
        self._ready(names, 45)
        for name in names:
            self.ground.kill(name)
        for name in names:
            self.ground.start(name=name)
        self.tally.done["kill"] += len(names) - 1

    def _kill_static(self) -> None:
        if not self.ground.broker.complete:
            return self._kill()
        name = self._pick(static=True)
        self.ground.kill(name)
        self.ground.start(name=name)

    def _term(self) -> str:
        name = self._pick(static=False)
        measured = self._rest() and len(self.ground.workers) > 1
        fences = self.ground.fences(name)
        began = time.monotonic()
        self.tally.to_stop.append(self.ground.retire(name))
        words = f"gone after {self.tally.to_stop[-1]:.1f} s"
        if measured:
            self._taken_over(fences)
            self.tally.after_term.append(time.monotonic() - began)
            words += f", taken over after {self.tally.after_term[-1]:.1f} s"
        self.ground.start()
        return words

    def _taken_over(self, fences: dict[str, bytes | None]) -> float:
        """Seconds until somebody else has claimed all that one worker had."""
        began = time.monotonic()
        until(lambda: all(self.ground.fence(owner) != old for owner, old in fences.items()), 60, lambda: "taken over")
        return time.monotonic() - began

    def _add(self) -> None:
        """One more worker, or one less: a rebalance either way."""
        if len(self.ground.workers) < MOST_WORKERS:
            self._ready([self.ground.start()], 45)
        else:
            self.tally.to_stop.append(self.ground.retire(self._pick(static=False)))

    def _zombie(self) -> None:
        if len(self.ground.workers) < 2:
            self._ready([self.ground.start()], 45)
        with self.ground.paused(self._pick(static=False)):
            over = time.monotonic() + SESSION_S + self.dice.uniform(2.0, 4.0)
            while time.monotonic() < over:
                self._meanwhile(self.dice.uniform(0.5, 2.0))

    # The store

    def _redis_restart(self) -> None:
        self.ground.store.restart(away_s=self.dice.choice([0.0, 0.5, 2.0]))

    def _redis_lossy_restart(self) -> None:
        self.ground.store.restart(lose_s=self.dice.uniform(0.3, 1.0))

    def _redis_fail_over(self) -> None:
        self.ground.store.fail_over(lag_s=self.dice.uniform(0.2, 1.0))

    def _redis_cut(self) -> None:
        for _ in range(self.dice.randint(1, 4)):
            self.ground.store.proxy.cut()
            time.sleep(self.dice.uniform(0, 0.3))

    def _redis_slow(self) -> None:
        self.ground.store.proxy.delay_s = 0.05
        time.sleep(self.dice.uniform(1, 3))
        self.ground.store.proxy.delay_s = 0.0

    # The broker

    def _outage(self) -> None:
        self.ground.broker.outage(self.dice.uniform(0.5, 3.0))

    def _nothing(self) -> None:
        time.sleep(1.0)

    def _errors(self) -> str:
        return self.ground.broker.errors(self.dice)

    def _slow(self) -> None:
        self.ground.broker.slow(self.dice.uniform(1, 3), 0.1)
