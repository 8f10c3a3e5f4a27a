"""Publish predictions and their labels with Leadline's own client.

Start `leadline run --embedded` in one terminal; in another, with the address it prints:

    python examples/publish_with_leadline.py 127.0.0.1:PORT
"""

from __future__ import annotations

import argparse
import random

from leadline import Publisher


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bootstrap_servers", help="host:port of a Kafka broker")
    parser.add_argument("--requests", type=int, default=1_000)
    options = parser.parse_args()
    draw = random.Random(7)
    # One publisher for the whole service. Leaving the block flushes; so does the end of the program.
    with Publisher(
        options.bootstrap_servers, on_error=lambda reason, detail: print(f"{reason}: {detail}")
    ) as publisher:
        publisher.change(model_id="readmission", kind="deploy", version="3.1.0", stage="live", share=1.0)
        for number in range(options.requests):
            age = draw.gauss(68, 12)
            risk = 1 / (1 + 2.718281828 ** (-(age - 70) / 10))
            publisher.predict(
                request_id=f"example-{number:06d}",
                model_id="readmission",
                model_version="3.1.0",
                score=risk,
                prediction=risk >= 0.5,
                features={
                    "age": age,
                    "hba1c": draw.choice([None, draw.gauss(6, 1)]),
                    "ward": draw.choice(["icu", "surgery"]),
                },
                segments={"site": draw.choice(["north", "south"])},
                latency_ms=draw.expovariate(1 / 12),
            )
            # In a real service the truth comes from another program, days later, with the same request id.
            publisher.label(request_id=f"example-{number:06d}", label=draw.random() < risk)
    print(publisher.stats)


if __name__ == "__main__":
    main()
