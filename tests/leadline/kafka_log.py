"""What stands in a topic, for tests that look at what was really published."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, Message, TopicPartition


def read_all(bootstrap_servers: str, topic: str, *, timeout_s: float = 20.0) -> list[Message]:
    """Every message from the first to the end as it is now, partition by partition."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "nobody", "enable.auto.commit": False})
    found: list[Message] = []
    try:
        partitions = consumer.list_topics(topic, timeout=timeout_s).topics[topic].partitions
        ends = {
            number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=timeout_s)[1]
            for number in partitions
        }
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        until = time.monotonic() + timeout_s
        while len(found) < sum(ends.values()):
            assert time.monotonic() < until, f"{len(found)} of {sum(ends.values())} messages came"
            found += [message for message in consumer.consume(500, 0.2) if message.error() is None]
    finally:
        consumer.close()
    return sorted(found, key=lambda message: (message.partition(), message.offset()))
