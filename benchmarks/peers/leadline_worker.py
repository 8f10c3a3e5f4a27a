"""Leadline's own worker in the comparison: ``leadline run`` as it ships, watched from outside.

It is started as a subprocess with a configuration written for this run (own group, own topics, own Redis prefix), so
it pays for everything that it does in production: checks, panes, digests, judge, and one Redis commit a batch.
Progress is read from the consumer group's offsets, which the worker mirrors to Kafka only after the Redis commit; the
joined rows from ``leadline status --json``.

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
from pathlib import Path
from typing import Any

import redis as redis_client
import yaml
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

from benchmarks.peers.process import ROOT, PeerFailed
from benchmarks.peers.protocol import Spec, peak_rss_mb
from benchmarks.peers.venvs import PeerUnavailable

POLL_S = 0.05
PREDICTIONS_PER_S = 1000.0  # of event time, as the load has them; the sample is a rate of event time
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
    """The configuration of one run. The ADWIN sample: a tenth of the load's rate, or a cap that nothing reaches."""
    topics = {name: f"{spec.run_id}.{name}" for name in OWN_TOPICS}
    return {
        "kafka": {
            "bootstrap_servers": spec.bootstrap,
            "group": f"{spec.run_id}-leadline",
            "partitions": spec.partitions,
            "topics": {"predictions": spec.predictions, "labels": spec.labels, **topics},
        },
        "redis": {"url": redis, "prefix": spec.run_id},
        "panes": {"sample_per_second": 1e9 if spec.one_in == 1 else PREDICTIONS_PER_S / spec.one_in},
        "models": {"readmission": {"task": "binary", "reference": str(reference)}},
    }


def run(spec: Spec, redis: str, reference: Path, progress: Callable[[int], None], timeout_s: float) -> dict[str, Any]:
    """Run the worker until its offsets reach the end; returns the same figures as the peers. Raises PeerFailed."""
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
            figures = _watch(worker, spec, progress, timeout_s)
        except PeerFailed as error:
            log.seek(0)
            raise PeerFailed(f"{error}\n{log.read()[-1500:]}") from None
        finally:
            _stop(worker)
    status = json.loads(_command("status", "-c", str(config), "--json"))
    _forget(redis, spec.run_id)
    return {**figures, "joined": joined_rows(status)}


def joined_rows(status: dict[str, Any]) -> int:
    """Joined rows over all models in the answer of ``leadline status --json``."""
    return sum(int(model["join"]["joined"]) for model in status["models"])


def _watch(
    worker: subprocess.Popen[bytes], spec: Spec, progress: Callable[[int], None], timeout_s: float
) -> dict[str, Any]:
    admin = AdminClient({"bootstrap.servers": spec.bootstrap})
    deadline = time.monotonic() + timeout_s
    first: tuple[float, int, float] | None = None
    while True:
        counted = _counted(admin, spec)
        now = time.perf_counter()
        if counted and first is None:
            first = (now, counted, _cpu_seconds(worker.pid))
        progress(counted)
        if counted >= spec.events and first is not None:
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
        "cpu_seconds": _cpu_seconds(worker.pid) - first[2],
        "peak_rss_mb": peak_rss_mb(worker.pid),
    }


def _counted(admin: AdminClient, spec: Spec) -> int:
    """Sum of the group's offsets over both topics; every partition of the load begins at 0 and has no gaps."""
    group = ConsumerGroupTopicPartitions(f"{spec.run_id}-leadline")
    answer = next(iter(admin.list_consumer_group_offsets([group]).values())).result(timeout=10)
    wanted = (spec.predictions, spec.labels)
    return sum(max(p.offset, 0) for p in answer.topic_partitions if p.topic in wanted)


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
