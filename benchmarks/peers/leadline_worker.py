"""Leadline's own worker in the comparison: ``leadline run`` as it ships, watched from outside.

It is started as a subprocess with a configuration written for this run (own group, own topics, own Redis prefix), so
it pays for everything that it does in production: checks, panes, digests, judge, and one Redis commit a batch.
Progress is read from Redis, where a commit stores the offset with the state (Kafka's own group offsets are a mirror of
it, a second late). *Observed*: every event is counted and committed. *Judged*: the judges have committed every digest
that came of it as well. The worker is done when both are.

The clock starts when the first offset appears, and the events counted by then are not credited.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import redis as redis_client
import yaml
from confluent_kafka import Consumer, TopicPartition

from benchmarks.peers.load import PREDICTIONS_PER_S
from benchmarks.peers.process import ROOT, PeerFailed
from benchmarks.peers.protocol import Spec, peak_rss_mb
from benchmarks.peers.venvs import PeerUnavailable

POLL_S = 0.05
VIEWS_S = 10.0
OWN_TOPICS = ("changes", "digests", "alerts", "rejected")


def check(redis: str) -> None:
    """Raises PeerUnavailable without the command or without a Redis that answers."""
    if importlib.util.find_spec("leadline.cli") is None:
        raise PeerUnavailable("the command line of leadline is not installed")
    try:
        redis_client.Redis.from_url(redis, socket_connect_timeout=3).ping()
    except redis_client.RedisError as error:
        raise PeerUnavailable(f"no Redis answers for the worker: {error}") from None


def configuration(spec: Spec, redis: str, reference: Path) -> dict[str, Any]:
    """The configuration of one run. The ADWIN sample is a rate of event time, for each partition: a tenth of what the
    load brings, or a cap that nothing reaches.
    """
    arriving = PREDICTIONS_PER_S / spec.partitions
    topics = {name: f"{spec.run_id}.{name}" for name in OWN_TOPICS}
    return {
        "kafka": {
            "bootstrap_servers": spec.bootstrap,
            "group": f"{spec.run_id}-leadline",
            "partitions": spec.partitions,
            "topics": {"predictions": spec.predictions, "labels": spec.labels, **topics},
        },
        "redis": {"url": redis, "prefix": spec.run_id},
        "panes": {"sample_per_second": 8 * arriving if spec.one_in == 1 else arriving / spec.one_in},
        "models": {"readmission": {"task": "binary", "reference": str(reference)}},
    }


def run(spec: Spec, redis: str, reference: Path, progress: Callable[[int], None], timeout_s: float) -> dict[str, Any]:
    """Run the worker until all is observed and judged; returns the same figures as the peers. Raises PeerFailed."""
    config = Path(spec.scratch) / "leadline.yaml"
    config.write_text(yaml.safe_dump(configuration(spec, redis, reference)))
    _command("topics", "create", "-c", str(config))
    with tempfile.TemporaryFile("w+") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "leadline.cli", "run", "-c", str(config)],
            cwd=spec.scratch,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            figures = _watch(worker, spec, redis, progress, timeout_s)
            joined = _joined(config)
        except PeerFailed as error:
            log.seek(0)
            raise PeerFailed(f"{error}\n{log.read()[-1500:]}") from None
        finally:
            _stop(worker)
    _forget(redis, spec.run_id)
    return {**figures, "joined": joined}


def joined_rows(status: dict[str, Any]) -> tuple[int, int]:
    """Joined rows in the answer of ``leadline status --json``: as the observers counted them, as the judges have them."""
    observed = sum(int(partition.get("joined", 0)) for partition in status["joins"])
    return observed, sum(int(model["join"]["joined"]) for model in status["models"])


def _joined(config: Path) -> int:
    """What observers and judges agree on. The judges' view is shown every few seconds: it is waited for."""
    deadline = time.monotonic() + VIEWS_S
    while True:
        observed, judged = joined_rows(json.loads(_command("status", "-c", str(config), "--json")))
        if observed == judged:
            return observed
        if time.monotonic() > deadline:
            raise PeerFailed(f"the observers joined {observed} rows, the judges know of {judged}")
        time.sleep(1.0)


class _Progress:
    """The offsets that the worker's commits have stored in Redis."""

    def __init__(self, spec: Spec, redis: str) -> None:
        self.spec = spec
        self._redis = redis_client.Redis.from_url(redis)
        # Never subscribed: it is only asked where a log ends.
        self._kafka = Consumer({"bootstrap.servers": spec.bootstrap, "group.id": f"{spec.run_id}-ends"})

    def _meta(self, owner: str, fields: list[str]) -> list[list[bytes | None]]:
        pipeline = self._redis.pipeline(transaction=False)
        for partition in range(self.spec.partitions):
            pipeline.hmget(f"{self.spec.run_id}:i:{{{owner}:{partition}}}:meta", fields)
        found: list[list[bytes | None]] = pipeline.execute()
        return found

    def observed(self) -> int:
        """Events in the observers' commits; every partition of the load begins at 0 and has no gaps."""
        fields = [f"o:{self.spec.predictions}", f"o:{self.spec.labels}"]
        return sum(int(offset or 0) for row in self._meta("o", fields) for offset in row)

    def judged(self) -> bool:
        """Whether the judges have committed every digest. True only after all is observed."""
        for partition in range(self.spec.partitions):
            if self._redis.hlen(f"{self.spec.run_id}:i:{{o:{partition}}}:outbox"):
                return False  # committed, not yet confirmed by Kafka
        topic = f"{self.spec.run_id}.digests"
        for partition, (offset,) in enumerate(self._meta("j", [f"o:{topic}"])):
            if int(offset or 0) < self._kafka.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)[1]:
                return False
        return True

    def close(self) -> None:
        self._kafka.close()
        self._redis.close()


def _watch(
    worker: subprocess.Popen[bytes], spec: Spec, redis: str, progress: Callable[[int], None], timeout_s: float
) -> dict[str, Any]:
    with closing(_Progress(spec, redis)) as seen:
        return _timed(worker, spec, seen, progress, timeout_s)


def _timed(
    worker: subprocess.Popen[bytes], spec: Spec, seen: _Progress, progress: Callable[[int], None], timeout_s: float
) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    first: tuple[float, int, float] | None = None
    observed_at: float | None = None
    while True:
        counted = seen.observed()
        now = time.perf_counter()
        if counted and first is None:
            first = (now, counted, _cpu_seconds(worker.pid))
        progress(counted)
        if counted >= spec.events and first is not None:
            if observed_at is None:
                observed_at = now
            if seen.judged():
                now = time.perf_counter()
                break
        if worker.poll() is not None:
            raise PeerFailed(f"leadline run ended with status {worker.returncode} at {counted} of {spec.events} events")
        if time.monotonic() > deadline:
            raise PeerFailed(f"leadline run counted {counted} of {spec.events} events in {timeout_s:.0f} s")
        time.sleep(POLL_S)
    if first[1] >= spec.events:
        raise PeerFailed("leadline run was done before its first offset was seen; use more --events")
    return {
        "events": spec.events,
        "timed_events": spec.events - first[1],
        "seconds": now - first[0],
        "observed_seconds": observed_at - first[0],
        "cpu_seconds": _cpu_seconds(worker.pid) - first[2],
        "peak_rss_mb": peak_rss_mb(worker.pid),
    }


def _cpu_seconds(group: int) -> float:
    """CPU seconds of every living process of the group: the worker and what it started."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in parentheses may hold spaces; state, parent and group follow it.
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended while we were looking
            continue
        if int(fields[2]) == group:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _command(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "leadline.cli", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise PeerFailed(
            f"leadline {' '.join(arguments)}: status {done.returncode}\n{(done.stderr or done.stdout)[-1500:]}"
        )
    return done.stdout


def _stop(worker: subprocess.Popen[bytes]) -> None:
    if worker.poll() is None:
        worker.terminate()
        try:
            worker.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


def _forget(redis: str, prefix: str) -> None:
    """Delete this run's keys, wherever the prefix stands in them (a hash tag may come first)."""
    client = redis_client.Redis.from_url(redis)
    for key in client.scan_iter(match=f"*{prefix}*", count=1000):
        client.unlink(key)
