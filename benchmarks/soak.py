"""Is a worker's memory flat? Millions of events through `leadline run` on real Kafka and Redis, and millions of requests pending in Redis.

    python benchmarks/soak.py                                         # brings its own Apache Kafka and Redis
    python benchmarks/soak.py --events 500000 --pending 1000000       # a short form

Two runs, each with a worker, topics and keys of its own. *flow*: a delay window of a day, a prediction a second of event time, each
labelled two hours later, published so that the worker always reads behind a lag of `--ahead` events, which is days. *pending*: a window
of 30 days over 29 days and no labels, as fast as Kafka takes them, then labels for a sample of requests of any age; panes of ten minutes,
because it is not the judge that is asked. The cache of rows is small: Redis holds them. Exit status 1 where a count is wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

# Run as a file, Python's path begins with benchmarks/, not with the folder that holds it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import soak_load
from benchmarks.servers import NoServers, servers
from benchmarks.soak_figures import Sample, at_shares, slope, sparkline
from benchmarks.soak_ground import PARTITIONS, Ground, Soak
from benchmarks.soak_load import Flow, Reins

DAY_S = 86_400.0
LOOK_S = 0.5
ROWS_A_SECOND, LABEL_AFTER_S = 1.0, 7_200.0  # of event time, in the flow: five million events are four weeks
ASKED = 20_000
MB = 1e6


class WrongCount(Exception):
    """What was counted is not what was sent."""


class Ended(Exception):
    """A process that should go on is gone."""


def resident(pid: int) -> float:
    """Bytes; 0 where the process is gone."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * float(os.sysconf("SC_PAGE_SIZE"))
    return 0.0


def watch(ground: Ground, pid: int, progress: Progress) -> list[Sample]:
    """Publish, as far ahead of what is judged as the run allows, and look until all is counted and judged."""
    flow, ahead = ground.soak.flow, ground.soak.ahead
    context = get_context("spawn")
    reins = Reins(context.Value("q", 0), context.Value("q", ahead))
    arguments = (ground.bootstrap, ground.sources, ground.reference, flow, reins)
    publisher = context.Process(target=soak_load.publish_flow, args=arguments, daemon=True)
    bars = [
        progress.add_task(f"{ground.soak.name}: {what}", total=flow.events)
        for what in ("published", "counted", "judged")
    ]
    samples: list[Sample] = []
    publisher.start()
    began = time.monotonic()
    while True:
        events = ground.committed("o", ground.sources)
        rss = resident(pid)
        if not rss:
            raise Ended(f"the worker ended before all was counted. Its last words:\n{ground.last_words()}")
        if publisher.exitcode:
            raise Ended("the publisher ended before all was sent")
        over = events >= flow.events and ground.behind() <= 0
        judged = flow.events if over else min(events, ground.judged())
        reins.allowed.value = judged + ahead
        samples.append(
            Sample(time.monotonic() - began, events, judged, rss, ground.redis.info("memory")["used_memory"])
        )
        for bar, done in zip(bars, (reins.told.value, events, judged), strict=True):
            progress.update(bar, completed=done)
        if over:
            publisher.join()
            return samples
        time.sleep(LOOK_S)


def check(ground: Ground, expected: dict[str, int], what: str) -> None:
    """Wait for the views, which lag by seconds, and compare."""
    deadline = time.monotonic() + 30
    while {name: ground.counts().get(name, 0) for name in expected} != expected:
        if time.monotonic() > deadline:
            raise WrongCount(f"{ground.soak.name}, {what}: counted {ground.counts()}, sent {expected}")
        time.sleep(0.5)


def ask(ground: Ground, asked: int) -> int:
    """Labels for a sample of pending requests of any age: each must find its prediction in Redis. How many were asked."""
    flow = ground.soak.flow
    rows = np.random.default_rng(5).choice(flow.rows, min(asked, flow.rows), replace=False).tolist()
    soak_load.publish_labels(ground.bootstrap, ground.sources, ground.reference, flow, rows, flow.time_of(flow.rows))
    while ground.committed("o", ground.sources) < flow.events + len(rows):
        time.sleep(LOOK_S)
    check(ground, {"predictions": flow.rows, "labels": len(rows), "joined": len(rows)}, "labels for a sample")
    return len(rows)


def run(soak: Soak, bootstrap: str, redis: str, folder: Path, console: Console) -> dict[str, Any]:
    """The whole run; what it found."""
    ground = Ground(soak, bootstrap, redis, folder)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    try:
        soak_load.create_topics(bootstrap, ground.sources, PARTITIONS)
        subprocess.run(ground.command("topics", "create"), check=True, stdout=subprocess.DEVNULL)
        empty = ground.redis.info("memory")["used_memory"]
        with ground.worker() as pid:
            while not ground.redis.keys(f"{ground.run_id}:worker:*"):
                time.sleep(0.1)
            with Progress(*columns, console=console) as progress:
                samples = watch(ground, pid, progress)
            flow = soak.flow
            check(ground, {"predictions": flow.rows, "labels": flow.labels, "joined": flow.labels}, "at the end")
            found = figures(soak, samples)
            if not flow.labels:
                rows = {key: ground.redis.hlen(key) for key in ground.buckets()}
                said = sum(ground.redis.memory_usage(key, samples=1_000) or 0 for key in rows)
                found["rows"] = sum(rows.values())
                found["bytes_a_row"] = said / found["rows"]
                found["redis_growth_a_row"] = (ground.redis.info("memory")["used_memory"] - empty) / found["rows"]
                found["asked"] = ask(ground, ASKED)
        return found
    finally:
        ground.clear()


def figures(soak: Soak, samples: list[Sample]) -> dict[str, Any]:
    """The second half decides: before it caches fill and modules load."""
    half = [sample for sample in samples if soak.flow.events / 2 <= sample.events < soak.flow.events]
    events = np.array([sample.events for sample in half], dtype=float)
    memory = np.array([sample.rss for sample in half])
    found = None
    with contextlib.suppress(ValueError):
        found = slope(events / 1e6, memory / MB)
    return {
        "soak": asdict(soak),
        "seconds": samples[-1].seconds,
        "events": samples[-1].events,
        "samples": [sample._asdict() for sample in samples],
        "peak_mb": max(sample.rss for sample in samples) / MB,
        "slope": found and found._asdict(),
    }


def show(console: Console, found: dict[str, Any]) -> None:
    soak = found["soak"]
    samples = [Sample(**sample) for sample in found["samples"]]
    days = soak["window_s"] / DAY_S
    table = Table(title=f"{soak['name']}: {found['events']:,} events, delay window {days:g} days", title_justify="left")
    for column in ("events judged", "counted", "seconds", "worker RSS, MB", "Redis, MB"):
        table.add_column(column, justify="right")
    for sample in at_shares(samples):
        table.add_row(
            f"{sample.events:,}",
            f"{sample.counted:,}",
            f"{sample.seconds:.0f}",
            f"{sample.rss / MB:.0f}",
            f"{sample.redis / MB:.0f}",
        )
    console.print(table)
    low, high = min(sample.rss for sample in samples) / MB, found["peak_mb"]
    console.print(f"RSS {sparkline(np.array([sample.rss for sample in samples]))} {low:.0f} to {high:.0f} MB")
    fit = found["slope"]
    words = "too short for a slope"
    if fit:
        words = f"{fit['value']:+.2f} ± {fit['error']:.2f} MB a million events (95 %, {fit['n']} block means)"
    console.print(f"second half: {words}; {found['events'] / found['seconds']:,.0f} events a second")
    if "rows" in found:
        console.print(
            f"{found['rows']:,} rows in Redis: {found['bytes_a_row']:.0f} bytes each (MEMORY USAGE), {found['redis_growth_a_row']:.0f} "
            f"by used_memory, which is everything; {found['asked']:,} labels for rows of any age: each found its prediction"
        )


def main(
    bootstrap: Annotated[str | None, typer.Option(help="A real Apache Kafka, host:port.")] = None,
    redis: Annotated[str | None, typer.Option(help="A Redis that nobody else writes to.")] = None,
    events: Annotated[
        int, typer.Option(help="Of the flow, half predictions, half labels; 0: leave it out.")
    ] = 5_000_000,
    pending: Annotated[int, typer.Option(help="Requests that wait in Redis; 0: leave it out.")] = 10_000_000,
    ahead: Annotated[
        int, typer.Option(help="Of the flow: events that may be published before those so far are judged.")
    ] = 400_000,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all samples there.")] = None,
) -> None:
    """Measure; exit status 1 where a count is wrong."""
    console = Console()
    now = time.time()
    soaks = []
    if events:
        after = int(LABEL_AFTER_S * ROWS_A_SECOND)
        rows = (events + after) // 2
        span_s = rows / ROWS_A_SECOND
        flow = Flow(rows=rows, begin_s=now - span_s - 60, span_s=span_s, label_after=after)
        soaks.append(Soak("flow", flow, DAY_S, 10.0, ahead))
    if pending:
        flow = Flow(rows=pending, begin_s=now - 29 * DAY_S, span_s=29 * DAY_S - 60, label_after=None)
        soaks.append(Soak("pending", flow, 30 * DAY_S, 600.0, pending))
    found = []
    with (
        tempfile.TemporaryDirectory(prefix="leadline-soak-") as folder,
        servers(bootstrap, redis, Path(folder), console.print) as (kafka, store),
    ):
        for soak in soaks:
            found.append(run(soak, kafka, store, Path(folder), console))
            show(console, found[-1])
            if json_file:
                json_file.write_text(json.dumps(found))


if __name__ == "__main__":
    try:
        typer.run(main)
    except (Ended, WrongCount, NoServers) as error:
        Console(stderr=True).print(f"[red]{error}", highlight=False)
        sys.exit(1)
