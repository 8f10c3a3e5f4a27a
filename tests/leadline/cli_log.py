"""A small recorded log, and the command line as a process: what the tests of the commands share."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
START = 1_750_000_000.0
ROWS = 600


def leadline(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; no configuration of the caller's environment reaches it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LEADLINE_")}
    clean |= {"PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-m", "leadline.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=120, check=False)


def prediction(number: int, draw: random.Random) -> dict[str, Any]:
    age = draw.gauss(60, 10)
    return {
        "request_id": f"r{number}",
        "model_id": "m",
        "model_version": "1",
        "timestamp": START + number,
        "score": min(max(age / 120, 0.0), 1.0),
        "features": {"age": age, "ward": draw.choice(["icu", "surgery"])},
        "segments": {"site": draw.choice(["north", "south"])},
    }


def write_log(folder: Path) -> tuple[Path, Path, Path]:
    """Predictions, labels of all but every tenth (and one that belongs to nobody), and a reference of like rows."""
    draw = random.Random(3)
    rows = [prediction(number, draw) for number in range(ROWS)]
    labels = [
        {
            "request_id": row["request_id"],
            "label": int(draw.random() < row["score"]),
            "timestamp": row["timestamp"] + 60,
        }
        for row in rows
        if int(row["request_id"][1:]) % 10
    ]
    labels.append({"request_id": "nobody", "label": 1, "timestamp": START + ROWS + 60})
    predictions, labelled = folder / "p.jsonl.gz", folder / "l.jsonl"
    with gzip.open(predictions, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
        file.write("no event at all\n")
    labelled.write_text("".join(json.dumps(row) + "\n" for row in labels))
    reference = folder / "ref.csv"
    lines = ["age,ward,segment__site,score,label"]
    for number in range(ROWS):
        row = prediction(number, draw)
        features, label = row["features"], int(draw.random() < row["score"])
        lines.append(f"{features['age']},{features['ward']},{row['segments']['site']},{row['score']},{label}")
    reference.write_text("\n".join(lines) + "\n")
    return predictions, labelled, reference
