"""What one event costs the observer alone: no broker, no Redis, microseconds an event and where they go.

    python benchmarks/observer.py                       # all three loads
    python benchmarks/observer.py --load dense --profile
    python benchmarks/observer.py --against ../before   # another checkout by turns, in processes of their own

See ``benchmarks/README.md`` for what each load is.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import os
import pstats
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

if __name__ == "__main__":
    # Run as a file, Python's path begins with benchmarks/; --against names another checkout's code to measure.
    sys.path[0] = os.environ.get("LEADLINE_CHECKOUT") or str(Path(__file__).resolve().parents[1])

from leadline.config import Config
from leadline.events import Label, Prediction
from streams.baselines.reference_book import ReferenceBook
from streams.baselines.reference_files import build_reference
from streams.core.decode import Decoder
from streams.core.records import Records
from streams.core.stage import Record
from streams.counting.references import Reference
from streams.observe.observe import Observer

FEATURES = tuple(f"feature_{number}" for number in range(10))
SITES, WARDS = ("north", "south", "harbour"), ("surgery", "cardiology", "oncology", "emergency")
BATCH = 8_000
REFERENCE_ROWS = 5_000
BEGIN_S = 1_780_000_000.0
PREDICTIONS_PER_S = 2_000.0
LABELLED = 0.5
Batch = tuple[str, list[Record]]


def reference(seed: int = 1) -> Reference:
    """A binary model's baseline: ten normal features, a score, two segments."""
    rng = np.random.default_rng([seed, 0])
    score = rng.beta(2, 5, REFERENCE_ROWS)
    columns: dict[str, Any] = {name: np.round(rng.normal(10, 3, REFERENCE_ROWS), 4).tolist() for name in FEATURES}
    columns |= {"score": score.tolist(), "label": (rng.random(REFERENCE_ROWS) < score).astype(float).tolist()}
    columns["segment__site"] = [SITES[at] for at in rng.integers(0, 3, REFERENCE_ROWS)]
    columns["segment__ward"] = [WARDS[at] for at in rng.integers(0, 4, REFERENCE_ROWS)]
    return build_reference(columns)


def load(predictions: int, gap_s: float, models: int, seed: int = 2) -> list[Batch]:
    """Batches of one topic each, in order of arrival: predictions `gap_s` apart, then those labels that came meanwhile."""
    rng = np.random.default_rng([seed, predictions, models])
    values = np.round(rng.normal(10, 3, (predictions, len(FEATURES))), 4).tolist()
    scores = np.round(rng.beta(2, 5, predictions), 6)
    times = np.round(BEGIN_S + np.arange(predictions) * gap_s, 3)
    truth = (rng.random(predictions) < scores).astype(int).tolist()
    labelled = np.flatnonzero(rng.random(predictions) < LABELLED)
    label_times = np.round(times[labelled] + np.maximum(rng.exponential(3.0, len(labelled)), gap_s / 2), 3)
    site, ward, version = (
        rng.integers(0, 3, predictions),
        rng.integers(0, 4, predictions),
        rng.integers(0, 2, predictions),
    )
    ids = [f"{value:016x}{at:016x}" for at, value in enumerate(rng.integers(0, 2**62, predictions).tolist())]
    encode = msgspec.json.encode
    bodies = [
        encode(
            {
                "request_id": ids[at],
                "model_id": f"model-{at % models}",
                "model_version": "7" if version[at] else "8",
                "timestamp": stamp,
                "score": score,
                "prediction": int(score >= 0.5),
                "features": dict(zip(FEATURES, values[at], strict=True)),
                "segments": {"site": SITES[site[at]], "ward": WARDS[ward[at]]},
                "latency_ms": 12.5 + at % 7,
            }
        )
        for at, (stamp, score) in enumerate(zip(times.tolist(), scores.tolist(), strict=True))
    ]
    order = np.argsort(label_times, kind="stable")
    batches: list[Batch] = []
    done = 0
    for begin in range(0, predictions, BATCH):
        end = min(begin + BATCH, predictions)
        batches.append(
            (
                "predictions",
                [Record(at, ids[at].encode(), bodies[at], float(times[at]) + 0.05) for at in range(begin, end)],
            )
        )
        upto = int(np.searchsorted(label_times[order], times[end - 1])) if end < predictions else len(order)
        coming = [(int(labelled[at]), float(label_times[at])) for at in order[done:upto]]
        records = [
            Record(
                done + place,
                ids[at].encode(),
                encode({"request_id": ids[at], "label": truth[at], "timestamp": when}),
                when + 0.05,
            )
            for place, (at, when) in enumerate(coming)
        ]
        batches += [("labels", records[at : at + BATCH]) for at in range(0, len(records), BATCH)]
        done = upto
    return batches


LOADS: dict[str, Callable[[float], tuple[list[Batch], int]]] = {
    "dense": lambda scale: (load(int(10 * scale) * BATCH, 1 / PREDICTIONS_PER_S, 1), 1),
    "sparse": lambda scale: (load(int(3 * scale) * BATCH, 60.0, 1), 1),
    "models": lambda scale: (load(int(5 * scale) * BATCH, 1 / PREDICTIONS_PER_S, 200), 200),
}


class Run:
    """One observer over one load, timed by part."""

    def __init__(self, batches: list[Batch], models: int) -> None:
        self.batches = batches
        given = {f"model-{at}": reference(1 + at) for at in range(min(models, 5))}
        given |= {f"model-{at}": given[f"model-{at % 5}"] for at in range(5, models)}
        config = Config()
        self.observer = Observer(0, config, ReferenceBook(config, given))
        self.took: dict[str, float] = {"predictions": 0.0, "labels": 0.0, "decode": 0.0}
        self.events: dict[str, int] = {"predictions": 0, "labels": 0}
        self.sent = 0

    def all(self) -> None:
        clock = time.process_time  # others on the machine shake it less than the wall clock
        config = self.observer.config
        gc.collect()
        gc.set_threshold(100_000, 20, 50)  # as `streams.worker.process` does
        gc.freeze()  # the log stands for the broker: a worker's collector does not walk over it
        decoders: dict[str, Decoder[Any]] = {"predictions": Decoder(Prediction), "labels": Decoder(Label)}
        for source, listed in self.batches:
            records = Records.of(listed)  # as the transport hands them over
            began = clock()
            decoders[source].decode(records, config.join.max_future)
            self.took["decode"] += clock() - began
            arrived = {source: records}
            began = clock()
            if self.observer.needed(arrived):
                raise RuntimeError("nothing of this load is asked of the store")
            effects = self.observer.fold(arrived, {}, BEGIN_S)
            self.took[source] += clock() - began
            self.events[source] += len(records)
            self.sent += sum(len(send.value) for send in effects.sends)

    def figures(self) -> dict[str, float]:
        """Microseconds an event; `decode` is a part of the others, run once more on its own."""
        events = sum(self.events.values())
        if self.observer.counts["predictions"] != self.events["predictions"] or self.observer.rejected:
            raise RuntimeError(f"counted {self.observer.counts}, rejected {self.observer.rejected}")
        return {
            "all": (self.took["predictions"] + self.took["labels"]) / events * 1e6,
            "prediction": self.took["predictions"] / self.events["predictions"] * 1e6,
            "label": self.took["labels"] / max(self.events["labels"], 1) * 1e6,
            "decode": self.took["decode"] / events * 1e6,
            "digest bytes": self.sent / events,
        }


def once(name: str, scale: float, profile: bool = False) -> dict[str, float]:
    batches, models = LOADS[name](scale)
    run = Run(batches, models)
    if profile:
        profiler = cProfile.Profile()
        profiler.runcall(run.all)
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
    else:
        run.all()
    gc.unfreeze()
    return run.figures()


def by_turns(
    names: list[str], scale: float, rounds: int, checkouts: dict[str, Path]
) -> dict[tuple[str, str], list[dict[str, float]]]:
    """Figures by (checkout, load); each round runs every checkout once, in processes of their own."""
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for turn in range(rounds):
        for name in names:
            for title, folder in list(checkouts.items())[:: 1 if turn % 2 else -1]:
                command = [
                    sys.executable,
                    str(Path(__file__).resolve()),
                    "--load",
                    name,
                    "--scale",
                    str(scale),
                    "--json",
                    "--rounds",
                    "1",
                ]
                environment = {**os.environ, "LEADLINE_CHECKOUT": str(folder.resolve())}
                out = subprocess.run(command, capture_output=True, check=True, text=True, env=environment)
                found.setdefault((title, name), []).append(json.loads(out.stdout)[name][0])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--load", choices=[*LOADS, "all"], default="all")
    parser.add_argument("--scale", type=float, default=1.0, help="more or fewer events")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="where the time goes, by function")
    parser.add_argument("--against", type=Path, help="another checkout, measured by turns with this one")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names = list(LOADS) if options.load == "all" else [options.load]
    if options.against:
        checkouts = {"this": Path(__file__).resolve().parents[1], "other": options.against}
        results = by_turns(names, options.scale, options.rounds, checkouts)
    else:
        results = {
            ("this", name): [once(name, options.scale, options.profile) for _ in range(options.rounds)]
            for name in names
        }
    if options.json:
        print(json.dumps({name: runs for (_, name), runs in results.items()}))
        return
    print(
        f"{'load':8}{'code':7}"
        + "".join(f"{part:>22}" for part in ("all", "prediction", "label", "decode", "digest bytes"))
    )
    for (title, name), runs in sorted(results.items(), key=lambda item: names.index(item[0][1])):
        cells = [
            f"{statistics.median(run[part] for run in runs):8.2f} (least {min(run[part] for run in runs):7.2f})"
            for part in runs[0]
        ]
        print(f"{name:8}{title:7}" + "".join(f"{cell:>26}" for cell in cells))


if __name__ == "__main__":
    main()
