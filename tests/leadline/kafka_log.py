"""What stands in a topic, for tests that look at what was really published."""

from __future__ import annotations

import time
from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition


class Published(NamedTuple):
    partition: int
    offset: int
    key: bytes
    value: bytes


def read_all(bootstrap_servers: str, topic: str, *, timeout_s: float = 20.0) -> list[Published]:
    """Every message from the first to the end as it is now, partition by partition."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "nobody", "enable.auto.commit": False})
    found: list[Published] = []
    try:
        places = [
            TopicPartition(topic, number, 0)
            for number in consumer.list_topics(topic, timeout=timeout_s).topics[topic].partitions
        ]
        wanted = sum(consumer.get_watermark_offsets(place, timeout=timeout_s)[1] for place in places)
        consumer.assign(places)
        until = time.monotonic() + timeout_s
        while len(found) < wanted:
            assert time.monotonic() < until, f"{len(found)} of {wanted} messages came"
            for message in consumer.consume(500, 0.2):
                if message.error() is None:
                    where = message.partition() or 0, message.offset() or 0
                    found.append(Published(*where, message.key() or b"", message.value() or b""))
    finally:
        consumer.close()
    return sorted(found)
