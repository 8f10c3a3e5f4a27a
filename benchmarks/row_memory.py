"""Bytes that one request's row takes in Redis, by the length of the request id: `MEMORY USAGE` of one bucket over its rows,
and by how much `used_memory` grew, which counts what the allocator rounds up (on a Redis that nobody else writes to).

    python benchmarks/row_memory.py --redis redis://127.0.0.1:6379/0

Rows are packed by the worker's own code, ten features each, and written to one key that is deleted at the end.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from uuid import uuid4

import numpy as np
import redis

# Run as a file, Python's path begins with benchmarks/, not with the folder that holds it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from streams.observe.rows import join_pending, pack_predictions

FEATURES = 10
ID_CHARACTERS = (16, 32, 36)
BEGIN_S = 1_780_000_000.0
AT_ONCE = 2_000
SETTLE_S = 2.0


def pending(n: int) -> list[bytes]:
    """Rows of `n` predictions that wait for their labels."""
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 10, (n, FEATURES)).astype(np.uint8)
    none = np.zeros(n, np.int64)
    return pack_predictions(BEGIN_S + np.arange(n) / 1e3, rng.random(n), np.zeros(n), none, codes, 0, None)


def usage(client: redis.Redis, rows: list[bytes], characters: int) -> tuple[float, float]:
    """Bytes a row of one hash that holds `rows` under random ids: as the key is said to use, as the server grew."""
    key = f"leadline-bench:{uuid4().hex}"
    ids = [(uuid4().hex + uuid4().hex)[:characters].encode() for _ in rows]
    before = client.info("memory")["used_memory"]
    try:
        for at in range(0, len(rows), AT_ONCE):
            client.hset(key, mapping=dict(zip(ids[at : at + AT_ONCE], rows[at : at + AT_ONCE], strict=True)))
        time.sleep(SETTLE_S)  # a table that grows is two tables until the server has moved its entries
        grown = client.info("memory")["used_memory"] - before
        return (client.memory_usage(key, samples=0) or 0) / len(rows), grown / len(rows)
    finally:
        client.unlink(key)


def main() -> None:
    arguments = argparse.ArgumentParser(description="Bytes of one request's row in Redis.")
    arguments.add_argument("--redis", default="redis://127.0.0.1:6379/0")
    arguments.add_argument("--rows", type=int, default=100_000)
    chosen = arguments.parse_args()
    with redis.Redis.from_url(chosen.redis) as client:
        server = client.info()
        print(f"Redis {server['redis_version']}, {server['mem_allocator']}, {chosen.rows:,} rows, {FEATURES} features")
        waiting = pending(chosen.rows)
        joined = join_pending(waiting, np.ones(chosen.rows), np.zeros(chosen.rows, dtype=np.int64), [0.0] * chosen.rows)
    for name, rows in (("pending", waiting), ("joined", joined)):
        for size in ID_CHARACTERS:
            said, grown = usage(client, rows, size)
            print(f"{name}, {len(rows[0])} bytes, id of {size} characters: {said:.0f}; used_memory {grown:.0f}")


if __name__ == "__main__":
    main()
