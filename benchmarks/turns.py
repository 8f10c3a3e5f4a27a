"""One checkout's code against another's: by turns, in processes of their own, so that a busy machine shakes both alike."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHECKOUT = "LEADLINE_CHECKOUT"
Figures = dict[str, float]


def use_checkout() -> None:
    """Puts the code to be measured first on Python's path: call it before anything of it is imported."""
    sys.path.insert(0, os.environ.get(CHECKOUT) or str(ROOT))


def by_turns(
    script: str, names: Sequence[str], rounds: int, against: Path, options: Sequence[str]
) -> dict[tuple[str, str], list[Figures]]:
    """Figures by (checkout, load): each round runs `script --load NAME --json --rounds 1` once for each of the two."""
    checkouts = [("this", ROOT), ("other", against.resolve())]
    found: dict[tuple[str, str], list[Figures]] = {}
    for turn in range(rounds):
        for name in names:
            for title, folder in checkouts[:: 1 if turn % 2 else -1]:
                command = [sys.executable, script, "--load", name, "--json", "--rounds", "1", *options]
                environment = {**os.environ, CHECKOUT: str(folder)}
                out = subprocess.run(command, capture_output=True, text=True, env=environment)
                if out.returncode:
                    raise RuntimeError(f"{title}, {name}: {out.stderr}")
                found.setdefault((title, name), []).append(json.loads(out.stdout)[name][0])
    return found


def show(results: dict[tuple[str, str], list[Figures]], names: Sequence[str], as_json: bool) -> None:
    """Median and least of the rounds."""
    if as_json:
        print(json.dumps({name: runs for (_, name), runs in results.items()}))
        return
    parts = list(next(iter(results.values()))[0])
    print(f"{'load':10}{'code':7}" + "".join(f"{part:>28}" for part in parts))
    for (title, name), runs in sorted(results.items(), key=lambda item: names.index(item[0][1])):
        cells = [
            f"{statistics.median(run[part] for run in runs):10.2f} (least {min(run[part] for run in runs):9.2f})"
            for part in parts
        ]
        print(f"{name:10}{title:7}" + "".join(f"{cell:>28}" for cell in cells))
