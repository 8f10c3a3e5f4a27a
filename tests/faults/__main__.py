"""`make faults`: the campaign. Episodes one after another, each result a line of JSON, then the table of all results.

make FAULTS='--backend kafka --seconds 120 --seeds 1 2 3 --lossy 2 --results faults.jsonl' faults
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.episode import Order, run
from tests.faults.report import DOCUMENT, write
from tests.faults.schedule import CAMPAIGN, LOSING


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--backend", choices=["kafka", "embedded"], default="kafka")
    parser.add_argument("--seconds", type=float, default=150.0, help="of faults, for each seed")
    parser.add_argument("--rate", type=float, default=600.0, help="events a second")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(1, 9)))
    parser.add_argument(
        "--lossy", type=int, nargs="*", default=[2, 4, 6, 8], help="seeds whose Redis goes back in time"
    )
    parser.add_argument("--results", type=Path, default=Path("faults.jsonl"))
    options = parser.parse_args()
    wrong = 0
    for seed in options.seeds:
        faults = {**CAMPAIGN, **LOSING} if seed in options.lossy else CAMPAIGN
        order = Order(
            options.backend, seed, options.seconds, options.rate, faults, workers=3 if options.backend == "kafka" else 1
        )
        folder = Path(tempfile.mkdtemp(prefix=f"leadline-faults-{seed}-"))
        try:
            result = run(order, folder, lambda line: print(f"{time.strftime('%X')} {line}", flush=True))
        except Exception as error:
            wrong += 1
            print(
                f"seed {seed} did not end: {type(error).__name__}: {error}; logs in {folder}",
                file=sys.stderr,
                flush=True,
            )
            continue
        if result.verdict.faults:
            wrong += 1
            print(f"seed {seed}: {result.verdict.faults[:20]}; logs in {folder}", file=sys.stderr, flush=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
        with options.results.open("a") as file:
            file.write(json.dumps({**result.plain(), "date": time.strftime("%Y-%m-%d")}) + "\n")
    if options.results.exists():
        write(
            options.results, DOCUMENT, f"python -m tests.faults --seconds {options.seconds:g} --rate {options.rate:g}"
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
