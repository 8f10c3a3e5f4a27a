"""Publish predictions and their labels with Leadline's own client.

Start `leadline run --embedded` in one terminal; in another, with the address it prints:

    python examples/publish_with_leadline.py 127.0.0.1:PORT
    python examples/publish_with_leadline.py 127.0.0.1:PORT --requests 12000 --rate 100 --shift-after 60

The second takes two minutes. Its patients grow old after one, and Leadline says so within seconds.
"""

from __future__ import annotations

import argparse
import random
import time
import uuid

from leadline import Publisher


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bootstrap_servers", help="host:port of a Kafka broker")
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--rate", type=float, default=0, help="requests a second; 0: as fast as it goes")
    parser.add_argument("--shift-after", type=float, metavar="SECONDS", help="from then on patients are 15 years older")
    options = parser.parse_args()
    draw, began, request_id = random.Random(7), time.time(), ""
    # One publisher for the whole service. Leaving the block flushes; so does the end of the program.
    with Publisher(
        options.bootstrap_servers, on_error=lambda reason, detail: print(f"{reason}: {detail}")
    ) as publisher:
        publisher.change(model_id="readmission", kind="deploy", version="3.1.0", stage="live", share=1.0)
        for number in range(options.requests):
            if options.rate:
                time.sleep(max(0.0, began + number / options.rate - time.time()))
            shifted = options.shift_after is not None and time.time() - began > options.shift_after
            age = draw.gauss(83 if shifted else 68, 12)
            risk = 1 / (1 + 2.718281828 ** (-(age - 70) / 10))
            request_id = str(uuid.uuid4())  # names one answer of one model, for ever
            publisher.predict(
                request_id=request_id,
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
            publisher.label(request_id=request_id, label=draw.random() < risk)
    print(publisher.stats)
    print(f"the last request: leadline request {request_id}")


if __name__ == "__main__":
    main()
