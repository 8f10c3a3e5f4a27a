"""Runs one command and never outlives the process that asked for it. Started by `streams.child`, never imported.

    python -I -S child_guard.py [--remove FOLDER] -- COMMAND ARGUMENT...

Standard input is a pipe whose other end the asking process holds and never writes to, so end of file means that it is
gone, also after kill -9. A process that the asker forked may still hold the pipe: a changed parent id says the same.
The first line on standard output is the command's process id. Standard library only: it runs isolated, without
site-packages.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time

GRACE_S = 8.0  # between SIGTERM and SIGKILL: Redis rewrites or syncs its append-only file in that time
LOOK_EVERY_S = 0.5
PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def end(child: subprocess.Popen[bytes]) -> None:
    """Ask the command to stop; after `GRACE_S` make it."""
    child.terminate()
    try:
        child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def die_with_guard() -> None:
    """In the command, before exec: SIGKILL if the guard itself is killed (Linux alone offers this)."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def guard(command: list[str]) -> int:
    asker = os.getppid()
    on_linux = sys.platform.startswith("linux")
    # The guard has one thread only, so the "parent thread" of PDEATHSIG is the guard's whole life.
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=2,  # our standard output is a pipe that closes after one line
        close_fds=False,  # what the asker passed on (a file lock) lives as long as the command
        preexec_fn=die_with_guard if on_linux else None,
    )
    asked_to_stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: asked_to_stop.append(received))
    print(child.pid, flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the asker reads one line and closes its end
    while child.poll() is None:
        readable, _, _ = select.select([0], [], [], LOOK_EVERY_S)
        gone = os.getppid() != asker or (bool(readable) and not os.read(0, 1))
        if asked_to_stop or gone:
            end(child)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def main(arguments: list[str]) -> int:
    split = arguments.index("--")
    options, command = arguments[:split], arguments[split + 1 :]
    try:
        return guard(command)
    finally:
        for folder in options[1:]:
            deadline = time.monotonic() + GRACE_S
            while os.path.isdir(folder) and time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
