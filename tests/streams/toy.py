"""A toy stage for the shell's tests: counts ids and their repeats exactly, writes a row for each, and sends digests of
its counts.

The shell's promises become visible in it: a record taken in twice shows as `repeats`, one lost as a missing row, rows
of another batch not seen as a wrong pair count.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streams.core.stage import Arrived, Effects, Send, Stage

ROW = b"x" * 64  # with the id of 16 bytes about what a pending prediction takes


@dataclass
class Counting:
    """Rows: table `ids`, field id, value b'p' (prediction came), b'l' (label came), b'b' (both)."""

    partition: int
    digests: str
    totals: dict[str, int]
    cache: dict[bytes, bytes] = field(default_factory=dict)

    def needed(self, arrived: Arrived) -> Mapping[str, Sequence[bytes]]:
        keys = [record.key or b"" for records in arrived.values() for record in records]
        return {"ids": [key for key in keys if key not in self.cache]}

    def fold(self, arrived: Arrived, found: Mapping[str, Mapping[bytes, bytes]], now: float) -> Effects:
        known = dict(found.get("ids", {}))
        rows: dict[bytes, bytes] = {}
        totals = self.totals
        sends: list[Send] = []
        for source, records in arrived.items():
            mine = b"p" if source == "predictions" else b"l"
            for record in records:
                key = record.key or b""
                before = (rows.get(key) or self.cache.get(key) or known.get(key) or b"")[:1]
                if before in (mine, b"b"):
                    totals["repeats"] = totals.get("repeats", 0) + 1
                elif before:
                    totals["pairs"] = totals.get("pairs", 0) + 1
                    rows[key] = b"b" + ROW
                else:
                    rows[key] = mine + ROW
            totals[source] = totals.get(source, 0) + len(records)
            if records:
                said = {"source": self.partition, "of": source, "records": len(records), "total": totals[source]}
                sends.append(Send(self.digests, b"m%d" % self.partition, json.dumps(said).encode()))
        self.cache = rows  # forgets all but the last batch, so that the store is asked
        checkpoint = json.dumps(totals, sort_keys=True).encode()
        return Effects(writes={"ids": rows}, sends=sends, checkpoint=checkpoint)


@dataclass(frozen=True)
class CountingFactory:
    digests: str

    def whole(self, checkpoint: bytes) -> Sequence[str]:
        return ()

    def build(self, partition: int, checkpoint: bytes, tables: Mapping[str, Mapping[bytes, bytes]]) -> Stage:
        return Counting(partition, self.digests, json.loads(checkpoint or b"{}"))


@dataclass
class Adding:
    """The judge's toy: adds what digests say, once for each (partition, total), and shows the sum."""

    partition: int
    view: str
    seen: dict[str, int]

    def needed(self, arrived: Arrived) -> Mapping[str, Sequence[bytes]]:
        return {}

    def fold(self, arrived: Arrived, found: Mapping[str, Mapping[bytes, bytes]], now: float) -> Effects:
        rows: dict[bytes, bytes] = {}
        for record in arrived.get("digests", ()):
            if record.value is not None:
                name = record.value.decode()
                if name not in self.seen:
                    self.seen[name] = json.loads(name)["records"]
                    rows[record.value] = b"%d" % self.seen[name]
        total = sum(self.seen.values())
        return Effects(writes={"seen": rows}, checkpoint=b"%d" % total, views={self.view: {"records": str(total)}})


@dataclass(frozen=True)
class AddingFactory:
    """Its state is a whole table, to be loaded at the claim."""

    prefix: str

    def whole(self, checkpoint: bytes) -> Sequence[str]:
        return ("seen",)

    def build(self, partition: int, checkpoint: bytes, tables: Mapping[str, Mapping[bytes, bytes]]) -> Stage:
        seen = {name.decode(): int(count) for name, count in tables["seen"].items()}
        return Adding(partition, f"{self.prefix}:toy:{partition}", seen)


def never_stop() -> None:
    """Faust hangs when it is stopped, and is deaf to being cancelled."""
    import asyncio

    from streams.worker.agents import App

    async def stop(self: App) -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

    App.stop = stop  # type: ignore[method-assign]


def never_fold() -> None:
    """A batch that is never done; the loop goes on."""
    import asyncio

    from streams.worker.owner import Work

    async def process(self: Work, parts: object) -> None:
        await asyncio.Event().wait()

    Work.process = process  # type: ignore[method-assign]


def block_the_loop() -> None:
    """A batch that computes for ever."""
    import time

    def fold(self: Counting, *_: object) -> Effects:
        while True:
            time.sleep(0.1)

    Counting.fold = fold  # type: ignore[assignment,method-assign]


HANGS = {"stop": never_stop, "batch": never_fold, "loop": block_the_loop}


def main() -> int:
    """A worker process of its own, for tests that kill it. Its settings come as JSON in the first argument."""
    import logging

    from streams.transport.settings import Topics, WorkerSettings
    from streams.worker.process import run_worker

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    options = json.loads(sys.argv[1])
    if hang := options.pop("hang", ""):
        HANGS[hang]()
    topics = Topics(**options.pop("topics"))
    settings = WorkerSettings(topics=topics, worker_id=f"toy-{os.getpid()}", **options)
    return run_worker(settings, CountingFactory(topics.digests), AddingFactory(settings.key_prefix))


if __name__ == "__main__":
    raise SystemExit(main())
