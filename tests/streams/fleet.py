"""Worker processes for tests: loading topics, starting toy workers, killing and stopping them, reading exact counts
from Redis.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import redis
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.real.backend import Backend, Fresh

ROOT = Path(__file__).resolve().parents[2]
PARTITIONS = 4


def until(condition: Callable[[], bool], seconds: float, what: str | Callable[[], str]) -> None:
    """Poll, because the other side is another process."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.05)


@dataclass
class Fleet:
    """Workers on topics of their own. Leave it by `close`."""

    backend: Backend
    folder: Path
    options: dict[str, Any] = field(default_factory=dict)
    fresh: Fresh = field(init=False)
    sent: int = 0
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    logs: list[IO[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fresh = self.backend.fresh()
        names = self.fresh.names
        self.topics = {role: getattr(names, role) for role in ("predictions", "labels", "changes", "digests")}
        self.backend.create_topics(dict.fromkeys(self.topics.values(), PARTITIONS))
        self.store = redis.Redis.from_url(self.fresh.redis_url, decode_responses=True)
        self.producer = Producer(
            {
                "bootstrap.servers": self.backend.bootstrap_servers,
                "partitioner": "murmur2_random",
                "linger.ms": 20,
                "enable.idempotence": True,
                "log_level": 3,
            }
        )

    def settings(self) -> dict[str, Any]:
        return {
            "bootstrap_servers": self.backend.bootstrap_servers,
            "redis_url": self.fresh.redis_url,
            "group": self.fresh.redis_prefix,
            "key_prefix": self.fresh.redis_prefix,
            "session_timeout_s": 6.0,
            "heartbeat_s": 1.0,
            "topics": self.topics,
            **self.options,
        }

    def send(self, count: int) -> None:
        """`count` predictions, each with its label."""
        for number in range(self.sent, self.sent + count):
            key = b"id-%014d" % number
            for topic in (self.topics["predictions"], self.topics["labels"]):
                self.producer.produce(topic, key=key, value=b'{"filler": "%s"}' % (b"x" * 40))
            if number % 500 == 0:
                self.producer.poll(0)
        self.producer.flush()
        self.sent += count

    def start(self, **options: Any) -> subprocess.Popen[bytes]:
        log = (self.folder / f"worker-{len(self.processes)}.log").open("wb")
        arguments = [sys.executable, "-m", "tests.streams.toy", json.dumps({**self.settings(), **options})]
        process = subprocess.Popen(arguments, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        self.processes.append(process)
        self.logs.append(log)
        return process

    def log_of(self, process: subprocess.Popen[bytes]) -> str:
        return (self.folder / f"worker-{self.processes.index(process)}.log").read_text()

    def meta(self, owner: str, partition: int) -> dict[str, str]:
        key = f"{self.fresh.redis_prefix}:i:{{{owner}:{partition}}}:meta"
        return {str(name): str(value) for name, value in self.store.hgetall(key).items()}  # type: ignore[union-attr]

    def totals(self) -> dict[str, int]:
        """The toy's counts, over all partitions."""
        sums: dict[str, int] = {}
        for partition in range(PARTITIONS):
            for name, count in json.loads(self.meta("o", partition).get("checkpoint", "{}")).items():
                sums[name] = sums.get(name, 0) + count
        return sums

    def counted(self) -> int:
        totals = self.totals()
        return totals.get("predictions", 0) + totals.get("labels", 0)

    def judged(self) -> int:
        """Records that the judges' toy has added up from digests."""
        return sum(int(self.meta("j", partition).get("checkpoint", 0)) for partition in range(PARTITIONS))

    def claimed_by(self, process: subprocess.Popen[bytes]) -> int:
        """Partitions that a running worker shows as its own."""
        shown = self.store.hkeys(f"{self.fresh.redis_prefix}:worker:toy-{process.pid}")
        return sum("/" in str(name) for name in shown)  # type: ignore[union-attr]

    def rows(self) -> int:
        prefix = self.fresh.redis_prefix
        return sum(int(self.store.hlen(f"{prefix}:i:{{o:{p}}}:t:ids")) for p in range(PARTITIONS))  # type: ignore[arg-type]

    def unsent(self) -> int:
        prefix = self.fresh.redis_prefix
        owners = [f"{kind}:{partition}" for kind in "oj" for partition in range(PARTITIONS)]
        return sum(int(self.store.hlen(f"{prefix}:i:{{{owner}}}:outbox")) for owner in owners)  # type: ignore[arg-type]

    def assert_exact(self, seconds: float = 60.0) -> None:
        """Everything that was sent is counted once, by the observers and, through digests, by the judges."""
        until(lambda: self.counted() >= 2 * self.sent, seconds, lambda: f"all counted: {self.totals()} of {self.sent}")
        assert self.totals() == {"predictions": self.sent, "labels": self.sent, "pairs": self.sent}
        assert self.rows() == self.sent
        until(
            lambda: self.judged() >= 2 * self.sent, seconds, lambda: f"all judged: {self.judged()} of {2 * self.sent}"
        )
        assert self.judged() == 2 * self.sent
        until(lambda: self.unsent() == 0, 20.0, "the outbox is empty")

    def digests(self) -> Iterator[tuple[str, bytes]]:
        """Id and value of every digest in the log."""
        consumer = Consumer({"bootstrap.servers": self.backend.bootstrap_servers, "group.id": "reader", "log_level": 3})
        topic = self.topics["digests"]
        ends = {
            partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)[1]
            for partition in range(PARTITIONS)
        }
        consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
        left = sum(ends.values())
        while left:
            for message in consumer.consume(left, 5.0):
                left -= 1
                headers = dict(message.headers() or [])
                yield headers["leadline-id"].decode(), message.value() or b""
        consumer.close()

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGCONT)
                process.kill()
            process.wait(10)
        for log in self.logs:
            log.close()
        self.store.close()
