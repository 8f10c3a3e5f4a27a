"""`.kafka/env`: where the servers that `make kafka-up` left running can be reached."""

import contextlib
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

CACHE = Path(__file__).resolve().parents[2] / ".kafka"  # jars, kept over runs
RUNNING = CACHE / "running"  # data, logs and pid files of `up`
ENV = CACHE / "env"
BOOTSTRAP, REDIS = "LEADLINE_BOOTSTRAP_SERVERS", "LEADLINE_REDIS_URL"


@dataclass(frozen=True)
class Addresses:
    bootstrap_servers: str
    redis_url: str

    @property
    def kafka_port(self) -> int:
        return int(self.bootstrap_servers.rpartition(":")[2])

    @property
    def redis_port(self) -> int:
        return urlsplit(self.redis_url).port or 6379

    @classmethod
    def read(cls, file: Path | None = None) -> Self | None:
        """What the file (`ENV`, unless told) says, or None without a (whole) file."""
        with contextlib.suppress(FileNotFoundError, KeyError, ValueError):
            lines = dict(line.split("=", 1) for line in (file or ENV).read_text().splitlines())
            return cls(lines[f"export {BOOTSTRAP}"], lines[f"export {REDIS}"])
        return None

    @classmethod
    def read_live(cls, file: Path | None = None) -> Self | None:
        """As `read`, and None where either port refuses connections."""
        addresses = cls.read(file)
        return addresses if addresses and all(map(listening, (addresses.kafka_port, addresses.redis_port))) else None

    def write(self, file: Path | None = None) -> None:
        (file or ENV).write_text(f"export {BOOTSTRAP}={self.bootstrap_servers}\nexport {REDIS}={self.redis_url}\n")

    @staticmethod
    def remove() -> None:
        ENV.unlink(missing_ok=True)


def listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
    return False
