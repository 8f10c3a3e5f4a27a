"""What one run of `soak.py` stands on: topics and keys of its own, and a worker that is started as people start it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import redis as redis_client
import yaml
from confluent_kafka import Consumer, TopicPartition

from benchmarks.peers.load import delete_topics, write_reference
from benchmarks.soak_load import Flow

PARTITIONS = 4
CACHE_ROWS = 20_000  # a partition; a fraction of what waits


@dataclass(frozen=True)
class Soak:
    """One run: what is sent, the delay window, the pane, and how many events may be published before those so far are judged."""

    name: str
    flow: Flow
    window_s: float
    pane_s: float
    ahead: int


class Ground:
    """Topics, keys and a worker of one run."""

    def __init__(self, soak: Soak, bootstrap: str, redis: str, folder: Path) -> None:
        self.soak, self.bootstrap = soak, bootstrap
        self.run_id = f"leadline-soak-{soak.name}-{uuid4().hex[:8]}"
        self.folder = folder / soak.name
        self.folder.mkdir()
        self.reference, _ = write_reference(self.folder, 1)
        self.redis = redis_client.Redis.from_url(redis, socket_timeout=60)
        names = ("predictions", "labels", "changes", "digests", "alerts", "rejected")
        self.topics = {name: f"{self.run_id}.{name}" for name in names}
        self.sources = (self.topics["predictions"], self.topics["labels"])
        self.log = self.folder / "worker.log"
        self.config = self.folder / "leadline.yaml"
        self.config.write_text(yaml.safe_dump(self._configuration(redis)))
        self._ends = Consumer({"bootstrap.servers": bootstrap, "group.id": f"{self.run_id}-ends"})

    def _configuration(self, redis: str) -> dict[str, Any]:
        return {
            "kafka": {
                "bootstrap_servers": self.bootstrap,
                "group": self.run_id,
                "partitions": PARTITIONS,
                "topics": self.topics,
            },
            "redis": {"url": redis, "prefix": self.run_id},
            "join": {"delay_window": f"{self.soak.window_s:.0f}s", "cache_rows": CACHE_ROWS},
            "panes": {"pane": f"{self.soak.pane_s:.0f}s"},
            "models": {"readmission": {"task": "binary", "reference": str(self.reference)}},
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "leadline.cli", *arguments, "-c", str(self.config)]

    @contextlib.contextmanager
    def worker(self) -> Iterator[int]:
        """A running worker's process id; RuntimeError with its last words if it did not end well."""
        with self.log.open("w") as out:
            process = subprocess.Popen(self.command("run"), stdout=out, stderr=out, start_new_session=True)
            try:
                yield process.pid
            finally:
                process.send_signal(signal.SIGTERM)
                status = process.wait(60)
        if status:
            raise RuntimeError(f"the worker ended with {status}: {self.last_words()}")

    def last_words(self) -> str:
        """The end of the worker's log."""
        return self.log.read_text()[-4000:]

    def committed(self, kind: str, topics: tuple[str, ...]) -> int:
        """Offsets in the worker's state, over all partitions."""
        with self.redis.pipeline(transaction=False) as asked:
            for partition in range(PARTITIONS):
                asked.hmget(f"{self.run_id}:i:{{{kind}:{partition}}}:meta", [f"o:{topic}" for topic in topics])
            return sum(int(offset) for answer in asked.execute() for offset in answer if offset)

    def behind(self) -> int:
        """Digests that the judges have not taken in."""
        topic = self.topics["digests"]
        places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        return sum(self._ends.get_watermark_offsets(place)[1] for place in places) - self.committed("j", (topic,))

    def judged(self) -> int:
        """Events up to which the judges have come, by their clock: an estimate, seconds old."""
        flow = self.soak.flow
        clock = self.redis.hget(f"{self.run_id}:model:readmission", "clock")
        return (
            0 if clock is None else int(min(max((float(clock) - flow.begin_s) / flow.span_s, 0.0), 1.0) * flow.events)
        )

    def counts(self) -> dict[str, int]:
        """What people read of the joins, over all partitions."""
        found: dict[str, int] = {}
        for partition in range(PARTITIONS):
            for name, value in self.redis.hgetall(f"{self.run_id}:join:{partition}").items():
                if name != b"watermark":
                    found[name.decode()] = found.get(name.decode(), 0) + int(value)
        return found

    def buckets(self) -> list[bytes]:
        return list(self.redis.scan_iter(match=f"{self.run_id}:i:*:t:b:*", count=10_000))

    def clear(self) -> None:
        self._ends.close()
        delete_topics(self.bootstrap, self.run_id)
        for key in self.redis.scan_iter(match=f"{self.run_id}:*", count=10_000):
            self.redis.unlink(key)
        self.redis.close()
