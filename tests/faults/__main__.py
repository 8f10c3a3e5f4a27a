"""`make faults`: the campaign. Episodes one after another, each result a line of JSON, then the table of all results.

The defaults take about an hour on two cores: seeds on Apache Kafka, every second one with a Redis that goes back in time, then two on the
mock broker, a minute and a half each, which answers with errors of the protocol. `make FAULTS='--seeds 4 --mock --seconds 600' faults` is
one seed, ten minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.faults.episode import Order, run
from tests.faults.report import DOCUMENT, aims, write
from tests.faults.schedule import CAMPAIGN, LOSING

KAFKA_SEEDS, MOCK_SEEDS, LOSSY_SEEDS = [1, 2, 3, 4, 5, 6, 7, 8], [9, 10], [2, 4, 6, 8, 10]
MOCK_MOST_S = (
    90.0  # of faults: what the mock broker remembers is bounded, and the verdict reads every log from its begin
)
OVERHEAD_S = 60.0  # to start an episode's parts, to let it drain and to judge it


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seconds", type=float, default=270.0, help="of faults, for each seed")
    parser.add_argument("--rate", type=float, default=500.0, help="events a second")
    parser.add_argument("--seeds", type=int, nargs="*", default=KAFKA_SEEDS, help="on Apache Kafka")
    parser.add_argument("--mock", type=int, nargs="*", default=MOCK_SEEDS, help="seeds on the mock broker")
    parser.add_argument("--lossy", type=int, nargs="*", default=LOSSY_SEEDS, help="seeds whose Redis goes back in time")
    parser.add_argument("--results", type=Path, default=Path("faults.jsonl"))
    parser.add_argument(
        "--add", action="store_true", help="to the results that are there; otherwise they are begun anew"
    )
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="the text whose table is replaced")
    return parser.parse_args()


def orders(chosen: argparse.Namespace) -> list[Order]:
    """What is to be run, in order."""
    found = []
    for backend, seeds in (("kafka", chosen.seeds), ("embedded", chosen.mock)):
        for seed in seeds:
            faults = {**CAMPAIGN, **LOSING} if seed in chosen.lossy else CAMPAIGN
            workers = 3 if backend == "kafka" else 1
            seconds = chosen.seconds if backend == "kafka" else min(chosen.seconds, MOCK_MOST_S)
            found.append(Order(backend, seed, seconds, chosen.rate, faults, workers))
    return found


def episode(order: Order, note: Callable[[str], None]) -> tuple[dict[str, Any] | None, bool]:
    """Its result, if it came to an end, and whether all was right."""
    folder = Path(tempfile.mkdtemp(prefix=f"leadline-faults-{order.seed}-"))
    try:
        result = run(order, folder, note)
    except Exception as error:
        note(f"seed {order.seed} did not end: {type(error).__name__}: {error}; logs in {folder}")
        return None, False
    right = not result.verdict.faults
    if right:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        note(f"seed {order.seed}: {result.verdict.faults[:20]}; logs in {folder}")
    return {**result.plain(), "date": time.strftime("%Y-%m-%d")}, right


def command(chosen: argparse.Namespace) -> str:
    """What made the table, to be run again."""

    def listed(name: str, seeds: Sequence[int]) -> str:
        return " ".join([name, *map(str, seeds)])

    lists = [
        ("--seeds", chosen.seeds, KAFKA_SEEDS),
        ("--mock", chosen.mock, MOCK_SEEDS),
        ("--lossy", chosen.lossy, LOSSY_SEEDS),
    ]
    other = [listed(name, seeds) for name, seeds, usual in lists if seeds != usual]
    return " ".join(["python -m tests.faults", f"--seconds {chosen.seconds:g} --rate {chosen.rate:g}", *other])


def main() -> int:
    chosen = options()
    if not chosen.add:
        chosen.results.unlink(missing_ok=True)
    rows = [json.loads(line) for line in chosen.results.read_text().splitlines()] if chosen.results.exists() else []
    planned = orders(chosen)
    wrong = 0
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, speed_estimate_period=3600) as progress:
        bar = progress.add_task("faults", total=int(sum(order.seconds + OVERHEAD_S for order in planned)))

        def note(line: str) -> None:
            progress.console.print(f"{time.strftime('%X')} {line}", markup=False, highlight=False, soft_wrap=True)

        for number, order in enumerate(planned, 1):
            name = f"seed {order.seed} on {order.backend} ({number} of {len(planned)}): {', '.join(aims(rows))}"
            progress.update(bar, description=name)
            note(name)
            before = progress.tasks[0].completed
            result, right = episode(order, _ticking(note, progress, before + order.seconds + OVERHEAD_S))
            progress.update(bar, completed=before + order.seconds + OVERHEAD_S)
            wrong += not right
            if result is not None:
                rows.append(result)
                with chosen.results.open("a") as file:
                    file.write(json.dumps(result) + "\n")
    print(", ".join(aims(rows)))
    if rows:
        write(chosen.results, chosen.document, command(chosen))
    return 1 if wrong else 0


def _ticking(note: Callable[[str], None], progress: Progress, most: float) -> Callable[[str], None]:
    """`note`, moving the bar with each line by the seconds since the last one."""
    last = time.monotonic()

    def noted(line: str) -> None:
        nonlocal last
        now = time.monotonic()
        done = progress.tasks[0].completed
        progress.update(progress.tasks[0].id, completed=min(done + now - last, most))
        last = now
        note(line)

    return noted


if __name__ == "__main__":
    sys.exit(main())
