"""The table that people read and the JSON that scripts read."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.peers import venvs
from benchmarks.peers.measure import Figure, leadline_ratio

MODES = {1: "all", 10: "tenth"}
JOBS = {
    "same": "join; by window of ten seconds, version and segment: ten bins, sums and squares of ten features, bins of the score, "
    "confusion, log loss, Brier, calibration; by version: ADWIN of the score, class histograms of 1,024 bins",
    "core": "join; by version alone, over all time: ten bins of ten features, ADWIN of the score, class histograms of 1,024 bins",
}
VERSIONS = ("faust-streaming", "aiokafka", "confluent-kafka", "river", "msgspec")


def show(console: Console, found: list[Figure], missing: dict[str, str], job: str) -> None:
    """Print one row per side and ADWIN mode, then what each side does, then the sides that did not run and why."""
    runs = max((figure.runs for figure in found), default=0)
    title = f"events/s of one worker process each, median of {runs}; job of the peers: {job}"
    table = Table(title=title, box=box.SIMPLE, padding=0)
    table.add_column("side", no_wrap=True)
    table.add_column("ADWIN")
    for heading in ("events", "events/s", "fastest", "spread", "CPU us", "leadline"):
        table.add_column(heading, justify="right")
    for figure in found:
        ratio = leadline_ratio(figure, found)
        table.add_row(
            figure.side.name,
            MODES[figure.one_in] if figure.side.statistics else "-",
            f"{figure.events:,}",
            f"{figure.rate:,.0f}",
            f"{figure.fastest:,.0f}",
            f"{(figure.fastest - figure.slowest) / figure.rate:.0%}",
            f"{figure.cpu_us_per_event:.1f}",
            "-" if ratio is None else f"{ratio:.2f} x",
        )
    console.print(table)
    for size in sorted({figure.events for figure in found if figure.joined is not None}):
        sides = [figure for figure in found if figure.events == size and figure.joined is not None]
        joined = ", ".join(sorted({f"{figure.joined:,}" for figure in sides}))
        console.print(f"joined, of {size:,} events: {joined}, as the load has it, on {len(sides)} of {len(sides)} rows")
    for figure in found:
        if figure.observed_rate is not None:
            console.print(
                f"{figure.side.name} (ADWIN: {MODES[figure.one_in]}): {figure.observed_rate:,.0f} events/s observed and "
                f"committed, {figure.rate:,.0f} with every digest judged"
            )
    console.print(f"job {job}: {JOBS[job]}")
    notes = Table(title="what each side does", show_lines=True)
    for heading in ("side", "work", "after a crash"):
        notes.add_column(heading)
    for side in {figure.side.name: figure.side for figure in found}.values():
        notes.add_row(side.name, side.does, side.recovery)
    console.print(notes)
    largest = max((figure.events for figure in found), default=0)
    for figure in found:
        if figure.events < largest and figure.one_in == min(f.one_in for f in found if f.side == figure.side):
            console.print(f"{figure.side.name} is slow and got {figure.events:,} events, not {largest:,}.")
    for name, reason in missing.items():
        console.print(f"[yellow]{name} did not run: {reason}")


def document(found: list[Figure], missing: dict[str, str], settings: dict[str, Any]) -> dict[str, Any]:
    """Everything of ``show`` as plain JSON, with the machine and the versions."""
    return {
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "versions": {name: version(name) for name in VERSIONS},
        "requirements": {e.name: list(e.requirements) for e in (venvs.QUIX, venvs.BYTEWAX)},
        "settings": settings,
        "not_run": missing,
        "figures": [
            {
                "side": figure.side.name,
                "adwin": MODES[figure.one_in] if figure.side.statistics else None,
                "events": figure.events,
                "runs": figure.runs,
                "events_per_s": round(figure.rate, 1),
                "slowest_events_per_s": round(figure.slowest, 1),
                "fastest_events_per_s": round(figure.fastest, 1),
                "cpu_us_per_event": round(figure.cpu_us_per_event, 3),
                "peak_rss_mb": round(figure.peak_rss_mb, 1),
                "joined": figure.joined,
                "observed_events_per_s": figure.observed_rate and round(figure.observed_rate, 1),
                "leadline_ratio": leadline_ratio(figure, found),
                "does": figure.side.does,
                "after_a_crash": figure.side.recovery,
            }
            for figure in found
        ],
    }


def write(path: Path, content: dict[str, Any]) -> None:
    """Write the document, readable."""
    path.write_text(json.dumps(content, indent=2) + "\n")
