"""Nothing of the demo outlives it: no process, no scratch folder, whether it is asked to stop or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="the demo extra is not installed")

from tests.leadline.cli_log import ROOT
from tests.patience import seconds


def commands_with(words: str) -> list[str]:
    """Command lines of running processes that hold these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if words in line:
            found.append(line)
    return found


def wait_until(true: Callable[[], bool], what: str, bound_s: float = 120.0) -> None:
    until = time.monotonic() + seconds(bound_s)
    while not true():
        assert time.monotonic() < until, what
        time.sleep(0.1)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_demo_that_ends_early_leaves_no_process_and_no_folder(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    scratch = str(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "leadline.cli", "demo"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": scratch},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )
    try:
        wait_until(lambda: len(commands_with(f"{scratch}/leadline-demo-")) >= 2, "worker and delivery did not start")
        process.send_signal(number)
        assert process.wait(seconds(60)) == status
        wait_until(lambda: not commands_with(scratch), "a process is left")
        wait_until(lambda: not list(tmp_path.glob("leadline-*")), "a folder is left")
    finally:
        process.kill()
        process.wait()
