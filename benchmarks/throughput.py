"""Drift of a frame, in cells (rows x features) per second: Leadline's detectors beside Evidently, on the same frame.

    python benchmarks/throughput.py

See ``benchmarks/README.md`` for what each side does and what each number means.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

# Run as a file, Python's path begins with benchmarks/, not with the folder that holds it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.peers import venvs
from detectors.binning import NumericBins, count
from detectors.divergence import Comparison, compare
from detectors.ks import ks_p_value, ks_statistic
from detectors.moments import MomentScale, mean_shift_z
from detectors.shares import normal_log_p, share_shift

EVIDENTLY = venvs.Environment(
    name="evidently", requirements=("evidently>=0.7,<0.8", "pandas<3"), pythons=("3.11", "3.12", "3.13", "3.10")
)
JOBS = {
    "same": "PSI, KS with p, missing, mean of each column",
    "psi": "its PSI preset: DataDriftPreset(num_method='psi')",
    "default": "what it does unasked: DataDriftPreset()",
}
CHUNK = 8_192
"""Rows at a time: a column's chunk stays in the cache. The worker's batches are of this order."""
FINE = 100
SHIFTED = 5
SHIFT = 0.4
NULLS = 0.02


@dataclass(frozen=True, slots=True)
class Reference:
    """What is prepared once from the training rows, as `leadline reference build` does."""

    bins: list[NumericBins]
    counts: npt.NDArray[np.int64]
    scale: MomentScale
    rows: int

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Reference:
        columns = [frame[name].to_numpy() for name in frame]
        bins = [NumericBins.fine(column[np.isfinite(column)], FINE) for column in columns]
        scale = MomentScale.from_reference(frame.to_numpy())
        return cls(bins, fold(bins, scale, frame)[0], scale, len(frame))


@dataclass(frozen=True, slots=True)
class Figures:
    """Each an array over the features."""

    drift: Comparison
    ks: npt.NDArray[np.float64]
    ks_p: npt.NDArray[np.float64]
    null_delta: npt.NDArray[np.float64]
    null_log_p: npt.NDArray[np.float64]
    mean_z: npt.NDArray[np.float64]
    mean_log_p: npt.NDArray[np.float64]


def fold(bins: list[NumericBins], scale: MomentScale, frame: pd.DataFrame) -> tuple[npt.NDArray[np.int64], Any]:
    """Counts [features, FINE + 2] and moments of all rows. Chunks merge exactly, as panes do."""
    table = np.zeros((len(bins), FINE + 2), dtype=np.int64)
    moments = scale.empty()
    columns = [frame[name].to_numpy() for name in frame]
    for at in range(0, len(frame), CHUNK):
        chunk = [column[at : at + CHUNK] for column in columns]
        for row, (feature, values) in enumerate(zip(bins, chunk, strict=True)):
            table[row] += count(feature.assign(values, np.isnan(values)), FINE + 2)
        moments = moments.merge(scale.fold(np.stack(chunk, axis=1)))
    return table, moments


def judge(reference: Reference, live: pd.DataFrame) -> Figures:
    """PSI (10 bins) with floor and p, JS, L-infinity, KS (100 bins) with p, null rate and mean shift with theirs."""
    table, moments = fold(reference.bins, reference.scale, live)
    fine, fine_reference = table[:, :FINE], reference.counts[:, :FINE]
    # every tenth of the fine edges is a decile's: the coarse counts are sums of the fine ones
    tenths = np.arange(0, FINE, FINE // 10)
    coarse, coarse_reference = (np.add.reduceat(part, tenths, axis=1) for part in (fine, fine_reference))
    gap = ks_statistic(fine, fine_reference)
    nulls = share_shift(table[:, FINE], len(live), reference.counts[:, FINE], reference.rows)
    n, m = fine.sum(axis=1), fine_reference.sum(axis=1)
    z, error = mean_shift_z(n, moments.mean, moments.std, m, reference.scale.centres, reference.scale.spreads)
    return Figures(
        drift=compare(coarse, coarse_reference, alpha=1e-6),
        ks=gap,
        ks_p=ks_p_value(gap, n, m),
        null_delta=nulls.delta,
        null_log_p=nulls.log_p,
        mean_z=z,
        mean_log_p=normal_log_p(z / error),
    )


@dataclass(slots=True)
class Run:
    """Best of the repeats of one side: others on the machine can only make a run slower."""

    name: str
    does: str
    wall_s: float = float("inf")
    cpu_s: float = float("inf")
    psi: dict[str, float] = field(default_factory=dict)

    def add(self, wall_s: float, cpu_s: float, psi: dict[str, float]) -> None:
        self.wall_s, self.cpu_s, self.psi = min(self.wall_s, wall_s), min(self.cpu_s, cpu_s), psi


def make_frames(rows: int, features: int, reference_rows: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Normal, log-normal and heavy-tailed columns by turns; the last five shift, and the first loses some values."""
    rng = np.random.default_rng(seed)
    names = [f"f{i:02d}" for i in range(features)]
    live, reference = {}, {}
    for i, name in enumerate(names):
        column = rng.standard_normal(rows + reference_rows)
        column[reference_rows:] += SHIFT * (i >= features - SHIFTED)
        column = (column, np.exp(column), column * np.abs(column) ** 1.5)[i % 3]
        reference[name], live[name] = column[:reference_rows], column[reference_rows:]
    live[names[0]] = np.where(rng.random(rows) < NULLS, np.nan, live[names[0]])
    return pd.DataFrame(reference), pd.DataFrame(live)


def seen(run: Run, features: int) -> str:
    """How many of the shifted columns have PSI over 0.1, and how many others. "-" where a job has no PSI."""
    shifted = {f"f{i:02d}" for i in range(features - SHIFTED, features)}
    over = {name for name, value in run.psi.items() if value > 0.1}
    wrong = f", {len(over - shifted)} false" if over - shifted else ""
    return f"{len(over & shifted)} of {SHIFTED}{wrong}" if run.psi else "-"


def check(ours: Run, figures: Figures, features: int) -> None:
    """A fast wrong answer is worth nothing: the shifts, the null spike and nothing else must have been seen."""
    if seen(ours, features) != f"{SHIFTED} of {SHIFTED}":
        raise SystemExit(f"Leadline's PSI saw {seen(ours, features)} shifts")
    if (figures.null_log_p < np.log(1e-6)).tolist() != [True] + [False] * (features - 1):
        raise SystemExit("Leadline did not see the null spike, or saw one where none is")
    if (figures.ks_p < 1e-6).sum() != SHIFTED or (figures.mean_log_p < np.log(1e-6)).sum() < SHIFTED:
        raise SystemExit("Leadline's KS or mean shift did not see the shifts")


def run_evidently(python: Path, folder: Path, repeats: int, jobs: list[str], step: Any) -> list[Run]:
    script = Path(__file__).parent / "peers" / "evidently_drift.py"
    command = [str(python), "-W", "ignore", str(script), str(folder), str(repeats), *jobs]
    runs = {job: Run(f"Evidently, {job}", JOBS[job]) for job in jobs}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as peer:
        assert peer.stdout is not None
        for line in peer.stdout:
            if line.startswith("{"):
                part = json.loads(line)
                runs[part["job"]].add(part["wall_s"], part["cpu_s"], part["psi"])
                runs[part["job"]].name = f"Evidently {part['version']}, {part['job']}"
                step()
    if peer.returncode:
        raise SystemExit(f"Evidently's side ended with status {peer.returncode}")
    return list(runs.values())


def show(console: Console, runs: list[Run], row_count: int, features: int) -> list[dict[str, Any]]:
    cells = row_count * features
    table = Table(title=f"{row_count:,} rows x {features} features = {cells:,} cells")
    for column in ("side", "wall s", "CPU s", "M cells/s", "Leadline is", "by CPU", "shifts seen"):
        table.add_column(column, justify="left" if column == "side" else "right")
    rows = []
    for run in runs:
        ratio, by_cpu = run.wall_s / runs[0].wall_s, run.cpu_s / runs[0].cpu_s
        speed = cells / run.wall_s / 1e6
        figures = (f"{run.wall_s:.2f}", f"{run.cpu_s:.2f}", f"{speed:.2f}", f"{ratio:.1f}x", f"{by_cpu:.1f}x")
        table.add_row(run.name, *figures, seen(run, features))
        rows.append({"side": run.name, "wall_s": run.wall_s, "cpu_s": run.cpu_s, "ratio": ratio, "ratio_cpu": by_cpu})
    console.print(table)
    for run in runs:
        console.print(f"{run.name}: {run.does}", highlight=False)
    return rows


def main(
    rows: Annotated[int, typer.Option(help="rows of the live frame")] = 1_000_000,
    features: Annotated[int, typer.Option(min=10)] = 50,
    reference_rows: int = 100_000,
    repeats: Annotated[int, typer.Option(help="runs of each side; the best counts")] = 3,
    peer_repeats: Annotated[int, typer.Option(help="runs of each of Evidently's jobs")] = 1,
    job: Annotated[list[str] | None, typer.Option(help="Evidently's jobs: same, psi, default")] = None,
    seed: int = 0,
    peer_venv: Annotated[Path | None, typer.Option(help="folder for Evidently's environment")] = None,
    no_peer: Annotated[bool, typer.Option(help="Leadline alone")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="write the figures here")] = None,
) -> None:
    """Time both sides on one frame and print the ratio."""
    console = Console()
    jobs = [] if no_peer else (job or ["same", "psi"])
    if not set(jobs) <= set(JOBS):
        raise typer.BadParameter(f"jobs are {', '.join(JOBS)}")
    bars = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console)
    with tempfile.TemporaryDirectory(prefix="leadline-throughput-") as scratch, bars as progress:
        task = progress.add_task("frames", total=2 + repeats + len(jobs) * peer_repeats)
        folder = Path(scratch)
        python = venvs.ensure(EVIDENTLY, peer_venv or venvs.default_folder(), console.print) if jobs else None
        training, live = make_frames(rows, features, reference_rows, seed)
        progress.update(task, advance=1, description="reference")
        started = time.perf_counter()
        reference = Reference.of(training)
        prepared_s = time.perf_counter() - started
        progress.update(task, advance=1, description="Leadline")
        ours = Run("Leadline", "PSI, JS, KS, null rate, mean shift: value, floor, p")
        for _ in range(repeats):
            wall, cpu = time.perf_counter(), time.process_time()
            figures = judge(reference, live)
            took = time.perf_counter() - wall, time.process_time() - cpu
            ours.add(*took, dict(zip(live, figures.drift.psi.tolist(), strict=True)))
            progress.update(task, advance=1)
        runs = [ours]
        if python:
            for name, frame in (("reference", training), ("live", live)):
                np.save(folder / f"{name}.npy", np.asfortranarray(frame.to_numpy()))
            progress.update(task, description="Evidently")
            runs += run_evidently(python, folder, peer_repeats, jobs, lambda: progress.advance(task))
    check(ours, figures, features)
    found = show(console, runs, rows, features)
    console.print(
        f"Leadline's reference ({reference_rows:,} rows) was prepared once, in {prepared_s:.2f} s, off the clock."
    )
    if json_path:
        settings = {"rows": rows, "features": features, "reference_rows": reference_rows, "prepared_s": prepared_s}
        json_path.write_text(json.dumps({**settings, "sides": found}, indent=1))


if __name__ == "__main__":
    typer.run(main)
