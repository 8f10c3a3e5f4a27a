"""One episode: a ground, a plan, a schedule of faults, a verdict. `Result` is what the table is written from."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streams.embedded.redis_binary import RedisBinary
from tests.faults.brokers import Broker, Mock, Real
from tests.faults.ground import COMMAND, Ground, standing
from tests.faults.load import Plan, plan
from tests.faults.schedule import LOSING, Faults, Schedule
from tests.faults.sender import PlainSender, Sender, TransactionalSender
from tests.faults.store import Store
from tests.faults.verdict import Verdict, judge
from tests.real.redis_server import newest_on_path

DAYS_S = 2 * 86_400
EVENTS_A_REQUEST = 1.9


@dataclass
class Result:
    """One episode as it went."""

    backend: str
    seed: int
    seconds: float
    done: Counter[str]
    verdict: Verdict
    workers_started: int
    claims: int
    fenced: int
    refused: int
    rewinds: int
    aborted: int
    ended: list[str]
    after_kill: list[float] = field(default_factory=list)
    after_term: list[float] = field(default_factory=list)
    to_stop: list[float] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "done": dict(self.done), "verdict": vars(self.verdict)}


@dataclass(frozen=True)
class Order:
    """What is to be run. `backend`: embedded or kafka; `rate`: events a second."""

    backend: str
    seed: int
    seconds: float
    rate: float
    faults: Faults
    workers: int = 2
    drain_s: float = 120.0
    module: tuple[str, ...] = COMMAND
    requests: int | None = None
    """Events to send, whatever the faults take; None: as many as fit into the time, and none after it."""
    first: tuple[str, ...] = ()
    """Faults to begin with, so that a short episode has each of them."""

    @property
    def lossy(self) -> bool:
        """Whether the store may go back in time."""
        return bool({*self.faults, *self.first} & {*LOSING})


def parts(backend: str, folder: Path, *, lossy: bool) -> tuple[Broker, Store]:
    """Broker and store, started; a store that is to lose nothing loses nothing, however slow the disk."""
    binary: RedisBinary | None = None if backend == "embedded" else newest_on_path()
    store = Store(folder, binary, keeps=not lossy)
    try:
        broker: Broker = Mock() if backend == "embedded" else Real(folder / "kafka")
    except BaseException:
        store.stop()
        raise
    return broker, store


def senders(ground: Ground, sent: Plan, rate: float, seed: int) -> list[Sender]:
    """One, or on a broker with transactions two: every request's events leave by the same one, in order."""
    topics = {source: getattr(ground.config.kafka.topics, source) for source in ("predictions", "labels")}
    servers = ground.broker.bootstrap_servers
    if not ground.broker.complete:
        return [PlainSender(servers, topics, sent.events, rate)]
    plain = [event for event in sent.events if event.key[-1] % 2]
    others = [event for event in sent.events if not event.key[-1] % 2]
    return [
        PlainSender(servers, topics, plain, rate / 2),
        TransactionalSender(servers, topics, others, rate / 2, f"t{seed}"),
    ]


def run(order: Order, folder: Path, note: Callable[[str], None] = lambda line: None) -> Result:
    """The whole episode. What differs is in the verdict; what hangs is an `AssertionError`."""
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    with standing(folder, *parts(order.backend, folder, lossy=order.lossy), order.module) as ground:
        requests = order.requests or int(order.rate * order.seconds / EVENTS_A_REQUEST)
        sent = plan(order.seed, requests, time.time() // 86_400 * 86_400 - DAYS_S)
        schedule = Schedule(ground, order.seed, order.faults, note)
        schedule.begin(order.workers)
        sending = senders(ground, sent, order.rate, order.seed)
        for sender in sending:
            sender.start()
        sent_from = time.monotonic()
        for name in order.first:
            schedule.do(name)
        schedule.run(sent_from + order.seconds)
        for sender in sending:
            if order.requests is None:
                sender.stop()
        for sender in sending:
            sender.join(60)
        delivered = sum((sender.delivered for sender in sending), Counter[tuple[str, bytes | None]]())
        verdict = judge(ground, sent, delivered, drain_s=order.drain_s, lossy=order.lossy)
        note(f"verdict: {verdict}")
        logs = ground.logs()
        return Result(
            backend=order.backend,
            seed=order.seed,
            seconds=time.monotonic() - began,
            done=schedule.tally.done,
            verdict=verdict,
            workers_started=logs.count(": group "),
            claims=logs.count(" claimed ("),
            fenced=logs.count("commit refused (fenced)"),
            refused=logs.count("commit refused ("),
            rewinds=logs.count("batches were dropped on their way"),
            aborted=sum(sender.aborted for sender in sending),
            ended=ground.ended,
            after_kill=schedule.tally.after_kill,
            after_term=schedule.tally.after_term,
            to_stop=schedule.tally.to_stop,
        )
