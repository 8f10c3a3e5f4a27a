"""Whose offsets these are: a topic made anew, or given more partitions, is another log under the old name.

Kafka gives every topic an id of its own at its creation, and offsets mean something under that id alone: those of a
deleted topic fit into the one that was made in its place as soon as it is long enough. And with another number of
partitions keys move: a label looks for its prediction where it is not. Neither shows in the records. So each owner
keeps, beside its offsets, the ids and the partition counts of its topics, and a worker compares them when it claims, and
while it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

TABLE = "log"
COUNT, ID = b"partitions:", b"id:"
MIGRATE = (
    "Keys move with the number of partitions, so requests under way would never find each other. Kafka takes no "
    "partition back, therefore: create topics with new names and the new count, point an installation with another "
    "kafka.group and redis.prefix at them, and switch producers over (docs/operations.md, Topics and partitions)"
)


class Identity(NamedTuple):
    """What a broker says of a topic. `id` is empty where the broker knows none (Kafka before 2.8, the mock broker)."""

    partitions: int
    id: str


class LogChanged(Exception):
    """The topics are not those that the state in Redis was counted from."""

    reason = "log_changed"


class TopicRecreated(LogChanged):
    """A topic was deleted and made anew."""

    reason = "topic_recreated"


class PartitionsChanged(LogChanged):
    """A topic has another number of partitions than before."""

    reason = "partitions_changed"


def rows_of(now: Mapping[str, Identity], log_id: str = "") -> dict[bytes, bytes]:
    """What an owner keeps of its topics."""
    rows: dict[bytes, bytes] = {}
    for topic, identity in now.items():
        rows[COUNT + topic.encode()] = b"%d" % identity.partitions
        if identity.id:
            rows[ID + _named(topic, log_id)] = identity.id.encode()
    return rows


def recreated(stored: Mapping[bytes, bytes], now: Mapping[str, Identity], log_id: str = "") -> list[str]:
    """Topics whose id is not the one that the stored offsets belong to."""
    return [
        topic
        for topic, identity in now.items()
        if identity.id and stored.get(ID + _named(topic, log_id), identity.id.encode()) != identity.id.encode()
    ]


def check_counts(stored: Mapping[bytes, bytes], now: Mapping[str, Identity]) -> None:
    """`PartitionsChanged` where a topic has not as many partitions as the state was counted with."""
    changed = [
        f"{topic} had {int(before)} partitions and has {identity.partitions}"
        for topic, identity in now.items()
        if int(before := stored.get(COUNT + topic.encode(), b"%d" % identity.partitions)) != identity.partitions
    ]
    if changed:
        raise PartitionsChanged(f"{'; '.join(changed)}. {MIGRATE}")


def check_same(before: Mapping[str, Identity], now: Mapping[str, Identity]) -> None:
    """`LogChanged` where a topic is not what it was when this worker started. A topic without an answer says nothing."""
    check_counts(rows_of(before), now)
    if changed := recreated(rows_of(before), now):
        raise TopicRecreated(f"{recreation(changed)}, while this worker was reading it")


def recreation(topics: list[str]) -> str:
    """In words."""
    return f"{', '.join(topics)} was deleted and made anew: the offsets in Redis are of the old one"


def _named(topic: str, log_id: str) -> bytes:
    return f"{topic}#{log_id}".encode() if log_id else topic.encode()
