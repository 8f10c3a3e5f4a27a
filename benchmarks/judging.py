"""What a judge costs: CPU microseconds a look at a span, and digests a second with all that hangs on them.

    python benchmarks/judging.py                        # all loads
    python benchmarks/judging.py --load drifted --profile
    python benchmarks/judging.py --against ../before    # another checkout by turns, in processes of their own

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

from benchmarks.loads import BEGIN_S, PREDICTIONS_PER_S, load, reference
from leadline.config import Config
from streams.baselines.reference_book import ReferenceBook
from streams.core.records import Records
from streams.core.stage import Record
from streams.counting.references import Reference
from streams.judge.judge import Judge
from streams.judge.model_judge import ModelJudge
from streams.judge.spans import Spans
from streams.observe.observe import Observer

READ = 50  # digests in one batch of a judge
EVERY_S = 0.2  # processing time from one batch to the next: what people read is written every two seconds

# name: (predictions, seconds between two of them, models, whether the traffic is another population than the reference)
LOADS: dict[str, tuple[int, float, int, bool]] = {
    "dense": (80_000, 1 / PREDICTIONS_PER_S, 1, False),
    "sparse": (4_000, 60.0, 1, False),
    "drifted": (4_000, 60.0, 1, True),
    "models": (15_000, 10 / PREDICTIONS_PER_S, 20, False),
}


def references(models: int, drifted: bool) -> dict[str, Reference]:
    """At most five different ones; a drifted load knows of features that lie elsewhere and of scores that meant something else."""
    made = [reference(1 + at, moved=0.5 if drifted else 0.0) for at in range(min(models, 5))]
    return {f"model-{at}": made[at % 5] for at in range(models)}


def digests(config: Config, name: str, scale: float) -> list[Record]:
    """What an observer sends of a load, in order."""
    predictions, gap_s, models, drifted = LOADS[name]
    observer = Observer(0, config, ReferenceBook(config, references(models, drifted)))
    sent: list[bytes] = []
    for source, records in load(int(predictions * scale), gap_s, models):
        # As a log that is followed as it grows: a batch holds what came within some seconds or some hundred rows.
        step = 2_000 if gap_s < 1 else 60
        for at in range(0, len(records), step):
            effects = observer.fold({source: Records.of(records[at : at + step])}, {}, BEGIN_S)
            sent += [send.value for send in effects.sends if send.topic == config.kafka.topics.digests]
    return [Record(at, None, value, BEGIN_S) for at, value in enumerate(sent)]


class Looks:
    """Counts the spans that are offered to the rules, each once."""

    def __init__(self) -> None:
        self.seen: set[tuple[int, int, int]] = set()
        self.count = 0
        self._plain: Any = Spans.looks

    def __enter__(self) -> Looks:
        def counted(spans: Spans, level: int, block: int, least: float) -> Any:
            found = self._plain(spans, level, block, least)
            key = (id(spans), level, block)
            if found and key not in self.seen:
                self.seen.add(key)
                self.count += len(found)
            return found

        Spans.looks = counted  # type: ignore[method-assign, assignment]
        return self

    def __exit__(self, *_: object) -> None:
        Spans.looks = self._plain  # type: ignore[method-assign]


class Clock:
    """CPU time inside `ModelJudge.advance`: judging, without reading digests, merging them and storing rows."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._plain: Callable[[ModelJudge, int], None] = ModelJudge.advance

    def __enter__(self) -> Clock:
        def timed(judge: ModelJudge, pane: int) -> None:
            began = time.process_time()
            self._plain(judge, pane)
            self.seconds += time.process_time() - began

        ModelJudge.advance = timed  # type: ignore[method-assign, assignment]
        return self

    def __exit__(self, *_: object) -> None:
        ModelJudge.advance = self._plain  # type: ignore[method-assign, assignment]


def fresh(config: Config, name: str) -> Judge:
    """A judge that knows the references of a load and nothing else."""
    _, _, models, drifted = LOADS[name]
    return Judge(0, config, ReferenceBook(config, references(models, drifted)))


def play(judge: Judge, records: list[Record]) -> None:
    """All digests, `READ` at a time."""
    for at in range(0, len(records), READ):
        judge.fold({"digests": Records.of(records[at : at + READ])}, {}, BEGIN_S + at / READ * EVERY_S)
    if judge.unreadable or judge.skipped:
        raise RuntimeError(f"{judge.unreadable} digests were unreadable, {judge.skipped} skipped")


def once(name: str, scale: float, profile: bool = False) -> dict[str, float]:
    config = Config()
    records = digests(config, name, scale)
    with Looks() as looks:
        play(fresh(config, name), records)
    judge = fresh(config, name)
    gc.collect()
    gc.freeze()
    profiler = cProfile.Profile() if profile else None
    began = time.process_time()  # others on the machine shake it less than the wall clock
    with Clock() as clock:
        if profiler:
            profiler.runcall(play, judge, records)
        else:
            play(judge, records)
    took = time.process_time() - began
    gc.unfreeze()
    if profiler:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(40)
    return {
        "us a look": clock.seconds / max(looks.count, 1) * 1e6,
        "digests/s": len(records) / took,
        "looks": looks.count,
        "incidents": sum(len(model.incidents) + len(model.resolved) for model in judge.models.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--load", choices=[*LOADS, "all"], default="all")
    parser.add_argument("--scale", type=float, default=1.0, help="more or fewer predictions")
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
