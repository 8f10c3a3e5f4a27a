"""The observer: the state of one source partition. Predictions and labels in, digests and rows out. Knows requests, no history.

Pure: time is a value, and nothing here knows Kafka or Redis. The shell calls `needed`, reads those rows, calls `fold`, commits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from leadline.config import Config
from leadline.events import Digest, Label, Prediction, Rejected
from streams.baselines.reference_book import ReferenceBook
from streams.core.decode import Decoded, Fault, decode
from streams.core.stage import Effects, Record, Send
from streams.observe.observation import Batch, Observation
from streams.observe.observe_outcomes import UNUSABLE, OutcomeSide
from streams.observe.observe_predictions import PredictionSide
from streams.observe.partition_state import COMBINATIONS_TABLE, PartitionState


@dataclass(frozen=True, slots=True)
class Order:
    """The order of arrival over both topics: place by offset, for each."""

    predictions: Mapping[int, int]
    labels: Mapping[int, int]

    def places(self, predictions: Sequence[Record], labels: Sequence[Record]) -> npt.NDArray[np.int64]:
        """Places of the records, predictions first."""
        return np.array(
            [self.predictions[record.offset] for record in predictions]
            + [self.labels[record.offset] for record in labels],
            dtype=np.int64,
        )


class Observer:
    """One source partition. `fold` takes a batch of one topic; a failed commit means: throw this object away, build another."""

    def __init__(
        self,
        partition: int,
        config: Config,
        book: ReferenceBook,
        checkpoint: bytes = b"",
        tables: Mapping[str, Mapping[bytes, bytes]] | None = None,
        digest_partitions: int = 1,
    ) -> None:
        self.partition = partition
        self.config = config
        self.book = book
        self.digest_partitions = digest_partitions
        self.state = PartitionState(partition, config, book, checkpoint, tables or {})
        self.outcomes = OutcomeSide(self.state)
        self.predictions = PredictionSide(self.state, self.outcomes)
        self.rows, self.combinations = self.state.rows, self.state.combinations
        self.counts, self.rejected = self.state.counts, self.state.rejected
        self.watermark = self.state.watermark
        self.sequence = self.state.sequence
        self._decoded: dict[str, tuple[Sequence[Record], Decoded[Any]]] = {}

    # -- the shell's side ------------------------------------------------------------------------------------------------------

    def needed(self, source: str, records: Sequence[Record]) -> Mapping[str, Sequence[bytes]]:
        """Rows of the batch's ids that the cache cannot answer."""
        decoded = self._decode(source, records)
        return self.rows.missing(event.request_id for event in decoded.events)

    def fold(
        self, source: str, records: Sequence[Record], found: Mapping[str, Mapping[bytes, bytes]], now: float
    ) -> Effects:
        """Takes a batch in; the effects hold its digests, rejected messages, rows and the checkpoint."""
        seen = self.observe({source: records}, found, now)
        effects = Effects(drops=seen.drops)
        effects.writes, effects.removes = self.rows.take_changes()
        new = self.combinations.take_new()
        if new:
            effects.writes[COMBINATIONS_TABLE] = new
        topics = self.config.kafka.topics
        encode = msgspec.json.encode
        for digest in seen.digests:
            if digest.model_id:
                effects.sends.append(Send(topics.digests, digest.model_id.encode(), encode(digest)))
        if self.watermark.settled:  # one stamp alone must not close every judge's windows
            clock = encode(self._clock(now))
            effects.sends += [
                Send(topics.digests, b"", clock, partition) for partition in range(self.digest_partitions)
            ]
        topic = topics.predictions if source == "predictions" else topics.labels
        for fault in seen.faults:
            # A label that waited is found unusable when its prediction comes.
            of = topics.labels if fault.reason == UNUSABLE else topic
            effects.sends.append(Send(topics.rejected, fault.record.key or b"", encode(self._rejected(fault, of, now))))
        for record in seen.duplicates:
            fault = Fault(record, "duplicate", "this request id was counted before; the first prediction stands")
            effects.sends.append(Send(topics.rejected, record.key or b"", encode(self._rejected(fault, topic, now))))
        effects.checkpoint = self.checkpoint()
        effects.views.update(self.views())
        return effects

    def views(self) -> dict[str, dict[str, str] | str | None]:
        """What people read: the join states of this partition."""
        return {
            f"{self.config.redis.prefix}:join:{self.partition}": {
                "watermark": repr(self.watermark.time),
                **{name: str(count) for name, count in sorted(self.counts.items())},
                **{f"rejected:{reason}": str(count) for reason, count in sorted(self.rejected.items())},
            }
        }

    def checkpoint(self) -> bytes:
        """What a successor needs beside the rows."""
        return self.state.checkpoint(self.sequence)

    def _clock(self, now: float) -> Digest:
        self.sequence += 1
        return Digest(self.partition, self.sequence, "", "", self.watermark.time, now, [])

    def _rejected(self, fault: Fault, topic: str, now: float) -> Rejected:
        value = fault.record.value or b""
        limit = self.config.rejected_original_bytes
        return Rejected(
            fault.reason, fault.detail, topic, self.partition, fault.record.offset, now, value[:limit], len(value)
        )

    # -- the core --------------------------------------------------------------------------------------------------------------

    def _decode(self, source: str, records: Sequence[Record]) -> Decoded[Any]:
        before = self._decoded.get(source)
        if before is not None and before[0] is records:
            return before[1]
        kind: Any = Prediction if source == "predictions" else Label
        result: Decoded[Any] = decode(
            kind, records, max_bytes=self.config.kafka.max_message_bytes, max_future_s=self.config.join.max_future
        )
        self._decoded[source] = (records, result)
        return result

    def observe(
        self,
        arrived: Mapping[str, Sequence[Record]],
        found: Mapping[str, Mapping[bytes, bytes]],
        now: float,
        order: Order | None = None,
    ) -> Observation:
        """Takes a batch in and says what it saw: records by source ("predictions", "labels").

        A batch may hold both: `order` then gives each record's place in the order of arrival, so that one pass over a hundred
        predictions and then their labels says the same as two hundred passes would.
        """
        predictions: Decoded[Prediction] = self._decode("predictions", arrived.get("predictions", ()))
        labels: Decoded[Label] = self._decode("labels", arrived.get("labels", ()))
        for source in arrived:
            self._decoded.pop(source, None)
        if found:
            self.rows.take_found(found)
        batch = Batch(self.book, self.combinations, [*predictions.faults, *labels.faults])
        places = order.places(predictions.records, labels.records) if order is not None else None
        stamps = np.array(predictions.times + labels.times)
        if places is None:
            visible = self.watermark.advance(stamps)
        else:
            sequence = np.argsort(places, kind="stable")
            visible = np.empty_like(stamps)
            visible[sequence] = self.watermark.advance(stamps[sequence])
        n = len(predictions.events)
        rows = self.rows.rows
        known = (
            {event.request_id for event in labels.events if event.request_id in rows} if places is not None else set()
        )
        taken = self.predictions.take(predictions, visible[:n], batch) if n else {}
        if labels.events:
            came_first = self.outcomes.came_first(taken, labels, places, visible) if places is not None else []
            self.outcomes.take(labels, visible[n:], came_first, known, batch)
        for fault in batch.faults:
            self.rejected[fault.reason] = self.rejected.get(fault.reason, 0) + 1
        seen = Observation([], batch.faults, batch.duplicates)
        seen.digests = list(batch.digests(self.partition, self.sequence + 1, self.watermark.time, now))
        self.sequence += len(seen.digests)
        if self.watermark.settled:
            seen.drops = self.rows.expire(self.watermark.time)
        # After the batch, never before it: `needed` has said which rows the cache holds, and they must still be there.
        self.rows.evict()
        return seen
