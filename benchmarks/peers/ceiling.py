"""The bare ceiling: fetch and decode every record, then forget it. No join, no statistics, no commit.

Variants: ``aiokafka`` and ``confluent`` (librdkafka). No Python worker that decodes each event on one core can be
faster.
"""

from __future__ import annotations

import asyncio
from typing import Any

import confluent_kafka
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from benchmarks.peers.protocol import Spec, Stopwatch, read_spec
from benchmarks.peers.work import decode_label, decode_prediction


async def by_aiokafka(spec: Spec, watch: Stopwatch) -> dict[str, int]:
    """``getmany`` in large pieces over assigned partitions."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=spec.bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=4 * 1024 * 1024
    )
    await consumer.start()
    partitions = [TopicPartition(t, p) for t in (spec.predictions, spec.labels) for p in range(spec.partitions)]
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    seen = {spec.predictions: 0, spec.labels: 0}
    done = False
    while not done:
        fetched = await consumer.getmany(timeout_ms=100, max_records=5000)
        for partition, records in fetched.items():
            watch.begin()
            decode: Any = decode_prediction if partition.topic == spec.predictions else decode_label
            for record in records:
                decode(record.value)
            seen[partition.topic] += len(records)
            done = watch.add(len(records))
    await consumer.stop()
    return seen


def by_confluent(spec: Spec, watch: Stopwatch) -> dict[str, int]:
    """``consume`` in large pieces over assigned partitions."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": spec.bootstrap,
            "group.id": f"{spec.run_id}-ceiling",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "fetch.queue.backoff.ms": 0,
            "queued.min.messages": 1_000_000,
        }
    )
    consumer.assign(
        [
            confluent_kafka.TopicPartition(topic, partition, 0)
            for topic in (spec.predictions, spec.labels)
            for partition in range(spec.partitions)
        ]
    )
    seen = {spec.predictions: 0, spec.labels: 0}
    done = False
    while not done:
        messages = consumer.consume(5000, 0.1)
        if not messages:
            continue
        watch.begin()
        message: Any  # the client's stubs call topic and value optional; only error messages lack them
        for message in messages:
            if message.error() is not None:
                raise confluent_kafka.KafkaException(message.error())
            topic = message.topic()
            if topic == spec.predictions:
                decode_prediction(message.value())
            else:
                decode_label(message.value())
            seen[topic] += 1
        done = watch.add(len(messages))
    consumer.close()
    return seen


def main() -> None:
    """Read both topics once."""
    spec = read_spec()
    watch = Stopwatch(spec.events)
    seen = asyncio.run(by_aiokafka(spec, watch)) if spec.variant == "aiokafka" else by_confluent(spec, watch)
    watch.report({"predictions": seen[spec.predictions], "labels": seen[spec.labels]})


if __name__ == "__main__":
    main()
