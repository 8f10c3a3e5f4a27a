"""The observer: the state of one source partition. Predictions and labels in, digests and rows out. Knows requests, no history.

Pure: time is a value, and nothing here knows Kafka or Redis. The shell calls `needed`, reads those rows, calls `fold`, commits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from leadline.config import Config
from leadline.events import Digest, Label, Prediction, Rejected
from streams.baselines.reference_book import ReferenceBook
from streams.core.decode import Decoder
from streams.core.decoded import Decoded, Fault
from streams.core.records import Records
from streams.core.stage import Arrived, Effects, Send
from streams.observe.observation import Batch, Observation
from streams.observe.observe_outcomes import OutcomeSide
from streams.observe.observe_predictions import PredictionSide
from streams.observe.partition_state import COMBINATIONS_TABLE, PartitionState


class Order(NamedTuple):
    """The order of arrival over both topics: the place of each record, for each."""

    predictions: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]

    @classmethod
    def by_time(cls, predictions: Records, labels: Records) -> Order:
        """As the broker stamped them; predictions first where it stamped both at once."""
        stamps = np.array(predictions.timestamps + labels.timestamps)
        places = np.empty(len(stamps), dtype=np.int64)
        places[np.argsort(stamps, kind="stable")] = np.arange(len(stamps))
        return cls(places[: len(predictions)], places[len(predictions) :])


class Observer:
    """One source partition. `fold` takes a batch of both topics; a failed commit means: throw this object away, build another."""

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
        limit = config.kafka.max_message_bytes
        self._decode_predictions, self._decode_labels = Decoder(Prediction, limit), Decoder(Label, limit)
        self._shown = False
        self._decoded: tuple[Arrived, Decoded[Prediction], Decoded[Label]] | None = None

    # -- the shell's side ------------------------------------------------------------------------------------------------------

    def needed(self, arrived: Arrived) -> Mapping[str, Sequence[bytes]]:
        """Rows of the batch's requests that the cache cannot answer."""
        predictions, labels = self._decode(arrived)
        return self.rows.missing(chain(predictions.keys, labels.keys))

    def fold(self, arrived: Arrived, found: Mapping[str, Mapping[bytes, bytes]], now: float) -> Effects:
        """Takes a batch in; the effects hold its digests, rejected messages, rows and the checkpoint."""
        if not any(arrived.values()):
            # An idle observer must not speak: its clock stands still, and saying so again and again would hold the judges' clocks. It
            # shows once what it has: the worker before it may have died between its last commit and showing it.
            shown, self._shown = self._shown, True
            return Effects() if shown else Effects(views=self.views())
        seen = self.observe(arrived, found, now)
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
        for source, topic in (("predictions", topics.predictions), ("labels", topics.labels)):
            effects.sends += [self._reject(fault, topic, now) for fault in seen.faults[source]]
        for record in seen.duplicates:
            fault = Fault(record, "duplicate", "this request id was counted before; the first prediction stands")
            effects.sends.append(self._reject(fault, topics.predictions, now))
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

    def _reject(self, fault: Fault, topic: str, now: float) -> Send:
        value = fault.record.value or b""
        limit = self.config.rejected_original_bytes
        rejected = Rejected(
            fault.reason, fault.detail, topic, self.partition, fault.record.offset, now, value[:limit], len(value)
        )
        return Send(self.config.kafka.topics.rejected, fault.record.key or b"", msgspec.json.encode(rejected))

    # -- the core --------------------------------------------------------------------------------------------------------------

    def _decode(self, arrived: Arrived) -> tuple[Decoded[Prediction], Decoded[Label]]:
        """Events of both topics."""
        if self._decoded is None or self._decoded[0] is not arrived:
            ahead = self.config.join.max_future
            predictions = self._decode_predictions.decode(arrived.get("predictions", ()), ahead)
            labels = self._decode_labels.decode(arrived.get("labels", ()), ahead)
            self._decoded = arrived, predictions, labels
        return self._decoded[1:]

    def observe(
        self,
        arrived: Arrived,
        found: Mapping[str, Mapping[bytes, bytes]],
        now: float,
        order: Order | None = None,
    ) -> Observation:
        """Takes a batch in and says what it saw: records by source ("predictions", "labels").

        `order` is the order of arrival, without it that of the broker's stamps: so that one pass over a hundred predictions and then
        their labels says the same as two hundred passes would.
        """
        predictions, labels = self._decode(arrived)
        self._decoded = None
        if found:
            self.rows.take_found(found)
        batch = Batch(self.book, self.combinations, {"predictions": predictions.faults, "labels": labels.faults})
        n = len(predictions)
        stamps = np.concatenate([predictions.times, labels.times])
        if n and len(labels):
            given = order or Order.by_time(predictions.records, labels.records)
            places = np.concatenate([given.predictions[predictions.places], given.labels[labels.places]])
            sequence = np.argsort(places, kind="stable")
            visible = np.empty_like(stamps)
            visible[sequence] = self.watermark.advance(stamps[sequence])
        else:
            places, visible = np.arange(len(stamps)), self.watermark.advance(stamps)
        taken = self.predictions.take(predictions, visible[:n], batch) if n else {}
        if len(labels):
            came_first = self.outcomes.came_first(taken, labels.keys, places, visible) if n else []
            self.outcomes.take(labels, visible[n:], came_first, batch)
        for faults in batch.faults.values():
            for fault in faults:
                self.rejected[fault.reason] = self.rejected.get(fault.reason, 0) + 1
        seen = Observation([], batch.faults, batch.duplicates)
        seen.digests = list(batch.digests(self.partition, self.sequence + 1, self.watermark.time, now))
        self.sequence += len(seen.digests)
        if self.watermark.settled:
            seen.drops = self.rows.expire(self.watermark.time)
        # After the batch, never before it: `needed` has said which rows the cache holds, and they must still be there.
        self.rows.evict()
        return seen
