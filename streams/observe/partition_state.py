"""What an observer keeps of its source partition from batch to batch, and the small part of it that is committed with each."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from leadline.config import Config
from streams.baselines.reference_book import ReferenceBook
from streams.core.stored_state import require_same
from streams.core.watermark import SUPPORT, Watermark
from streams.counting.references import Reference
from streams.counting.sampling import Sampler
from streams.counting.value_streams import Kind, stream_rate
from streams.observe.combinations import Combinations
from streams.observe.request_rows import RequestRows

COMBINATIONS_TABLE = "combinations"


class Checkpoint(msgspec.Struct):
    """The observer's small state, committed with every batch."""

    watermark: float = float("-inf")
    ahead: int = 0
    lowest_ahead: float = float("inf")
    sequence: int = 0
    buckets: dict[int, int] = {}
    samplers: dict[str, tuple[float, int, int, float]] = {}
    learned: dict[str, int] = {}
    counts: dict[str, int] = {}
    rejected: dict[str, int] = {}
    settings: dict[str, float] = {}
    agreed: int = SUPPORT  # of state from before it was counted


class PartitionState:
    """Rows, combinations, counts and clock of one source partition: what the sides of predictions and of outcomes share."""

    def __init__(
        self,
        partition: int,
        config: Config,
        book: ReferenceBook,
        checkpoint: bytes,
        tables: Mapping[str, Mapping[bytes, bytes]],
    ) -> None:
        self.config = config
        self.book = book
        stored = msgspec.msgpack.decode(checkpoint, type=Checkpoint) if checkpoint else Checkpoint()
        join = config.join
        self.pane_s = config.panes.pane
        self.settings = {
            "join.delay_window": join.delay_window,
            "join.early_tolerance": join.early_tolerance,
            "join.late_retention": join.kept_past_window,
            "panes.pane": self.pane_s,
        }
        require_same(f"observer of partition {partition}", stored.settings, self.settings)
        stored.agreed = stored.agreed if checkpoint else 0
        self.watermark = Watermark(join.max_jump, stored.watermark, stored.ahead, stored.lowest_ahead, stored.agreed)
        self.sequence = stored.sequence
        self.counts: dict[str, int] = stored.counts
        self.rejected: dict[str, int] = stored.rejected
        self.learned_rows: dict[str, int] = stored.learned
        self.samplers = {name: Sampler(*values) for name, values in stored.samplers.items()}
        self.rows = RequestRows(
            join.delay_window + join.kept_past_window + join.early_tolerance, join.cache_rows, stored.buckets
        )
        self.combinations = Combinations(config.panes.max_segment_values)
        for model_id in config.models:
            self._reserve(model_id)
        self.combinations.restore(tables.get(COMBINATIONS_TABLE, {}))
        for table, rows in tables.items():
            if table.startswith("b:"):
                self.rows.load(int(table[2:]), rows)

    def _reserve(self, model_id: str) -> None:
        reference = self.book.find(model_id)
        if reference is not None:
            self.combinations.reserve(model_id, [segment for segment in reference.cells if segment])

    def checkpoint(self, sequence: int) -> bytes:
        """What a successor needs beside the rows; `sequence` is the number of the last digest."""
        return msgspec.msgpack.encode(
            Checkpoint(
                self.watermark.time,
                self.watermark.ahead,
                self.watermark.lowest_ahead,
                sequence,
                self.rows.stored,
                {name: sampler.state() for name, sampler in self.samplers.items()},
                self.learned_rows,
                self.counts,
                self.rejected,
                self.settings,
                self.watermark.agreed,
            )
        )

    def count(self, name: str, n: int = 1) -> None:
        if n:
            self.counts[name] = self.counts.get(name, 0) + n

    def panes(self, visible: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Arrival panes of times at which something became visible, epoch seconds."""
        return (visible // self.pane_s).astype(np.int64)

    def sampler(self, reference: Reference, model_id: str, kind: Kind) -> Sampler:
        """Chooses which of the model's rows are sampled for streams of this kind."""
        name = f"{model_id}\x1f{kind}"
        found = self.samplers.get(name)
        if found is None:
            found = self.samplers[name] = Sampler(1.0)
        found.per_pane = stream_rate(kind, self.config.panes, reference) * self.pane_s
        return found
