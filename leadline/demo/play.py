"""The demo as it runs: a broker, a Redis, a worker and a delivery, a service that publishes, and the alerts as they come back.

Every part is the product's own: the worker is `leadline run`, the delivery `leadline deliver`, the service uses `leadline.Publisher`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import yaml

from leadline.alert import Alert
from leadline.demo import model as models
from leadline.demo.hospital import MODEL_ID, Service
from leadline.demo.scenario import Act, acts, configuration, judge, length_s
from leadline.publisher import Publisher

STEP_S = 0.1
LATE_S = 30.0  # for alerts after the last event; not waited when all is told
READY_S = 180.0  # a busy machine starts slowly
Step = Callable[["State"], None]


class DemoFailed(Exception):
    """A part of the demo did not start or died. The text holds the end of its log."""


@dataclass
class State:
    """What the screen shows."""

    stage: str = "starting"
    began: float = 0.0
    length_s: float = 0.0
    acts: Sequence[Act] = ()
    published: int = 0
    labels: int = 0
    joined: int = 0
    dropped: int = 0
    signals: dict[str, dict[str, object]] = field(default_factory=dict)
    alerts: list[Alert] = field(default_factory=list)

    @property
    def elapsed_s(self) -> float:
        return max(time.time() - self.began, 0.0) if self.began else 0.0


def play(show: Step, folder: Path | None = None, seed: int = 7, rate: float = 300.0) -> State:
    """Plays all acts in real time. `show` is called about ten times a second. Raises DemoFailed; leaves nothing running."""
    # Heavy parts are needed by the demo alone.
    from leadline.config import parse_config
    from streams.embedded.embedded import Embedded
    from streams.transport.topic_plan import partition_counts
    from streams.worker.run import topic_specs

    state = State()
    with ExitStack() as stack:
        # Absolute: references are relative to the file that names them.
        place = folder.resolve() if folder else Path(stack.enter_context(TemporaryDirectory(prefix="leadline-demo-")))
        place.mkdir(parents=True, exist_ok=True)
        state.stage = "training the hospital's model"
        show(state)
        model = models.train(seed)
        reference = place / "reference.csv"
        models.write_reference(reference, models.reference(model, seed))
        state.stage = "starting a broker and a Redis on loopback"
        show(state)
        planned = parse_config(yaml.safe_dump(configuration(str(reference), "127.0.0.1:1", "redis://127.0.0.1")))
        embedded = stack.enter_context(Embedded(partition_counts(topic_specs(planned))))
        config = place / "leadline.yaml"
        alerts_file = place / "alerts.jsonl"
        alerts_file.unlink(missing_ok=True)  # of an earlier play in the same folder
        settings = configuration(str(reference), embedded.bootstrap_servers, embedded.redis_url)
        settings["sinks"] = [{"kind": "jsonl", "path": str(alerts_file)}]
        config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        parts = [
            _Part(
                stack,
                name,
                [sys.executable, "-m", "leadline.cli", name, "-c", str(config)],
                place,
                scratch=folder is None,
            )
            for name in ("run", "deliver")
        ]
        reader = _Reader(embedded.redis_url, alerts_file)
        stack.callback(reader.close)
        state.stage = "waiting for the worker"
        _wait_ready(reader, parts, show, state)
        service = Service(model, time.time() + 0.5, rate=rate, seed=seed, prefix=f"visit-{int(time.time())}")
        state.began, state.stage = service.began, "running"
        state.acts = acts(service, service.began)
        state.length_s = length_s(state.acts, service.began)
        publisher = stack.enter_context(Publisher(embedded.bootstrap_servers))
        _perform(service, publisher, reader, parts, show, state)
        state.stage = "done"
        show(state)
    return state


def _perform(
    service: Service, publisher: Publisher, reader: _Reader, parts: Sequence[_Part], show: Step, state: State
) -> None:
    failures = [act.failure for act in state.acts]
    end, at = service.began + state.length_s, service.began
    while at < end:
        now = min(time.time(), end)
        if now - at >= STEP_S or now == end:  # the last step may be a short one
            rows = service.rows(at, now, failures)
            for prediction in rows.predictions:
                publisher.predict(**msgspec.structs.asdict(prediction))
            for label in rows.labels:
                publisher.label(**msgspec.structs.asdict(label))
            state.published += len(rows.predictions)
            state.labels += len(rows.labels)
            at = now
        state.dropped = publisher.stats.dropped_total
        reader.read(state)
        for part in parts:
            part.check()
        show(state)
        time.sleep(STEP_S / 2)
    publisher.flush(5.0)
    # The last labels and their alert are still on their way; on a busy machine the worker may be behind, too.
    until = time.time() + LATE_S
    while time.time() < until and any(outcome.alert is None for outcome in judge(state.acts, state.alerts)[0]):
        reader.read(state)
        show(state)
        time.sleep(STEP_S)


def _wait_ready(reader: _Reader, parts: Sequence[_Part], show: Step, state: State) -> None:
    until = time.time() + READY_S
    while not reader.worker_runs():
        for part in parts:
            part.check()
        if time.time() > until:
            raise DemoFailed(f"the worker was not ready after {READY_S:.0f} s:\n{parts[0].tail()}")
        show(state)
        time.sleep(STEP_S)


class _Part:
    """A process of the demo, which ends with us, also after kill -9; its log is kept until the end."""

    def __init__(self, stack: ExitStack, name: str, command: Sequence[str], place: Path, *, scratch: bool) -> None:
        from streams.embedded.child import Child

        self.name = name
        log = place / f"{name}.log"
        log.unlink(missing_ok=True)  # of an earlier play in the same folder
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self._child = Child(command, log=log, env=environment, remove=place if scratch else None)
        stack.callback(self._child.stop)

    def tail(self) -> str:
        return "\n".join(self._child.log_tail().splitlines()[-15:])

    def check(self) -> None:
        status = self._child.status
        if status is not None:
            raise DemoFailed(f"`leadline {self.name}` ended with status {status}:\n{self.tail()}")


class _Reader:
    """Reads what on-call people read: the views in Redis, and the alerts that were delivered."""

    def __init__(self, url: str, alerts: Path) -> None:
        import redis

        self._redis = redis.Redis.from_url(url, decode_responses=True)
        self._alerts = alerts
        self._position = 0
        self._next = 0.0

    def worker_runs(self) -> bool:
        for name in self._redis.scan_iter("leadline:worker:*"):
            if self._redis.type(name) == "hash" and self._redis.hget(name, "state") == "running":
                return True
        return False

    def read(self, state: State) -> None:
        self._read_alerts(state)
        if time.time() < self._next:
            return
        self._next = time.time() + 0.5
        base = f"leadline:model:{MODEL_ID}"
        state.joined = int(self._redis.hget(base, "join:joined") or 0)
        signals = self._redis.hgetall(f"{base}:signals")
        state.signals = {str(name): json.loads(text) for name, text in signals.items()}

    def _read_alerts(self, state: State) -> None:
        if not self._alerts.exists():
            return
        with self._alerts.open("rb") as file:
            file.seek(self._position)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._position += len(line)
                state.alerts.append(Alert.model_validate_json(line))

    def close(self) -> None:
        self._redis.close()
