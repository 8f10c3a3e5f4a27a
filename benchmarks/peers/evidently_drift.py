"""Evidently's side of `throughput.py`: run by its own interpreter, prints one JSON line for each timed report.

    python evidently_drift.py FOLDER REPEATS JOB...

FOLDER holds `reference.npy` and `live.npy`, float64 in column order. The clock runs from two pandas frames in memory to
the report's dictionary: reports render nothing here.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import evidently
import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.metrics import MeanValue, MissingValueCount, ValueDrift
from evidently.presets import DataDriftPreset


def frame(path: Path) -> pd.DataFrame:
    """Each column contiguous, as Parquet readers leave them."""
    table = np.load(path)
    return pd.DataFrame({f"f{i:02d}": table[:, i] for i in range(table.shape[1])})


def metrics(job: str, columns: list[str]) -> list[Any]:
    """`same`: what Leadline's side computes. `psi`: the PSI preset. `default`: what a new user gets."""
    if job == "psi":
        return [DataDriftPreset(num_method="psi")]
    if job == "default":
        return [DataDriftPreset()]
    drift = [ValueDrift(column=column, method=method) for column in columns for method in ("psi", "ks")]
    return [*drift, *(kind(column=column) for column in columns for kind in (MissingValueCount, MeanValue))]


def psi_by_column(report: dict[str, Any]) -> dict[str, float]:
    """PSI of each column, so that the caller can see that both sides looked at the same thing."""
    configs = [(metric["config"], metric["value"]) for metric in report["metrics"]]
    return {config["column"]: float(value) for config, value in configs if config.get("method") == "psi"}


def main() -> None:
    folder, repeats = Path(sys.argv[1]), int(sys.argv[2])
    reference, live = frame(folder / "reference.npy"), frame(folder / "live.npy")
    columns = list(live.columns)
    definition = DataDefinition(numerical_columns=columns)
    for job in sys.argv[3:]:
        for _ in range(repeats):
            wall, cpu = time.perf_counter(), time.process_time()
            sides = (Dataset.from_pandas(part, data_definition=definition) for part in (live, reference))
            report = Report(metrics(job, columns)).run(*sides).dict()
            took = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
            print(json.dumps({"job": job, **took, "psi": psi_by_column(report), "version": evidently.__version__}))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
