"""Leadline's worker beside plain Faust, Quix Streams, Bytewax and the bare ceiling, on one machine in one run.

    python benchmarks/pipeline.py
    python benchmarks/pipeline.py --bootstrap 127.0.0.1:9092 --redis redis://127.0.0.1:6379/0

The first brings an Apache Kafka and a Redis of its own, as the tests do (Java 17, Maven, redis-server).
See ``benchmarks/README.md`` for what each side does and what each number means.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

# Run as a file, Python's path begins with benchmarks/, not with the folder that holds it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.peers import leadline_worker, load, measure, process, report, venvs
from benchmarks.peers.protocol import Spec
from benchmarks.peers.sides import SIDES, Side
from benchmarks.servers import NoServers, servers

TIMEOUT_S = 600.0
ADWIN_MODES = {"all": (1,), "tenth": (10,), "both": (1, 10)}


class Bench:
    """One run of the whole benchmark: topics of its own, sides, repeats."""

    def __init__(
        self, bootstrap: str, redis: str, partitions: int, seed: int, job: str, folder: Path, console: Console
    ) -> None:
        self.bootstrap = bootstrap
        self.redis = redis
        self.partitions = partitions
        self.seed = seed
        self.job = job
        self.folder = folder
        self.console = console
        self.run_id = f"leadline-bench-{uuid4().hex[:8]}"
        self.reference_rows, self.edges = load.write_reference(folder, seed)
        self.expected: dict[int, dict[str, Any]] = {}
        self.runs: list[measure.Run] = []
        self.missing: dict[str, str] = {}

    def preload(self, sizes: list[int], progress: Progress) -> None:
        """Generate and publish one pair of topics per size; each event's time lies in the past hour or hours."""
        for size in sizes:
            span_s = size / 2 / load.PREDICTIONS_PER_S
            bar = progress.add_task(f"load {size:,}", total=size)
            made = load.generate(size, self.seed, self.edges, time.time() - span_s - 3600)
            topics = self._topics(size)
            load.create_topics(self.bootstrap, list(topics), self.partitions)
            load.publish(self.bootstrap, made, topics, partial(progress.advance, bar))
            self.expected[size] = made.expected

    def _topics(self, size: int) -> tuple[str, str]:
        return f"{self.run_id}-{size}.predictions", f"{self.run_id}-{size}.labels"

    def once(self, side: Side, python: Path, events: int, one_in: int, progress: Progress, title: str) -> None:
        """Run one side once, check its counts, remember its figures."""
        bar = progress.add_task(title, total=events)
        predictions, labels = self._topics(events)
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            spec = Spec(
                bootstrap=self.bootstrap,
                predictions=predictions,
                labels=labels,
                partitions=self.partitions,
                events=events,
                one_in=one_in,
                job=self.job,
                variant=side.variant,
                run_id=f"{self.run_id}-{uuid4().hex[:6]}",
                reference=str(self.edges),
                scratch=scratch,
            )

            def counted(n: int) -> None:
                progress.update(bar, completed=n)

            if side.kind == "leadline":
                result = leadline_worker.run(spec, self.redis, self.reference_rows, counted, TIMEOUT_S)
            else:
                result = process.run(python, side.module, spec, counted, TIMEOUT_S)
        run = measure.checked_run(side, one_in, result, self.expected[events])
        self.runs.append(run)
        progress.update(bar, completed=events, description=f"{title}: {run.rate:,.0f}/s")


def _interpreters(sides: list[Side], folder: Path, bench: Bench) -> dict[str, Path]:
    """The interpreter of each side; sides that cannot run here are noted with the reason."""
    found: dict[str, Path] = {}
    for side in sides:
        try:
            if side.kind == "leadline":
                leadline_worker.check(bench.redis)
            found[side.name] = (
                venvs.ensure(side.environment, folder, bench.console.print)
                if side.environment
                else Path(sys.executable)
            )
        except venvs.PeerUnavailable as error:
            bench.missing[side.name] = str(error)
    return found


def main(
    bootstrap: Annotated[
        str | None, typer.Option(help="A real Apache Kafka, host:port. Default: one is started.")
    ] = None,
    redis: Annotated[
        str | None, typer.Option(help="A Redis of its own for the Leadline worker. Default: one is started.")
    ] = None,
    events: Annotated[int, typer.Option(help="Events in all, half predictions, half labels.")] = 800_000,
    partitions: int = 4,
    repeats: Annotated[int, typer.Option(help="Rounds; every round runs every side once.")] = 3,
    job: Annotated[
        str, typer.Option(help="What the peers do: same (the statistics that Leadline keeps) or core (a part).")
    ] = "same",
    adwin: Annotated[str, typer.Option(help="all, tenth or both: the values that ADWIN gets.")] = "both",
    sides: Annotated[str, typer.Option(help="Names, comma-separated; default all.")] = "",
    peer_venvs: Annotated[Path | None, typer.Option(help="Where the peers' virtual environments are kept.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures there too.")] = None,
    seed: int = 1,
) -> None:
    """Compare; exit status 1 where a side counted wrong."""
    console = Console()
    chosen = _choose(sides)
    if adwin not in ADWIN_MODES:
        raise typer.BadParameter(f"--adwin is one of {', '.join(ADWIN_MODES)}")
    if job not in report.JOBS:
        raise typer.BadParameter(f"--job is one of {', '.join(report.JOBS)}")
    with (
        tempfile.TemporaryDirectory(prefix="leadline-bench-") as folder,
        servers(bootstrap, redis, Path(folder), console.print) as (broker, store),
    ):
        bench = Bench(broker, store, partitions, seed, job, Path(folder), console)
        pythons = _interpreters(chosen, peer_venvs or venvs.default_folder(), bench)
        chosen = [side for side in chosen if side.name in pythons]
        sizes = {side.name: min(events, side.events or events) // 2 * 2 for side in chosen}
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn())
        try:
            with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
                bench.preload(sorted(set(sizes.values())), progress)
                for turn in range(repeats):
                    # Each round begins with another side: a slow spell of the machine must not always hit the same one.
                    for side in chosen[turn % len(chosen) :] + chosen[: turn % len(chosen)]:
                        for one_in in ADWIN_MODES[adwin] if side.statistics else (1,):
                            mode = f" (ADWIN: {report.MODES[one_in]})" if side.statistics else ""
                            title = f"{turn + 1}/{repeats} {side.name}{mode}"
                            bench.once(side, pythons[side.name], sizes[side.name], one_in, progress, title)
        finally:
            load.delete_topics(broker, bench.run_id)
        order = [side.name for side in SIDES]
        found = sorted(measure.figures(bench.runs), key=lambda f: (order.index(f.side.name), f.one_in))
        report.show(console, found, bench.missing, job)
        if json_file:
            settings: dict[str, object] = {"events": events, "partitions": partitions, "repeats": repeats, "seed": seed}
            settings |= {"job": job, "load_average": os.getloadavg()}
            report.write(json_file, report.document(found, bench.missing, settings))


def _choose(names: str) -> list[Side]:
    known = {side.name: side for side in SIDES}
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(known)
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise typer.BadParameter(f"no side is called {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in wanted]


if __name__ == "__main__":
    try:
        typer.run(main)
    except (measure.WrongCount, process.PeerFailed, NoServers) as error:
        Console(stderr=True).print(f"[red]{error}", highlight=False)
        sys.exit(1)
