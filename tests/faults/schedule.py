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
    "kill": 1.5,
    "kill_static": 9,
    "kill_all": 3,
    "term": 2,
    "add": 4,
    "zombie": 0.7,
    "redis_restart": 4,
    "redis_cut": 2,
    "redis_slow": 0.7,
    "outage": 0.7,
    "errors": 7,
    "slow": 0.7,
}
LOSING: Faults = {"redis_lossy_restart": 5, "redis_fail_over": 3}  # the store goes back in time
LOSSY: Faults = {**GENTLE, **LOSING}


@dataclass
class Tally:
    """What was done. `takeovers`: seconds until another worker counted on, after kill -9 and after SIGTERM."""

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
        self._static = 0

    def begin(self, workers: int = 2) -> None:
        """The first workers, ready. The first has a static membership, so that it can come back at once."""
        for number in range(workers):
            # One after another: the mock takes two that join at once badly.
            self._ready([self.ground.start(static=number < 2 and self.ground.broker.complete)], 60)

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
        chosen = [name for name in self.ground.workers if (name in self.ground.static) == static]
        if not chosen:
            chosen = [self.ground.start(static=static)]
        name = self.dice.choice(chosen)
        self._ready([name], 45)
        return name

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
        others = self._others(name)
        fences = self.ground.fences(name)
        self.ground.kill(name)
        took = self._taken_over(fences) if others else None
        if took is not None:
            self.tally.after_kill.append(took)
        self.ground.start()
        return None if took is None else f"taken over after {took:.1f} s"

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
        others = self._others(name)
        fences = self.ground.fences(name)
        began = time.monotonic()
        self.tally.to_stop.append(self.ground.retire(name))
        if others:
            self._taken_over(fences)
            self.tally.after_term.append(time.monotonic() - began)
        self.ground.start()
        return f"gone after {self.tally.to_stop[-1]:.1f} s, taken over after {time.monotonic() - began:.1f} s"

    def _others(self, name: str) -> list[str]:
        return [other for other in self.ground.workers if other != name and self.ground.claimed(other)]

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
        self.ground.pause(self._pick(static=False), SESSION_S + self.dice.uniform(2.0, 4.0))

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
