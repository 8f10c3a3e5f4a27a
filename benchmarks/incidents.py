"""What `leadline backtest` says about faults that we know: when, under which name, where, how often, and when it is over.

    python benchmarks/incidents.py                     # every fault, three seeds, ten clean logs, a busy model; some minutes
    python benchmarks/incidents.py --seeds 1 --only nulls,rename --show
    python benchmarks/incidents.py --world weather   # rows that depend on each other, see benchmarks/incident_worlds.py
    python benchmarks/incidents.py --json out.json

Each log holds up to four faults, one after another, with a day and more between them; a report's incidents are held against them.
`ok` of a name is: signal, subject, version and segment are those of the fault.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

# Run as a file, Python's path begins with benchmarks/, not with the folder that holds it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.incident_faults import CATALOGUE, Fault, play
from benchmarks.incident_logs import DAY_S, START, Rows, Shape, write_labels, write_predictions, write_reference
from benchmarks.incident_worlds import WORLDS
from leadline.config import Config, Join, Model, Panes
from streams.backtest.backtest import Backtest
from streams.judge.views import incident_row

SLOW = Shape(events=21_600, seconds=12 * DAY_S)
BUSY = Shape(events=216_000, seconds=3 * 3600.0, label_median_s=60.0, delay_window_s=1800.0)
THREE = (("1", 0.5), ("2", 0.35), ("3", 0.15))
FIRST_H, EVERY_H = 40.0, 60.0


@dataclass
class Case:
    """One log: its shape, its faults as (name, start in epoch seconds, hours), its seed."""

    seed: int
    shape: Shape
    plan: list[tuple[str, float, float]]
    pane_s: float = 10.0
    standing: str = ""
    """A fault that begins after a day and stays to the end: what comes later must be told all the same."""

    @property
    def faults(self) -> list[Fault]:
        return [CATALOGUE[name].at(start, hours) for name, start, hours in self.plan]

    @property
    def played(self) -> list[Fault]:
        stays = [CATALOGUE[self.standing].at(START + DAY_S, self.shape.seconds / 3600.0)] if self.standing else []
        return stays + self.faults


@dataclass
class Verdict:
    """How one fault of one log was reported. Times in seconds; None is never. `events` are rows of the fault's scope until the opening."""

    fault: str
    seed: int
    detected: bool = False
    events: int | None = None
    outcomes: int | None = None
    delay_s: float | None = None
    onset_error_s: float | None = None
    signal_ok: bool = False
    subject_ok: bool = False
    version_ok: bool = False
    segment_ok: bool = False
    opened: int = 0
    resolved_after_s: float | None = None
    titles: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.signal_ok and self.subject_ok and self.version_ok and self.segment_ok


@dataclass
class Result:
    seed: int
    busy: bool
    verdicts: list[Verdict]
    false: list[str]
    events: int
    seconds: float
    incidents: list[dict[str, Any]]


def run(case: Case) -> Result:
    """Writes the log, reads it as the command does, and scores the incidents."""
    rng = np.random.default_rng([case.seed, 1])
    with tempfile.TemporaryDirectory(prefix="leadline-incidents-") as folder:
        place = Path(folder)
        write_reference(place / "reference.csv", np.random.default_rng([case.seed, 2]), world=case.shape.world)
        rows = play(case.played, case.shape, rng)
        write_predictions(place / "predictions.jsonl", rows, rng)
        write_labels(place / "labels.jsonl", rows, rng, case.shape)
        config = Config(
            models={"*": Model(reference=place / "reference.csv", latency_slo_ms=120.0)},
            join=Join(delay_window=case.shape.delay_window_s),
            panes=Panes(pane=case.pane_s),
        )
        began = time.perf_counter()
        backtest = Backtest(config)
        backtest.run(place / "predictions.jsonl", place / "labels.jsonl", time.time())
        seconds = time.perf_counter() - began
    incidents = sorted(
        (
            incident_row(incident)
            for judge in backtest.judge.models.values()
            for incident in [*judge.resolved, *judge.incidents]
        ),
        key=lambda row: float(row["opened_at"]),
    )
    return score(case, rows, incidents, seconds)


def score(case: Case, rows: Rows, incidents: list[dict[str, Any]], seconds: float) -> Result:
    """An incident is a fault's if it opened between its begin and its end plus the labels' delay; the rest are false."""
    margin = case.shape.delay_window_s * 1.5
    rest = list(incidents)
    verdicts = []
    if case.standing:
        rest = [row for row in rest if not START + DAY_S <= row["opened_at"] < START + FIRST_H * 3600.0]
    for fault in case.faults:
        mine = [row for row in rest if fault.start <= row["opened_at"] < fault.end + margin]
        rest = [row for row in rest if row not in mine]
        verdicts.append(judge(case, fault, rows, mine))
    false = [
        f"{(row['opened_at'] - START) / 3600:.1f} h {row['title']} n={row['n']} p=1e{_surest(row):.0f}" for row in rest
    ]
    return Result(case.seed, case.shape.seconds < DAY_S, verdicts, false, int(rows.kept.sum()), seconds, incidents)


def _surest(row: dict[str, Any]) -> float:
    return min((item["log10_p"] for item in row["evidence"] if item["log10_p"] is not None), default=0.0)


def judge(case: Case, fault: Fault, rows: Rows, mine: list[dict[str, Any]]) -> Verdict:
    verdict = Verdict(fault.name, case.seed, opened=len(mine))
    for row in mine:
        resolved = f"{(row['resolved_at'] - fault.end) / 3600:+.1f}" if row["resolved_at"] else "never"
        verdict.titles.append(
            f"{(row['opened_at'] - fault.start) / 3600:.1f} h {row['signal']} {row['title']} (resolved {resolved})"
        )
    if not mine:
        return verdict
    first = mine[0]
    mask = (
        fault.mask(rows) if fault.name != "segment-vanishes" else (rows.time >= fault.start) & (rows.time < fault.end)
    )
    verdict.detected = True
    verdict.delay_s = first["opened_at"] - fault.start
    verdict.events = int((mask & (rows.time < first["opened_at"])).sum())
    verdict.onset_error_s = first["onset_at"] - fault.start
    verdict.signal_ok = first["signal"] in fault.signals
    verdict.subject_ok = fault.subjects is None or first["subject"] in fault.subjects
    verdict.version_ok = first["model_version"] == fault.version
    verdict.segment_ok = first["segment"] == fault.segment
    ends = [row["resolved_at"] for row in mine]
    verdict.resolved_after_s = max(ends) - fault.end if all(end is not None for end in ends) else None
    return verdict


def cases(
    seeds: int, clean: int, busy: int, only: set[str], first: int = 0, standing: str = "", world: str = "iid"
) -> Iterator[Case]:
    """All faults in an order drawn for each seed, four to a log; clean logs; busy logs. `standing` lies under all of the first kind."""
    for seed in range(first, first + seeds):
        rng = np.random.default_rng([seed, 3])
        names = [name for name in CATALOGUE if (not only or name in only) and name != standing]
        rng.shuffle(names)
        shape = (SLOW._replace(versions=THREE) if seed % 2 else SLOW)._replace(world=world)
        for number, at in enumerate(range(0, len(names), 4)):
            plan = [
                (name, START + (FIRST_H + place * EVERY_H) * 3600.0, _hours(CATALOGUE[name], rng))
                for place, name in enumerate(names[at : at + 4])
            ]
            yield Case(1000 * seed + number, shape, plan, standing=standing)
    for seed in range(clean):
        shape = (SLOW._replace(versions=THREE) if seed % 2 else SLOW)._replace(world=world)
        yield Case(500_000 + 1000 * first + seed, shape, [])
    for seed in range(busy):
        rng = np.random.default_rng([seed, 4])
        names = [name for name in CATALOGUE if not only or name in only]
        chosen = rng.choice(names, min(4, len(names)), replace=False).tolist()
        plan = [(name, START + (30 + 40 * place) * 60.0, 0.25) for place, name in enumerate(chosen)]
        yield Case(900_000 + seed, BUSY._replace(world=world), plan, pane_s=(1.0, 10.0)[seed % 2])


def _hours(fault: Fault, rng: np.random.Generator) -> float:
    return float(np.clip(fault.hours * rng.choice([0.75, 1.0, 1.5]), 6.0, 24.0))


def summary(results: list[Result]) -> Table:
    table = Table(title="faults")
    for name in (
        "fault",
        "scope",
        "found",
        "events",
        "delay h",
        "onset h",
        "signal",
        "subject",
        "version",
        "segment",
        "all ok",
        "incidents",
        "resolved",
        "after h",
    ):
        table.add_column(name, justify="left" if name in ("fault", "scope") else "right")
    verdicts = [verdict for result in results for verdict in result.verdicts]
    for name, fault in CATALOGUE.items():
        of = [verdict for verdict in verdicts if verdict.fault == name]
        if of:
            table.add_row(name, (fault.version and f"version {fault.version}") or fault.segment or "all", *_line(of))
    table.add_section()
    table.add_row("all", "", *_line(verdicts))
    return table


def _line(of: list[Verdict]) -> list[str]:
    seen = [verdict for verdict in of if verdict.detected]
    ended = [verdict.resolved_after_s / 3600 for verdict in seen if verdict.resolved_after_s is not None]

    def middle(values: list[float], form: str) -> str:
        return f"{median(values):{form}} ≤{max(values):{form}}" if values else "-"

    return [
        f"{len(seen)}/{len(of)}",
        middle([float(verdict.events or 0) for verdict in seen], ".0f"),
        middle([(verdict.delay_s or 0.0) / 3600 for verdict in seen], ".1f"),
        middle([abs(verdict.onset_error_s or 0.0) / 3600 for verdict in seen], ".1f"),
        *(
            f"{sum(getattr(verdict, name) for verdict in seen)}"
            for name in ("signal_ok", "subject_ok", "version_ok", "segment_ok", "ok")
        ),
        f"{sum(verdict.opened for verdict in of) / max(len(seen), 1):.2f}",
        f"{len(ended)}/{len(seen)}",
        middle(ended, ".1f"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="how often each fault is played")
    parser.add_argument("--clean", type=int, default=10, help="logs without any fault")
    parser.add_argument("--busy", type=int, default=2, help="logs of 20 events a second for three hours")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", default="", help="names of faults, with commas")
    parser.add_argument("--standing", default="", help="a fault that begins after a day and stays, under all others")
    parser.add_argument("--world", choices=WORLDS, default="iid", help="how the rows of the logs depend on each other")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--show", action="store_true", help="every incident of every fault")
    arguments = parser.parse_args()
    only = {name for name in arguments.only.split(",") if name}
    unknown = (only | ({arguments.standing} - {""})) - CATALOGUE.keys()
    if unknown:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(CATALOGUE)}")
    todo = list(
        cases(
            arguments.seeds,
            arguments.clean,
            arguments.busy,
            only,
            arguments.first_seed,
            arguments.standing,
            arguments.world,
        )
    )
    console = Console(width=200)
    results = []
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for result in pool.map(run, todo):
            results.append(result)
            found = sum(verdict.detected for verdict in result.verdicts)
            print(
                f"log {result.seed}: {found}/{len(result.verdicts)} faults, {len(result.false)} false, {result.seconds:.0f} s",
                file=sys.stderr,
                flush=True,
            )
            if arguments.show:
                _show(console, result)
    if any(result.verdicts for result in results):
        console.print(summary(results))
    for busy in (False, True):
        of = [result for result in results if result.busy == busy]
        if of:
            false = [f"log {result.seed}: {text}" for result in of for text in result.false]
            events = sum(result.events for result in of)
            clean = [result for result in of if not result.verdicts]
            console.print(
                f"{'busy' if busy else 'slow'} logs: {len(of)} ({len(clean)} clean), {events:,} predictions, {len(false)} false incidents "
                f"({sum(len(result.false) for result in clean)} in clean logs), "
                f"{sum(result.seconds for result in of) / len(of):.1f} s a log"
            )
            for text in false:
                console.print("  " + text, markup=False, highlight=False)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(result) for result in results], indent=1))


def _show(console: Console, result: Result) -> None:
    for verdict in result.verdicts:
        fault = CATALOGUE[verdict.fault]
        console.print(
            f"{verdict.fault} ({fault.version}, {fault.segment}) seed {verdict.seed} {'ok' if verdict.ok else 'WRONG'}",
            highlight=False,
        )
        for title in verdict.titles:
            console.print("    " + title, markup=False, highlight=False)


if __name__ == "__main__":
    main()
