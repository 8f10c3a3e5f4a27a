# mypy: disable-error-code="import-not-found,misc"
# The engine lives in a virtual environment of its own, where a type checker of this project cannot see it.
"""Bytewax: both topics through one dataflow, in memory, no recovery store, one worker.

Variants: ``partition`` keys the stream by source partition, so that the join's state is one dict a partition and the
operator gets whole batches (``stateful_batch``): the fastest form that stays right with more than one worker.
``join`` is what Bytewax's documentation shows: keyed by request id, ``op.join``, then statistics keyed by model.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.testing import TestingSink, run_main

from benchmarks.peers.protocol import Spec, Stopwatch, read_spec
from benchmarks.peers.work import (
    Label,
    MemoryJoin,
    Prediction,
    Reference,
    Tally,
    decode_label,
    decode_prediction,
)


class Run:
    """What the dataflow's functions share: the clock, the tallies, and which topic is which."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.watch = Stopwatch(spec.events)
        self.tallies: list[Tally] = []
        self.reference = Reference.read(Path(spec.reference))

    def tally(self) -> Tally:
        """A new tally whose counts end up in the report."""
        made = Tally(self.reference, self.spec.one_in, self.spec.job)
        self.tallies.append(made)
        return made

    def source(self) -> KafkaSource:
        """All partitions of both topics to their end, without librdkafka's pause of a second at a full queue."""
        return KafkaSource(
            brokers=[self.spec.bootstrap],
            topics=[self.spec.predictions, self.spec.labels],
            tail=False,
            batch_size=1000,
            add_config={"fetch.queue.backoff.ms": "1"},
        )

    def report(self) -> None:
        """Merge the tallies and print the result."""
        total = Tally(self.reference, self.spec.one_in, self.spec.job)
        for part in self.tallies:
            total.merge(part)
        self.watch.report(total.counts())


class PartitionLogic(StatefulBatchLogic[KafkaSourceMessage, None, None]):
    """The job for one source partition; batches of messages in, nothing out."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.join = MemoryJoin(run.tally())

    def on_batch(self, values: list[Any]) -> tuple[Iterable[None], bool]:
        """Decode and count a batch."""
        predictions = self.run.spec.predictions
        join = self.join
        for message in values:
            if message.topic == predictions:
                join.prediction(decode_prediction(message.value))
            else:
                join.label(decode_label(message.value))
        self.run.watch.add(len(values))
        return (), StatefulBatchLogic.RETAIN

    def snapshot(self) -> None:
        """No recovery store: nothing to save."""


def by_partition(flow: Dataflow, run: Run) -> None:
    """Source, key by partition, one stateful step."""

    def key(message: Any) -> str:
        run.watch.begin()
        return str(message.partition)

    keyed = op.key_on("partition", op.input("kafka", flow, run.source()), key)
    counted = op.stateful_batch("count", keyed, lambda _: PartitionLogic(run))
    op.output("nothing", counted, TestingSink([]))


class ModelLogic(StatefulBatchLogic[Any, None, None]):
    """The statistics of one model: predictions and joined pairs in, nothing out."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.tally = run.tally()

    def on_batch(self, values: list[Any]) -> tuple[Iterable[None], bool]:
        """Count predictions and joined pairs."""
        self.run.watch.add(len(values))
        tally = self.tally
        for value in values:
            if isinstance(value, Prediction):
                tally.predicted(value)
            else:
                prediction, label = value
                scored = tally.scored(prediction)
                tally.outcome(scored, label.label)
        return (), StatefulBatchLogic.RETAIN

    def on_eof(self) -> tuple[Iterable[None], bool]:
        """What has not come out of the join by now had no partner; it was worked off all the same."""
        self.run.watch.add(self.run.spec.events - self.run.watch.counted)
        return (), StatefulBatchLogic.RETAIN

    def snapshot(self) -> None:
        """No recovery store: nothing to save."""


def by_request(flow: Dataflow, run: Run) -> None:
    """Source, decode, ``op.join`` by request id, one stateful step keyed by model."""

    def decode(message: Any) -> Prediction | Label:
        run.watch.begin()
        if message.topic == run.spec.predictions:
            return decode_prediction(message.value)
        return decode_label(message.value)

    events = op.map("decode", op.input("kafka", flow, run.source()), decode)
    sides = op.branch("side", events, lambda event: isinstance(event, Prediction))
    pairs = op.join(
        "join",
        op.key_on("predicted", sides.trues, lambda event: event.request_id),
        op.key_on("labelled", sides.falses, lambda event: event.request_id),
    )
    both = op.merge(
        "both",
        op.map("model", sides.trues, lambda event: (event.model_id, event)),
        op.map("joined", pairs, lambda pair: (pair[1][0].model_id, pair[1])),
    )
    op.output("nothing", op.stateful_batch("count", both, lambda _: ModelLogic(run)), TestingSink([]))


def main() -> None:
    """Run the dataflow to the end of both topics."""
    run = Run(read_spec())
    flow = Dataflow("peer")
    if run.spec.variant == "join":
        by_request(flow, run)
    else:
        by_partition(flow, run)
    run_main(flow)
    run.report()


if __name__ == "__main__":
    main()
