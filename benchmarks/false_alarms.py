"""False alarms on clean rows, held against the budget: does alpha mean what it says, far out where it matters?

    python benchmarks/false_alarms.py

See ``benchmarks/README.md`` for what is counted and what the table means.
"""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

# Run as a file, Python's path begins with benchmarks/, not with the folder that holds it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detectors.auc import auc_from_histograms, hanley_mcneil_se, score_histograms
from detectors.binning import NumericBins, count
from detectors.calibration import calibration_sums, expected_calibration_error
from detectors.divergence import compare
from detectors.ebh import e_bh
from detectors.edetector import EDetector, EDetectorConfig
from detectors.ks import ks_p_value, ks_statistic
from detectors.moments import Moments, MomentScale, mean_shift_z
from detectors.shares import binomial_log_tail, lower_limit, normal_log_p, share_shift_past, upper_limit

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

LEVELS = (1e-2, 1e-3, 1e-4, 1e-6, 1e-8)
JUDGED = 1e-6  # from here on a signal over its budget fails the run: real rules work here and beyond
KINDS = ("normal", "log-normal", "heavy tail", "rare count", "three values")
NULL_RATES = (0.0, 0.001, 0.02)
FINE = 100
WIDTH = 4 * FINE  # bins that a feature does not have stay empty on both sides, and are left out
LIMIT_ALPHA = 1e-4
SPAN = 16
EDETECTOR_ALPHA = 1e-6


class Source:
    """Clean rows: independent features of five kinds by turns, some with nulls; calibrated scores with labels."""

    def __init__(self, features: int, seed: int) -> None:
        self.features = features
        self.rng = np.random.default_rng(seed)

    def table(self, rows: int) -> Array:
        """float64[features, rows], nulls as NaN."""
        made = np.stack([self._column(KINDS[i % len(KINDS)], rows) for i in range(self.features)])
        for i in range(self.features):
            rate = NULL_RATES[i // len(KINDS) % len(NULL_RATES)]
            if rate:
                made[i, self.rng.random(rows) < rate] = np.nan
        return made

    def _column(self, kind: str, rows: int) -> Array:
        if kind == "rare count":
            return self.rng.poisson(0.05, rows).astype(np.float64)
        if kind == "three values":
            return self.rng.choice([0.0, 1.0, 2.0], rows, p=[0.9, 0.099, 0.001])
        normal = self.rng.standard_normal(rows)
        return {"normal": normal, "log-normal": np.exp(normal)}.get(kind, normal * np.abs(normal) ** 1.5)

    def scored(self, rows: int) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Scores of a calibrated model, 8 % positive, and the labels."""
        score = self.rng.beta(0.4, 4.6, rows)
        return score, self.rng.random(rows) < score


@dataclass(frozen=True, slots=True)
class Pane:
    """Mergeable sums of some rows: all that any signal needs."""

    rows: int
    coarse: Counts
    fine: Counts
    missing: Counts
    moments: Moments
    scores: Counts
    calibration: tuple[npt.NDArray[Any], ...]

    def __add__(self, other: Pane) -> Pane:
        return Pane(
            self.rows + other.rows,
            self.coarse + other.coarse,
            self.fine + other.fine,
            self.missing + other.missing,
            self.moments.merge(other.moments),
            self.scores + other.scores,
            tuple(a + b for a, b in zip(self.calibration, other.calibration, strict=True)),
        )


@dataclass(slots=True)
class Tally:
    """Looks, and how many had ln p at or under each level."""

    looks: int = 0
    alarms: Counts = field(default_factory=lambda: np.zeros(len(LEVELS), dtype=np.int64))

    def add(self, log_p: npt.ArrayLike) -> None:
        values = np.asarray(log_p, dtype=np.float64).ravel()
        values = values[~np.isnan(values)]
        self.looks += values.size
        self.alarms += (values[:, None] <= np.log(LEVELS)).sum(axis=0)


class Watch:
    """One reference, and the looks at live panes against it."""

    def __init__(self, source: Source, rows: int) -> None:
        table = source.table(rows)
        known = [column[np.isfinite(column)] for column in table]
        self.bins = [NumericBins.from_reference(column) for column in known]
        self.fine = [NumericBins.fine(column, FINE) for column in known]
        self.scale = MomentScale.from_reference(table.T)
        self.reference = self.fold(table, *source.scored(rows))
        missing = self.reference.missing
        self.null_limits = lower_limit(missing, rows, LIMIT_ALPHA), upper_limit(missing, rows, LIMIT_ALPHA)
        neg, pos = self.reference.scores
        self.auc = float(auc_from_histograms(pos, neg).value)
        self.auc_se = float(hanley_mcneil_se(self.auc, pos.sum(), neg.sum()))

    def fold(self, table: Array, score: Array, label: npt.NDArray[np.bool_]) -> Pane:
        """Sums of rows [features, rows]."""
        coarse, fine = np.zeros((2, len(table), WIDTH), dtype=np.int64)
        missing = np.zeros(len(table), dtype=np.int64)
        for i, values in enumerate(table):
            nulls = np.isnan(values)
            for target, bins in ((coarse, self.bins[i]), (fine, self.fine[i])):
                target[i, : bins.ordered] = count(bins.assign(values, nulls), bins.size)[: bins.ordered]
            missing[i] = nulls.sum()
        scores, calibration = score_histograms(score, label), calibration_sums(score, label)
        return Pane(table.shape[1], coarse, fine, missing, self.scale.fold(table.T), scores, calibration)

    def look(self, pane: Pane) -> dict[str, npt.ArrayLike]:
        """ln p of every signal."""
        ref = self.reference
        nulls = share_shift_past(pane.missing, pane.rows, ref.missing / ref.rows, *self.null_limits)
        moments = pane.moments
        z, error = mean_shift_z(moments.n, moments.mean, moments.std, ref.moments.n, ref.moments.mean, ref.moments.std)
        drift = compare(pane.coarse, ref.coarse, alpha=JUDGED)
        p = ks_p_value(ks_statistic(pane.fine, ref.fine), pane.fine.sum(axis=1), ref.fine.sum(axis=1))
        found = {
            "null rate": nulls.log_p,
            "mean shift": normal_log_p(z / error),
            "PSI": np.log(np.maximum(drift.p_value, 1e-300)),
            "KS": np.log(np.maximum(p, 1e-300)),
            "ECE": self._ece(pane),
        }
        neg, pos = pane.scores
        if min(pos.sum(), neg.sum()) >= 20:
            se = math.hypot(float(hanley_mcneil_se(self.auc, pos.sum(), neg.sum())), self.auc_se)
            found["AUC drop"] = normal_log_p((auc_from_histograms(pos, neg).value - self.auc) / se, "lower")
        return found

    @staticmethod
    def _ece(pane: Pane) -> float:
        """The floor is a threshold, not a p-value: ln of the smallest level whose floor was passed."""
        results = [(level, expected_calibration_error(*pane.calibration, alpha=level)) for level in LEVELS]
        return math.log(min((level for level, got in results if got.ece > got.floor), default=1.0))


class Sequential:
    """An e-detector on a sample of each feature's values, and e-BH over all of them after each pane."""

    def __init__(self, source: Source, rows: int, every: int) -> None:
        self.every = every
        self.detectors = [self._detector(column[np.isfinite(column)]) for column in source.table(rows)]
        self.rejections = 0
        self.looks = 0

    @staticmethod
    def _detector(column: Array) -> EDetector:
        low, high = np.quantile(column, [0.001, 0.999])
        high = high if high > low else low + 1.0
        inside = np.clip(column, low, high)
        # the baseline is known to its own error only: five of them, or that error is what is found in the end
        tolerance = 5.0 * float(inside.std()) / math.sqrt(inside.size)
        return EDetectorConfig(
            baseline=float(inside.mean()), tolerance=tolerance, low=low, high=high, alpha=EDETECTOR_ALPHA
        ).build()

    def feed(self, table: Array) -> None:
        for detector, column in zip(self.detectors, table[:, :: self.every], strict=True):
            detector.update_many(column[np.isfinite(column)])
        self.rejections += bool(e_bh([detector.log_e_value for detector in self.detectors], JUDGED).any())
        self.looks += 1


def table_of(tallies: dict[str, Tally], rows: int, features: int) -> tuple[Table, list[str]]:
    """Alarms seen / expected at most, and the signals that are over their budget beyond chance."""
    table = Table(title=f"{rows:,} clean rows, {features} features: alarms (budget) at each alpha")
    table.add_column("signal")
    table.add_column("looks", justify="right")
    for level in LEVELS:
        table.add_column(f"{level:g}", justify="right")
    over = []
    for name, tally in sorted(tallies.items()):
        cells = []
        for level, seen in zip(LEVELS, tally.alarms.tolist(), strict=True):
            beyond = float(binomial_log_tail(seen, tally.looks, level)) < math.log(1e-3)
            cells.append(f"{seen:,} ({tally.looks * level:,.3g}){' !' if beyond else ''}")
            if beyond and level <= JUDGED:
                over.append(f"{name} at {level:g}")
        table.add_row(name, f"{tally.looks:,}", *cells)
    return table, over


def main(
    rows: int = 10_000_000,
    features: int = 50,
    pane_rows: Annotated[int, typer.Option(help="rows of one look; a second look sees 16 panes together")] = 1_000,
    reference_rows: int = 50_000,
    references: Annotated[int, typer.Option(help="references drawn anew, each for its part of the rows")] = 20,
    sample: Annotated[int, typer.Option(help="one value in so many goes to the e-detectors")] = 10,
    seed: int = 0,
    json_path: Annotated[Path | None, typer.Option("--json", help="write the figures here")] = None,
) -> None:
    """Count alarms on rows in which nothing ever changes. Status 1 if a signal is over its budget at 1e-6 or beyond."""
    console = Console()
    source = Source(features, seed)
    tallies: dict[str, Tally] = {}
    sequential = Sequential(source, reference_rows * 4, sample)
    panes = max(rows // pane_rows, 1)
    per_reference = -(-panes // references)
    columns = (TextColumn("panes"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    started = time.perf_counter()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("panes", total=panes)
        for first in range(0, panes, per_reference):
            watch = Watch(source, reference_rows)
            held: list[Pane] = []
            for _ in range(min(per_reference, panes - first)):
                table = source.table(pane_rows)
                held.append(watch.fold(table, *source.scored(pane_rows)))
                looks = {"": held[-1]}
                if len(held) == SPAN:
                    looks[f", {SPAN} panes"] = reduce(Pane.__add__, held)
                    held = []
                for suffix, pane in looks.items():
                    for name, log_p in watch.look(pane).items():
                        tallies.setdefault(name + suffix, Tally()).add(log_p)
                sequential.feed(table)
                progress.advance(task)
    table, over = table_of(tallies, panes * pane_rows, features)
    console.print(table)
    values = sum(detector.seen for detector in sequential.detectors)
    alarms = sum(detector.detections for detector in sequential.detectors)
    budget = values * EDETECTOR_ALPHA
    console.print(f"e-detectors: {alarms} alarms in {values:,} values; the budget allows {budget:,.3g}")
    console.print(f"e-BH at {JUDGED:g}: {sequential.rejections} of {sequential.looks:,} looks rejected something")
    console.print(f"{time.perf_counter() - started:.0f} s. '!': over the budget beyond chance (one in a thousand)")
    if float(binomial_log_tail(alarms, values, EDETECTOR_ALPHA)) < math.log(1e-3):
        over.append("e-detectors")
    if json_path:
        signals = {name: {"looks": t.looks, "alarms": t.alarms.tolist()} for name, t in tallies.items()}
        found = {"levels": LEVELS, "signals": signals, "edetector": {"values": values, "alarms": alarms}}
        json_path.write_text(json.dumps({"rows": panes * pane_rows, **found, "over": over}, indent=1))
    if over:
        raise SystemExit(f"over the budget: {', '.join(over)}")


if __name__ == "__main__":
    typer.run(main)
