"""How soon, how often in vain, how often not at all: every sequential detector on streams with one known change.

    python benchmarks/detection.py            # 200 seeds, ten million clean rows; about half an hour
    python benchmarks/detection.py --quick    # under a minute

Two figures stand beside the detectors, because neither delay nor false alarms mean anything alone: a dummy that alarms
every N values whatever they are, and the CUSUM that is told the change's size in advance, the best there can be. All
but ADWIN, which has no such setting, are given the same budget of false alarms.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from scipy.optimize import brentq

# Run as a file, Python's path begins with benchmarks/, not with the folder that holds it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.clean_scan import false_alarm_table
from benchmarks.detection_streams import LOSSES, Stream, losses, mean_shift
from detectors.adwin import AdwinConfig
from detectors.edetector import EDetectorConfig
from detectors.page_hinkley import PageHinkleyConfig

BUDGET = 10_000
"""Values to one false alarm."""
DUMMY = 1_000
SHIFTS = (0.25, 0.5, 1.0, 2.0, 3.0)

Alarms = npt.NDArray[np.int64]
Method = Callable[[Stream], Alarms]


def adwin(stream: Stream) -> Alarms:
    """river's ADWIN at its default significance: it has no budget."""
    return _alarms(AdwinConfig(low=stream.low, high=stream.high).build(), stream)


def e_detector(stream: Stream) -> Alarms:
    """Knows the baseline (and its error) and the range."""
    config = EDetectorConfig(
        baseline=stream.baseline, tolerance=2 * stream.error, low=stream.low, high=stream.high, alpha=1 / BUDGET
    )
    return _alarms(config.build(), stream)


def page_hinkley(stream: Stream) -> Alarms:
    """Knows baseline and spread; tuned for shifts of half a spread (both directions share the budget)."""
    config = PageHinkleyConfig(
        centre=stream.baseline, spread=stream.spread, slack=0.25, threshold=threshold(0.5, 0.125, 2 * BUDGET) / 0.5
    )
    return _alarms(config.build(), stream)


def ideal_cusum(stream: Stream) -> Alarms:
    """Knows both laws: Page's CUSUM of the log-likelihood ratio, optimal for this very change."""
    p, q = stream.baseline, stream.after
    if stream.low == 0.0:
        p, q = min(max(p, 1e-3), 1 - 1e-3), min(max(q, 1e-3), 1 - 1e-3)
        hit, miss = math.log(q / p), math.log((1 - q) / (1 - p))
        steps = np.where(stream.values > 0.5, hit, miss)
        drift, spread = -(p * hit + (1 - p) * miss), abs(hit - miss) * math.sqrt(p * (1 - p))
    else:
        steps = (q - p) * (stream.values - (p + q) / 2)
        drift, spread = (q - p) ** 2 / 2, abs(q - p)
    limit, total, alarms = threshold(spread, drift, BUDGET), 0.0, []
    for at, step in enumerate(steps.tolist()):
        total = max(0.0, total + step)
        if total > limit:
            alarms.append(at)
            total = 0.0
    return np.array(alarms, dtype=np.int64)


def dummy(stream: Stream) -> Alarms:
    """Alarms every DUMMY values and looks at none of them."""
    return np.arange(DUMMY - 1, stream.values.size, DUMMY)


METHODS: dict[str, Method] = {
    "ADWIN": adwin,
    "e-detector": e_detector,
    "Page-Hinkley": page_hinkley,
    f"dummy, every {DUMMY:,}": dummy,
    "ideal CUSUM": ideal_cusum,
}


def threshold(spread: float, drift: float, run_length: float) -> float:
    """CUSUM limit for an average run length, by Siegmund's approximation (b = limit + 1.166 spread)."""
    excess = 1.166 * spread
    limit = brentq(lambda h: math.exp(h + excess) - (h + excess) - 1 - run_length * drift, 0.0, 100.0)
    return float(limit)


def _alarms(detector: Any, stream: Stream) -> Alarms:
    return np.array([one.index for one in detector.update_many(stream.values)], dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One detector on one kind of stream, over all seeds."""

    stream: str
    detector: str
    delay_median: float
    delay_p90: float
    missed: float
    false_alarms_per_budget: float
    seeds: int


def measure(name: str, streams: Iterator[Stream], tick: Callable[[], None]) -> list[Row]:
    """Delay of the first alarm after the change, alarms before it, and streams without one after it."""
    delays: dict[str, list[float]] = {method: [] for method in METHODS}
    early, clean, seeds = dict.fromkeys(METHODS, 0), 0, 0
    for stream in streams:
        clean, seeds = clean + stream.change, seeds + 1
        for method, run in METHODS.items():
            alarms = run(stream)
            early[method] += int((alarms < stream.change).sum())
            later = alarms[alarms >= stream.change]
            delays[method].append(float(later[0] - stream.change + 1) if later.size else math.inf)
        tick()
    return [
        Row(
            stream=name,
            detector=method,
            delay_median=float(np.quantile(delays[method], 0.5, method="lower")),
            delay_p90=float(np.quantile(delays[method], 0.9, method="lower")),
            missed=float(np.mean(np.isinf(delays[method]))),
            false_alarms_per_budget=early[method] * BUDGET / clean,
            seeds=seeds,
        )
        for method in METHODS
    ]


def show(rows: list[Row], console: Console) -> None:
    """The table that people read."""
    table = Table(title=f"one change per stream; budget: one false alarm in {BUDGET:,} values")
    for heading, side in [
        ("stream", "left"),
        ("detector", "left"),
        ("delay, median", "right"),
        ("delay, 90 %", "right"),
        ("missed", "right"),
        (f"false alarms per {BUDGET:,}", "right"),
    ]:
        table.add_column(heading, justify=side)  # type: ignore[arg-type]
    last = ""
    for row in rows:
        if last and row.stream != last:
            table.add_section()
        delays = [f"{delay:,.0f}" if math.isfinite(delay) else "never" for delay in (row.delay_median, row.delay_p90)]
        label = f"{row.stream} ({row.seeds} seeds)" if row.stream != last else ""
        table.add_row(label, row.detector, *delays, f"{row.missed:.0%}", f"{row.false_alarms_per_budget:.2f}")
        last = row.stream
    console.print(table)


def main() -> None:
    """Run, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few seeds, few clean rows: under a minute")
    parser.add_argument("--seeds", type=int, help="seeds of the mean shifts (a quarter of them for the concepts)")
    parser.add_argument(
        "--clean-rows", type=int, help="rows of 50 clean features for the false-alarm count; 0 for none"
    )
    parser.add_argument("--json", help="write all figures to this file")
    options = parser.parse_args()
    seeds = options.seeds or (10 if options.quick else 200)
    clean_rows = options.clean_rows if options.clean_rows is not None else (200_000 if options.quick else 10_000_000)
    clean, changed = (2_000, 3_000) if options.quick else (5_000, 5_000)
    concept_seeds = max(2, seeds // 4)
    console, started, rows = Console(width=None if sys.stdout.isatty() else 110), time.perf_counter(), []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("streams", total=len(SHIFTS) * seeds + len(LOSSES) * concept_seeds)
        for sigmas in SHIFTS:
            shifted = (mean_shift(sigmas, seed, clean, changed) for seed in range(seeds))
            rows += measure(f"mean + {sigmas:g} sigma", shifted, lambda: progress.advance(task))
        for name in LOSSES:
            drifting = (losses(name, seed, clean, changed) for seed in range(concept_seeds))
            rows += measure(f"loss, {name}", drifting, lambda: progress.advance(task))
        alarms = false_alarm_table(clean_rows, progress) if clean_rows else []
    show(rows, console)
    if alarms:
        table = Table(title=f"{clean_rows:,} clean rows x 50 features: alarms in all (every one is false)")
        table.add_column("rule")
        table.add_column("budget", justify="right")
        table.add_column("alarms", justify="right")
        for rule in alarms:
            table.add_row(rule.rule, f"{rule.budget:g}" if rule.budget else "none", f"{rule.alarms:,}")
        console.print(table)
    console.print(f"{time.perf_counter() - started:.0f} s")
    if options.json:
        figures = {"streams": [asdict(row) for row in rows], "clean": [asdict(rule) for rule in alarms]}
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
