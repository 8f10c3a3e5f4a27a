"""The two cores as the shell builds them: from what an owner's last commit wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from leadline.config import Config
from streams.baselines.reference_book import ReferenceBook
from streams.judge import judge
from streams.judge.judge import (
    BLOCKS_TABLE,
    DAYS_TABLE,
    LIVE_TABLE,
    MODELS_TABLE,
    OPEN_TABLE,
    REFERENCES_TABLE,
    SEQUENTIAL_TABLE,
    Judge,
)
from streams.observe.observe import Observer
from streams.observe.partition_state import COMBINATIONS_TABLE, Checkpoint
from streams.observe.request_rows import RequestRows


class ObserveFactory:
    """Builds observers. All observers and judges of a process share one book: a baseline that is learned here is known here."""

    def __init__(self, config: Config, book: ReferenceBook, digest_partitions: int) -> None:
        self.config = config
        self.book = book
        self.digest_partitions = digest_partitions

    def whole(self, checkpoint: bytes) -> Sequence[str]:
        """The combinations, and the newest buckets that fit half the cache: the rest is read row by row when it is asked for."""
        if not checkpoint:
            return [COMBINATIONS_TABLE]
        state = msgspec.msgpack.decode(checkpoint, type=Checkpoint)
        newest = RequestRows.newest(state.buckets, self.config.join.cache_rows // 2)
        return [COMBINATIONS_TABLE, *(RequestRows.table(bucket) for bucket in newest)]

    def build(self, partition: int, checkpoint: bytes, tables: Mapping[str, Mapping[bytes, bytes]]) -> Observer:
        return Observer(partition, self.config, self.book, checkpoint, tables, self.digest_partitions)


class JudgeFactory:
    """Builds judges."""

    def __init__(self, config: Config, book: ReferenceBook) -> None:
        self.config = config
        self.book = book

    def whole(self, checkpoint: bytes) -> Sequence[str]:
        """Everything: a judge holds its models whole."""
        return [REFERENCES_TABLE, BLOCKS_TABLE, DAYS_TABLE, OPEN_TABLE, SEQUENTIAL_TABLE, LIVE_TABLE, MODELS_TABLE]

    def build(self, partition: int, checkpoint: bytes, tables: Mapping[str, Mapping[bytes, bytes]]) -> Judge:
        return judge.Judge(partition, self.config, self.book, checkpoint, tables)
