"""Publish predictions and their labels with no client of Leadline's: JSON, a key, and the right partitioner.

    python examples/publish_without_leadline.py 127.0.0.1:PORT

Needs `pip install confluent-kafka` and nothing else.
"""

import argparse
import json
import random
import time
import uuid

from confluent_kafka import KafkaError, Message, Producer


def told(error: KafkaError | None, message: Message) -> None:
    if error is not None:
        print(f"{message.key()!r} was not delivered: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bootstrap_servers", help="host:port of a Kafka broker")
    parser.add_argument("--requests", type=int, default=1_000)
    options = parser.parse_args()
    producer = Producer(
        {
            "bootstrap.servers": options.bootstrap_servers,
            "enable.idempotence": True,
            "acks": "all",
            # librdkafka's default is not Java's. Where services use different ones, labels miss their predictions.
            "partitioner": "murmur2_random",
            "linger.ms": 20,
        }
    )
    draw = random.Random(7)
    for _ in range(options.requests):
        request_id = str(uuid.uuid4())  # names one answer of one model, for ever
        score = draw.random()
        prediction = {
            "request_id": request_id,
            "model_id": "readmission",
            "model_version": "3.1.0",
            "timestamp": time.time(),  # seconds, not milliseconds
            "score": score,
            "prediction": score >= 0.5,
            "features": {"age": draw.gauss(68, 12), "hba1c": None, "emergency": draw.random() < 0.3},
            "segments": {"site": draw.choice(["north", "south"])},
        }
        label = {"request_id": request_id, "label": draw.random() < score, "timestamp": time.time()}
        # allow_nan=False: Python would write NaN, which is not JSON and would be rejected as not_finite.
        for topic, event in (("leadline.predictions", prediction), ("leadline.labels", label)):
            body = json.dumps(event, allow_nan=False).encode()
            producer.produce(topic, body, key=request_id.encode(), on_delivery=told)
        producer.poll(0)
    left = producer.flush(30)
    print(f"{options.requests} predictions and their labels sent, {left} not acknowledged")


if __name__ == "__main__":
    main()
