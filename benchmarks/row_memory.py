"""Bytes that one request's row takes in Redis: `MEMORY USAGE` of one bucket over its rows, and by how much `used_memory` grew, which
counts what the allocator rounds up (on a Redis that nobody else writes to).

    python benchmarks/row_memory.py                     # a redis-server of its own
    python benchmarks/row_memory.py --redis redis://127.0.0.1:6379/0

Keys and rows are made by the worker's own code and written to one hash that is deleted at the end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import numpy as np
import redis

# Run as a file, Python's path begins with benchmarks/, not with the folder that holds it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from streams.core.request_keys import request_keys
from streams.observe.rows import join_pending, pack_predictions
from tests.real.redis_server import RealRedis

FEATURES = (10, 50, 200)
BEGIN_S = 1_780_000_000.0
AT_ONCE = 2_000
SETTLE_S = 2.0


def pending(n: int, features: int) -> list[bytes]:
    """Rows of `n` predictions that wait for their labels."""
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 10, (n, features)).astype(np.uint8)
    none = np.zeros(n, np.int64)
    return pack_predictions(BEGIN_S + np.arange(n) / 1e3, rng.random(n), np.zeros(n), none, codes, None)


def usage(client: redis.Redis, rows: list[bytes]) -> tuple[float, float]:
    """Bytes a row of one hash that holds `rows` under random ids: as the key is said to use, as the server grew."""
    key = f"leadline-bench:{uuid4().hex}"
    keys = request_keys(str(uuid4()) for _ in rows)
    before = client.info("memory")["used_memory"]
    try:
        for at in range(0, len(rows), AT_ONCE):
            client.hset(key, mapping=dict(zip(keys[at : at + AT_ONCE], rows[at : at + AT_ONCE], strict=True)))
        time.sleep(SETTLE_S)  # a table that grows is two tables until the server has moved its entries
        grown = client.info("memory")["used_memory"] - before
        return (client.memory_usage(key, samples=0) or 0) / len(rows), grown / len(rows)
    finally:
        client.unlink(key)


@contextmanager
def server(url: str | None) -> Iterator[redis.Redis]:
    """The server that was named, or one of our own."""
    if url is not None:
        with redis.Redis.from_url(url) as client:
            yield client
        return
    with tempfile.TemporaryDirectory() as folder:
        own = RealRedis(Path(folder))
        own.start()
        try:
            with redis.Redis.from_url(own.redis_url) as client:
                yield client
        finally:
            own.stop()


def main() -> None:
    arguments = argparse.ArgumentParser(description="Bytes of one request's row in Redis.")
    arguments.add_argument("--redis", help="a server that nobody else writes to; without it one is started")
    arguments.add_argument("--rows", type=int, default=100_000)
    chosen = arguments.parse_args()
    with server(chosen.redis) as client:
        told = client.info()
        print(f"Redis {told['redis_version']}, {told['mem_allocator']}, {chosen.rows:,} rows")
        for features in FEATURES:
            waiting = pending(chosen.rows, features)
            none = np.zeros(chosen.rows, dtype=np.int64)
            joined = join_pending(waiting, np.ones(chosen.rows), none, none)
            for name, rows in (("pending", waiting), ("joined", joined)):
                said, grown = usage(client, rows)
                print(f"{features} features, {name}, {len(rows[0])} bytes: {said:.0f}; used_memory {grown:.0f}")


if __name__ == "__main__":
    main()
