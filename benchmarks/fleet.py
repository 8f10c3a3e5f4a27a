"""Two hundred models on one worker, in real time: how much of a core it takes, how far it lags, how old what people read is.

    python benchmarks/fleet.py                          # brings its own Apache Kafka and Redis
    python benchmarks/fleet.py --models 50 --events-per-s 500 --seconds 30

The load is paced by the clock: predictions of every model with ten features and two segments, a label for each some seconds later. Nothing
is slower than time itself; what counts is CPU seconds of the worker for each second of traffic, and whether anything falls behind.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import redis as redis_client
import typer
import yaml
from confluent_kafka import Producer
from rich.console import Console
from rich.progress import track

# Run as a file, Python's path begins with benchmarks/, not with the folder that holds it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.peers.load import FEATURES, PAYERS, SITES, write_reference
from benchmarks.peers.process import ROOT
from benchmarks.peers.protocol import peak_rss_mb
from benchmarks.servers import NoServers, servers

TICK_S = 0.05
LABEL_DELAY_S = 5.0
WARM_S = 10.0


class Load(threading.Thread):
    """Publishes at a steady rate until it is told to stop; `sent` counts both kinds."""

    def __init__(self, bootstrap: str, topics: dict[str, str], models: int, events_per_s: float) -> None:
        super().__init__(daemon=True)
        self.topics, self.models, self.per_tick = topics, models, events_per_s / 2 * TICK_S
        self.producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 20})
        self.over = threading.Event()
        self.sent = 0

    def run(self) -> None:
        rng = np.random.default_rng(1)
        encode = msgspec.json.encode
        owed, waiting, number = 0.0, [], 0
        began = time.monotonic()
        ticks = 0
        while not self.over.is_set():
            owed += self.per_tick
            n, now = int(owed), time.time()
            owed -= n
            values = np.round(rng.lognormal(2, 0.4, (n, len(FEATURES))), 3).tolist()
            scores = np.round(rng.beta(2, 5, n), 6).tolist()
            for row, score in zip(values, scores, strict=True):
                number += 1
                request_id = f"{os.getpid()}-{number:09d}"
                event = {
                    "request_id": request_id,
                    "model_id": f"model-{number % self.models}",
                    "model_version": "7" if number % 3 else "8",
                    "timestamp": now,
                    "score": score,
                    "features": dict(zip(FEATURES, row, strict=True)),
                    "segments": {"site": SITES[number % 4], "payer": PAYERS[number % 3]},
                }
                self.producer.produce(self.topics["predictions"], encode(event), request_id.encode())
                waiting.append((now + LABEL_DELAY_S, request_id, rng.random() < score))
            due = next((at for at, (when, _, _) in enumerate(waiting) if when > now), len(waiting))
            for when, request_id, truth in waiting[:due]:
                label = {"request_id": request_id, "label": truth, "timestamp": when}
                self.producer.produce(self.topics["labels"], encode(label), request_id.encode())
            self.sent += n + due
            del waiting[:due]
            self.producer.poll(0)
            ticks += 1
            self.over.wait(max(0.0, began + ticks * TICK_S - time.monotonic()))
        self.producer.flush(30)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _leadline(*arguments: str) -> None:
    command = [sys.executable, "-m", "leadline.cli", *arguments]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)


def _view_ages(client: redis_client.Redis, prefix: str, models: int) -> list[float]:
    """Seconds between now and the end of what each model's signals show."""
    ages = []
    for model in range(models):
        one = client.hget(f"{prefix}:model:model-{model}:signals", "*|*|psi|score")
        if one is not None:
            ages.append(time.time() - float(json.loads(one)["window_end"]))
    return ages


def _lag(client: redis_client.Redis, prefix: str) -> int:
    return sum(int(client.hget(key, "lag") or 0) for key in client.scan_iter(f"{prefix}:worker:*"))


def main(
    models: int = 200,
    events_per_s: Annotated[float, typer.Option(help="Predictions and labels together.")] = 1000.0,
    seconds: Annotated[float, typer.Option(help="Measured, after ten seconds of warming up.")] = 60.0,
    partitions: int = 4,
    bootstrap: Annotated[str | None, typer.Option(help="A real Apache Kafka, host:port.")] = None,
    redis: Annotated[str | None, typer.Option(help="A Redis of its own for the worker.")] = None,
) -> None:
    """Measure."""
    console = Console()
    with (
        tempfile.TemporaryDirectory(prefix="leadline-fleet-") as folder,
        servers(bootstrap, redis, Path(folder), console.print) as (kafka, store),
    ):
        prefix = f"leadline-fleet-{os.getpid()}"
        topics = {
            name: f"{prefix}.{name}" for name in ("predictions", "labels", "changes", "digests", "alerts", "rejected")
        }
        config = Path(folder) / "leadline.yaml"
        config.write_text(
            yaml.safe_dump(_configuration(kafka, store, prefix, topics, models, partitions, Path(folder)))
        )
        _leadline("topics", "create", "-c", str(config))
        log = (Path(folder) / "worker.log").open("w")
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "leadline.cli", "run", "-c", str(config)]
        worker = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        load = Load(kafka, topics, models, events_per_s)
        client = redis_client.Redis.from_url(store)
        try:
            while not any(client.scan_iter(f"{prefix}:worker:*")):
                if worker.poll() is not None:
                    raise typer.Exit(1)
                time.sleep(0.2)
            load.start()
            time.sleep(WARM_S)
            cpu, sent, began = _cpu_seconds(worker.pid), load.sent, time.monotonic()
            lags: list[int] = []
            ages: list[float] = []
            for _ in track(range(round(seconds)), "measuring", console=console):
                time.sleep(1.0)
                lags.append(_lag(client, prefix))
                ages += _view_ages(client, prefix, models)
            took = time.monotonic() - began
            _show(console, worker.pid, _cpu_seconds(worker.pid) - cpu, load.sent - sent, took, lags, ages)
        finally:
            load.over.set()
            load.join(30)
            worker.send_signal(signal.SIGTERM)
            worker.wait(15)
            log.close()


def _configuration(
    kafka: str, store: str, prefix: str, topics: dict[str, str], models: int, partitions: int, folder: Path
) -> dict[str, Any]:
    rows, _ = write_reference(folder, 1)
    reference = folder / "reference.json"
    _leadline("reference", "build", str(rows), "-o", str(reference))
    return {
        "kafka": {"bootstrap_servers": kafka, "group": prefix, "partitions": partitions, "topics": topics},
        "redis": {"url": store, "prefix": prefix},
        "models": {f"model-{model}": {"task": "binary", "reference": str(reference)} for model in range(models)},
    }


def _show(console: Console, pid: int, cpu: float, events: int, took: float, lags: list[int], ages: list[float]) -> None:
    console.print(f"events a second             {events / took:,.0f}")
    console.print(f"CPU of the worker           {cpu / took:.0%} of a core, {cpu / events * 1e6:.0f} us an event")
    console.print(f"lag, events                 median {np.median(lags):,.0f}, at most {max(lags):,}")
    if ages:
        console.print(f"age of what people read, s  median {np.median(ages):.1f}, at most {max(ages):.1f}")
    console.print(f"resident memory, peak       {peak_rss_mb(pid):,.0f} MB")


if __name__ == "__main__":
    try:
        typer.run(main)
    except NoServers as error:
        Console(stderr=True).print(f"[red]{error}", highlight=False)
        sys.exit(1)
