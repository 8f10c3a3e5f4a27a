"""Virtual environments for the peers: Quix Streams wants an older confluent-kafka than ours, Bytewax an older Python.

Each is made once and used again as long as its requirements stay the same.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

STAMP = "requirements.stamp"


class PeerUnavailable(Exception):
    """A peer's environment cannot be made on this machine; the text says what is missing."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """One peer's requirements. ``pythons``: the minor versions it runs on, best first; empty = any."""

    name: str
    requirements: tuple[str, ...]
    pythons: tuple[str, ...]


COMMON = ("msgspec>=0.19", "river>=0.21", "numpy>=1.26")
QUIX = Environment(
    name="quix-streams",
    requirements=("quixstreams==3.28.*", "confluent-kafka<2.13", *COMMON),
    pythons=("3.11", "3.12", "3.13"),
)
BYTEWAX = Environment(name="bytewax", requirements=("bytewax[kafka]==0.21.*", *COMMON), pythons=("3.11", "3.12"))


def default_folder() -> Path:
    """``leadline/peer-venvs`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leadline" / "peer-venvs"


def ensure(environment: Environment, folder: Path, say: Callable[[str], None]) -> Path:
    """The interpreter of the environment, made first if need be. Raises PeerUnavailable."""
    home = folder / environment.name
    python = home / "bin" / "python"
    wanted = "\n".join(environment.requirements)
    stamp = home / STAMP
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    say(f"making the environment {home}: {', '.join(environment.requirements)}")
    base = _base_python(environment)
    shutil.rmtree(home, ignore_errors=True)
    _run([base, "-m", "venv", str(home)])
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *environment.requirements])
    stamp.write_text(wanted)
    return python


def _base_python(environment: Environment) -> str:
    """Our own interpreter where its version will do, else one of the right version on the path."""
    if f"{sys.version_info.major}.{sys.version_info.minor}" in environment.pythons:
        return sys.executable
    for version in environment.pythons:
        found = shutil.which(f"python{version}")
        if found and _answers(found, version):
            return found
    raise PeerUnavailable(f"{environment.name} needs Python {' or '.join(environment.pythons)}; none is on the path")


def _answers(python: str, version: str) -> bool:
    """Whether this really is that version: version managers leave launchers that only print an error."""
    asked = subprocess.run([python, "--version"], capture_output=True, text=True, check=False)
    return asked.returncode == 0 and asked.stdout.startswith(f"Python {version}.")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise PeerUnavailable(f"{command[0]} ... failed: {lines[-1] if lines else 'no message'}")
