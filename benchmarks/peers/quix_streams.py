# mypy: disable-error-code="import-not-found,misc"
# The engine lives in a virtual environment of its own, where a type checker of this project cannot see it.
"""Quix Streams: one application over both topics, an event at a time, which is the only way it offers.

Variants: ``dict`` keeps pending requests in a dict (no recovery; the faster one), ``state`` in Quix's own state
(RocksDB, changelog topic, a checkpoint every five seconds: its defaults).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quixstreams import Application

from benchmarks.peers.protocol import Spec, Stopwatch, read_spec
from benchmarks.peers.work import (
    Label,
    MemoryJoin,
    Prediction,
    Reference,
    Scored,
    Tally,
    decode_label,
    decode_prediction,
)


def application(spec: Spec) -> Application:
    """An application with a consumer that does not pause a second whenever its queue fills."""
    return Application(
        broker_address=spec.bootstrap,
        consumer_group=f"{spec.run_id}-quix-{spec.variant}",
        auto_offset_reset="earliest",
        state_dir=spec.scratch,
        loglevel="WARNING",
        auto_create_topics=spec.variant == "state",
        consumer_extra_config={"fetch.queue.backoff.ms": 1, "queued.min.messages": 200_000},
    )


def in_memory(spec: Spec, app: Application, tally: Tally, watch: Stopwatch) -> None:
    """Two dataframes that share one dict."""
    join = MemoryJoin(tally)

    def prediction(raw: bytes) -> None:
        watch.begin()
        join.prediction(decode_prediction(raw))
        if watch.add():
            app.stop()

    def label(raw: bytes) -> None:
        watch.begin()
        join.label(decode_label(raw))
        if watch.add():
            app.stop()

    app.dataframe(app.topic(spec.predictions, value_deserializer="bytes")).update(prediction)
    app.dataframe(app.topic(spec.labels, value_deserializer="bytes")).update(label)


def in_state(spec: Spec, app: Application, tally: Tally, watch: Stopwatch) -> None:
    """Both topics in one dataframe, because only then do they see the same state; the key is the request id."""

    def event(value: Prediction | Label, state: Any) -> None:
        watch.begin()
        other = state.get("other")
        if isinstance(value, Prediction):
            tally.predicted(value)
            scored = tally.scored(value)
            if other is None:
                state.set("other", list(scored))
            else:
                state.delete("other")
                tally.outcome(scored, other)
        elif other is None:
            state.set("other", value.label)
        else:
            state.delete("other")
            tally.outcome(Scored(*other), value.label)
        if watch.add():
            app.stop()

    predictions = app.dataframe(app.topic(spec.predictions, value_deserializer="bytes")).apply(decode_prediction)
    labels = app.dataframe(app.topic(spec.labels, value_deserializer="bytes")).apply(decode_label)
    predictions.concat(labels).update(event, stateful=True)


def main() -> None:
    """Run the application until all is counted."""
    spec = read_spec()
    tally = Tally(Reference.read(Path(spec.reference)), spec.one_in, spec.job)
    watch = Stopwatch(spec.events)
    app = application(spec)
    build = in_state if spec.variant == "state" else in_memory
    build(spec, app, tally, watch)
    app.run()
    watch.report(tally.counts())


if __name__ == "__main__":
    main()
