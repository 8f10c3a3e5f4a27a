"""Asks the broker what its topics are now: how many partitions, and which id."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._metadata import ClusterMetadata  # the public name is not declared as exported

from streams.store.log_identity import Identity, check_same
from streams.transport.topics import TopicMissing

ANSWER_S = 5.0
FRESH_S = 1.0  # the claims of one assignment share an answer
MISSES = 2  # a broker that has just started may not know its topics yet


class TopicWatch:
    """`topics` as the broker describes them. Joins no group, reads no record."""

    def __init__(self, admin: AdminClient, topics: Collection[str]) -> None:
        self._admin = admin
        self._topics = tuple(topics)
        self._lock = asyncio.Lock()
        self._found: dict[str, Identity] = {}
        self._found_at = float("-inf")
        self._first: dict[str, Identity] = {}
        self._misses = 0
        self._complete: bool | None = None

    async def now(self) -> Mapping[str, Identity]:
        """By topic; one that does not exist is left out. `KafkaException` where no broker answers."""
        async with self._lock:
            if time.monotonic() - self._found_at > FRESH_S:
                self._found = await self._look()
                self._found_at = time.monotonic()
                self._first = {**self._found, **self._first}
            return self._found

    async def check(self) -> None:
        """Compare with what this worker has seen first: `LogChanged`, or `TopicMissing` when a topic stays away."""
        now = await self.now()
        check_same(self._first, now)
        missing = [topic for topic in self._first if topic not in now]
        self._misses = self._misses + 1 if missing else 0
        if self._misses >= MISSES:
            raise TopicMissing(f"{', '.join(missing)} was deleted while this worker was reading it")

    async def _look(self) -> dict[str, Identity]:
        if self._complete is None:
            # The mock broker names a controller that is none of its brokers, so that nobody can ask it for ids.
            metadata = await asyncio.get_running_loop().run_in_executor(None, self._list)
            self._complete = metadata.controller_id in metadata.brokers
        if self._complete:
            return await self._described()
        metadata = await asyncio.get_running_loop().run_in_executor(None, self._list)
        known = {name: topic for name, topic in metadata.topics.items() if topic.error is None}
        return {name: Identity(len(known[name].partitions), "") for name in self._topics if name in known}

    def _list(self) -> ClusterMetadata:
        # All topics: asking for a single name creates it on brokers that create on demand, the mock broker among them.
        return self._admin.list_topics(timeout=ANSWER_S)

    async def _described(self) -> dict[str, Identity]:
        answers = self._admin.describe_topics(TopicCollection(list(self._topics)), request_timeout=ANSWER_S)
        found: dict[str, Identity] = {}
        for name, answer in answers.items():
            try:
                topic = await asyncio.wrap_future(answer)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
                continue
            known = topic.topic_id
            nil = not (known.get_most_significant_bits() or known.get_least_significant_bits())
            found[name] = Identity(len(topic.partitions), "" if nil else str(known))
        return found
