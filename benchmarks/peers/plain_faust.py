"""Plain Faust: one agent over both topics, one event at a time, as Faust's own documentation writes it.

Variants: ``dict`` keeps pending requests in a dict (no recovery; the faster one), ``table`` in a Faust Table with its
changelog topic, which is what Faust offers for state that survives a crash.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import faust

from benchmarks.peers.protocol import Spec, Stopwatch, read_spec
from benchmarks.peers.work import MemoryJoin, Reference, Scored, Tally, decode_label, decode_prediction


class TableJoin:
    """The join by request id in a Faust Table: a row holds a prediction's ``Scored``, or a label that came first."""

    def __init__(self, tally: Tally, table: Any) -> None:
        self.tally = tally
        self.table = table

    def prediction(self, raw: bytes) -> None:
        """Count a prediction and join it with a label that came before it."""
        event = decode_prediction(raw)
        self.tally.predicted(event)
        scored = self.tally.scored(event)
        label = self.table.get(event.request_id)
        if label is None:
            self.table[event.request_id] = list(scored)
        else:
            del self.table[event.request_id]
            self.tally.outcome(scored, label)

    def label(self, raw: bytes) -> None:
        """Join a label with its prediction, or keep it until that comes."""
        event = decode_label(raw)
        row = self.table.get(event.request_id)
        if row is None:
            self.table[event.request_id] = event.label
        else:
            del self.table[event.request_id]
            self.tally.outcome(Scored(*row), event.label)


class DictJoin:
    """The join in memory, from raw bytes."""

    def __init__(self, tally: Tally) -> None:
        self._join = MemoryJoin(tally)

    def prediction(self, raw: bytes) -> None:
        """Decode and join a prediction."""
        self._join.prediction(decode_prediction(raw))

    def label(self, raw: bytes) -> None:
        """Decode and join a label."""
        self._join.label(decode_label(raw))


def build(spec: Spec) -> faust.App:
    """The application, which ends its process when all events are counted."""
    app = faust.App(
        f"{spec.run_id}-{spec.variant}",
        broker=f"kafka://{spec.bootstrap}",
        datadir=str(spec.scratch),
        store="memory://",
        topic_partitions=spec.partitions,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,
    )
    source = app.topic(spec.predictions, spec.labels, value_serializer="raw", value_type=bytes, key_type=bytes)
    tally = Tally(Reference.read(Path(spec.reference)), spec.one_in, spec.job)
    watch = Stopwatch(spec.events)
    if spec.variant == "table":
        table = app.Table(f"{spec.run_id}-pending", default=None, partitions=spec.partitions)
        join: TableJoin | DictJoin = TableJoin(tally, table)
    else:
        join = DictJoin(tally)

    async def count(stream: faust.StreamT[bytes]) -> None:
        async for event in stream.events():
            watch.begin()
            if event.message.topic == spec.predictions:
                join.prediction(event.value)
            else:
                join.label(event.value)
            if watch.add():
                watch.report(tally.counts())
                # Stopping a Faust worker takes seconds and can hang; everything worth having has been printed.
                os._exit(0)

    app.agent(source)(count)
    return app


def main() -> None:
    """Run one worker until all is counted."""
    app = build(read_spec())
    sys.argv = [sys.argv[0], "worker", "--without-web", "--loglevel", "warn"]
    app.main()


if __name__ == "__main__":
    main()
