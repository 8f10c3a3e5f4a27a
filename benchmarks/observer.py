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
import pstats
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Run as a file, Python's path begins with benchmarks/, not with the folder that holds it.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.turns import by_turns, show, use_checkout

if __name__ == "__main__":
    use_checkout()

from benchmarks.loads import BATCH, BEGIN_S, PREDICTIONS_PER_S, Batch, load, reference
from leadline.config import Config
from leadline.events import Label, Prediction
from streams.baselines.reference_book import ReferenceBook
from streams.core.decode import Decoder
from streams.core.records import Records
from streams.observe.observe import Observer

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
        results = by_turns(__file__, names, options.rounds, options.against, ["--scale", str(options.scale)])
    else:
        results = {
            ("this", name): [once(name, options.scale, options.profile) for _ in range(options.rounds)]
            for name in names
        }
    show(results, names, options.json)


if __name__ == "__main__":
    main()
