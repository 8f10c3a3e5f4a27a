"""Run one peer in a process of its own and read its JSON lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.peers.protocol import Spec

ROOT = Path(__file__).resolve().parents[2]


class PeerFailed(Exception):
    """A peer ended without a result, or hung; the text carries the end of what it said."""


def run(
    python: str | Path, module: str, spec: Spec, progress: Callable[[int], None], timeout_s: float
) -> dict[str, Any]:
    """Run ``python -m module`` with ``spec``; returns its result. Raises PeerFailed.

    The peer gets a process group of its own, so that nothing it starts survives it.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [str(python), "-m", module, msgspec.json.encode(spec).decode()],
            cwd=spec.scratch,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        late = threading.Timer(timeout_s, _kill, [process])
        late.start()
        try:
            result = _read(process, progress)
            process.wait()
        finally:
            late.cancel()
            _kill(process)
            process.wait()
        if result is None:
            errors.seek(0)
            said = errors.read()[-1500:]
            raise PeerFailed(f"{module} ({spec.variant}) ended with status {process.returncode}, no result:\n{said}")
    return result


def _read(process: subprocess.Popen[str], progress: Callable[[int], None]) -> dict[str, Any] | None:
    result: dict[str, Any] | None = None
    assert process.stdout is not None
    for line in process.stdout:
        # Engines print banners to standard output; only our own lines are JSON objects.
        if not line.startswith("{"):
            continue
        message = json.loads(line)
        if "counted" in message:
            progress(message["counted"])
        result = message.get("result", result)
    return result


def _kill(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
