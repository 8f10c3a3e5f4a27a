"""Workers on a broker and a store of their own: started, killed, paused, and started again as a supervisor would."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from leadline.config import Config, load_config
from streams.embedded.child import Child
from tests.faults.brokers import Broker
from tests.faults.load import DELAY_WINDOW_S, EARLY_TOLERANCE_S, MODELS
from tests.faults.store import Store

ROOT = Path(__file__).resolve().parents[2]
PARTITIONS = 6  # so that three workers have two of each kind
TOPICS_READ = 4
SESSION_S = 6.0
PREFIX = "leadline"
COMMAND = ("leadline.cli",)
MAY_END = ("StoreUnavailable", "BrokerUnreachable", "Redis at ", "no broker")  # of a start while a part is away


def until(condition: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
    """Poll, because the other side is another process."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what()}")
        time.sleep(0.05)


class Ground:
    """Broker, store, topics, configuration and workers of one episode. `module` is what a worker's process runs."""

    def __init__(self, folder: Path, broker: Broker, store: Store, module: tuple[str, ...] = COMMAND) -> None:
        self.folder, self.broker, self.store, self.module = folder, broker, store, module
        self.workers: dict[str, Child] = {}
        self.static: set[str] = set()
        self.ended: list[str] = []
        self._names = itertools.count(1)
        self.config_file = self._configure()
        self.config: Config = load_config(self.config_file)
        topics = self.config.kafka.topics
        names = (topics.predictions, topics.labels, topics.changes, topics.digests, topics.alerts, topics.rejected)
        broker.create({**dict.fromkeys(names, PARTITIONS), f"{topics.alerts}.undelivered": 1})

    def _configure(self) -> Path:
        dice = random.Random(1)
        with (self.folder / "reference.csv").open("w", newline="") as table:
            rows = csv.writer(table)
            rows.writerow(["age", "ward", "score", "label", "segment__site"])
            for _ in range(2000):
                score = dice.betavariate(2, 3)
                row = [
                    dice.gauss(50, 10),
                    dice.choice("abc"),
                    score,
                    int(dice.random() < score),
                    dice.choice(["north", "south"]),
                ]
                rows.writerow(row)
        model = {"reference": "reference.csv", "task": "binary", "positive_label": 1}
        declared = {
            "kafka": {
                "bootstrap_servers": self.broker.bootstrap_servers,
                "partitions": PARTITIONS,
                "session_timeout": f"{SESSION_S}s",
            },
            "redis": {"url": self.store.url, "prefix": PREFIX},
            "join": {
                "delay_window": f"{DELAY_WINDOW_S}s",
                "early_tolerance": f"{EARLY_TOLERANCE_S}s",
                "late_retention": "10d",  # nothing expires: what is counted does not depend on when a topic was read
                "cache_rows": 1000,  # so that most rows are asked of the store
            },
            "panes": {"pane": "60s", "silence_after": None},
            "models": {name: dict(model) for name in MODELS},
        }
        file = self.folder / "leadline.yaml"
        file.write_text(yaml.dump(declared))
        return file

    # Workers

    def start(self, *, static: bool = False, name: str | None = None) -> str:
        """A new worker, or the one of that name again."""
        name = name or f"w{next(self._names)}"
        options = ["--worker-id", name]
        if static:
            self.static.add(name)
        if name in self.static:
            options += ["--instance-id", name]
        command = [sys.executable, "-m", *self.module, "run", "-c", str(self.config_file), *options]
        self.workers[name] = Child(command, log=self.log_of(name), cwd=ROOT)
        return name

    def log_of(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def kill(self, name: str) -> None:
        """kill -9."""
        self.workers.pop(name).kill()

    def retire(self, name: str) -> float:
        """SIGTERM; seconds until the process is gone."""
        worker = self.workers.pop(name)
        asked = time.monotonic()
        os.kill(worker.pid, signal.SIGTERM)
        while worker.running and time.monotonic() < asked + 30:
            time.sleep(0.02)
        took = time.monotonic() - asked
        worker.stop()
        return took

    @contextlib.contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """SIGSTOP, and SIGCONT at the end."""
        os.kill(self.workers[name].pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.workers[name].pid, signal.SIGCONT)

    def supervise(self) -> None:
        """Start again what has ended by itself, as any supervisor does, and remember its last words."""
        for name, worker in list(self.workers.items()):
            if not worker.running:
                worker.stop()
                ends = [
                    line
                    for line in worker.log_tail(8000).splitlines()
                    if " ends: " in line or line.startswith("leadline: ")
                ]
                self.ended.append(f"{name}: {ends[-1] if ends else worker.log_tail(300)}")
                assert any(word in self.ended[-1] for word in MAY_END), f"a worker ended by itself: {self.ended[-1]}"
                self.start(name=name)

    def claimed(self, name: str) -> int:
        """Partitions that a worker shows as its own. What one of its name has left behind that was killed does not count."""
        with contextlib.suppress(Exception):  # the store may be away, which is no owner either
            shown: dict[bytes, bytes] = self.store.direct.hgetall(f"{PREFIX}:worker:{name}")  # type: ignore[assignment]
            if shown.get(b"pid") == str(self.workers[name].pid).encode():
                return sum(b"/" in field for field in shown)
        return 0

    def at_rest(self) -> bool:
        """Whether every worker has partitions, and every partition one worker."""
        claimed = [self.claimed(name) for name in self.workers]
        return all(claimed) and sum(claimed) == TOPICS_READ * PARTITIONS

    def fence(self, owner: str) -> bytes | None:
        """Who owns `o:3`, say."""
        found: bytes | None = self.store.direct.hget(f"{PREFIX}:i:{{{owner}}}:meta", "fence")  # type: ignore[assignment]
        return found

    def fences(self, name: str) -> dict[str, bytes | None]:
        """The owners that a worker shows as its own, with their fences now."""
        topics = self.config.kafka.topics
        kinds = {topics.predictions: "o", topics.digests: "j"}
        shown: list[bytes] = self.store.direct.hkeys(f"{PREFIX}:worker:{name}")  # type: ignore[assignment]
        places = [field.decode().rpartition("/") for field in shown if b"/" in field]
        owners = [f"{kinds[topic]}:{partition}" for topic, _, partition in places if topic in kinds]
        return {owner: self.fence(owner) for owner in owners}

    def stop(self) -> None:
        for worker in self.workers.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGCONT)
            worker.kill()
        self.workers.clear()

    def logs(self) -> str:
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("w*.log")))


@contextlib.contextmanager
def standing(folder: Path, broker: Broker, store: Store, module: tuple[str, ...] = COMMAND) -> Iterator[Ground]:
    """A ground whose parts end with the block, whatever happens in it."""
    ground: Ground | None = None
    try:
        ground = Ground(folder, broker, store, module)
        yield ground
    finally:
        if ground is not None:
            ground.stop()
        broker.stop()
        store.stop()
