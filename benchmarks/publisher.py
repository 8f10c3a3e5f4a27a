"""What one publish costs the thread that serves: microseconds a call, beside the bare parts it is made of.

Run: `python -m benchmarks.publisher`. The broker is librdkafka's mock in this process, so its threads and those of the
publisher compete for the same cores, as they would in a busy service. Ratios compare lines of one run only.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
from confluent_kafka import Producer

from leadline import Publisher
from streams.embedded.mock_broker import start_mock_broker

TOPICS = {"leadline.predictions": 4, "leadline.labels": 4, "leadline.changes": 1}
FEATURES = {f"feature_{number}": 1.25 * number for number in range(10)}
AS_NUMPY = {name: np.float32(value) for name, value in FEATURES.items()}
SEGMENTS = {"site": "north", "ward": "surgery"}


def measure(
    call: Callable[[str], object], calls: int, rounds: int, settle: Callable[[], object]
) -> tuple[float, float, float]:
    """Median over rounds of the mean, then 99th percentile and largest of all single calls; microseconds."""
    means: list[float] = []
    singles: list[float] = []
    for number in range(rounds):
        ids = [f"request-{number}-{index:06d}" for index in range(calls)]
        took = list(_timed(call, ids))
        means.append(statistics.fmean(took))
        singles += took
        settle()
    singles.sort()
    return statistics.median(means) * 1e6, singles[int(0.99 * len(singles))] * 1e6, singles[-1] * 1e6


def _timed(call: Callable[[str], object], ids: list[str]) -> Iterator[float]:
    clock = time.perf_counter
    for request_id in ids:
        began = clock()
        call(request_id)
        yield clock() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    encode = msgspec.json.Encoder().encode
    with start_mock_broker(TOPICS) as broker:
        bare = Producer(
            {"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 20, "partitioner": "murmur2_random"}
        )
        up = Publisher(broker.bootstrap_servers)
        down = Publisher("127.0.0.1:1", max_queued_events=1_000)
        began = time.perf_counter()
        up.predict(request_id="first", model_id="m", model_version="1", score=0.5)
        first = time.perf_counter() - began
        up.start()
        down.start()

        def event(request_id: str, features: dict[str, float]) -> dict[str, object]:
            head = {
                "request_id": request_id,
                "model_id": "readmission",
                "model_version": "3.1.0",
                "timestamp": time.time(),
            }
            return {**head, "score": 0.83, "features": features, "segments": SEGMENTS, "latency_ms": 12.5}

        def publish(publisher: Publisher, request_id: str, features: dict[str, object]) -> bool:
            return publisher.predict(
                request_id=request_id,
                model_id="readmission",
                model_version="3.1.0",
                score=0.83,
                features=features,
                segments=SEGMENTS,
                latency_ms=12.5,
            )

        plain: dict[str, object] = dict(FEATURES)
        numpy: dict[str, object] = dict(AS_NUMPY)
        lines: list[tuple[str, Callable[[str], object], Callable[[], object]]] = [
            ("dict and msgspec encode alone", lambda rid: encode(event(rid, FEATURES)), lambda: None),
            (
                "the same and a bare produce()",
                lambda rid: bare.produce("leadline.predictions", encode(event(rid, FEATURES)), rid.encode()),
                lambda: bare.flush(30),
            ),
            ("Publisher.predict, 10 floats", lambda rid: publish(up, rid, plain), lambda: up.flush(30)),
            ("Publisher.predict, 10 numpy float32", lambda rid: publish(up, rid, numpy), lambda: up.flush(30)),
            ("Publisher.label", lambda rid: up.label(request_id=rid, label=1), lambda: up.flush(30)),
            ("Publisher.predict, broker away, queue full", lambda rid: publish(down, rid, plain), lambda: None),
        ]
        print(f"{'microseconds a call':44} {'mean':>8} {'p99':>8} {'longest':>9}")
        for name, call, settle in lines:
            mean, high, longest = measure(call, options.calls, options.rounds, settle)
            print(f"{name:44} {mean:8.2f} {high:8.2f} {longest:9.0f}")
        print(f"{'the very first publish of a process':44} {first * 1e6:8.0f}")
        up.close()
        print(f"with the broker there: {up.stats.delivered} delivered, dropped {up.stats.dropped}")
        down.close(0.0)
        print(f"with the broker away: dropped {down.stats.dropped}")


if __name__ == "__main__":
    main()
