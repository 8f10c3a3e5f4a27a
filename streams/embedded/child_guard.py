"""Runs one command and never outlives the process that asked for it. Started by `streams.embedded.child`, never imported.

    python -I -S child_guard.py [--remove FOLDER] -- COMMAND ARGUMENT...

Standard input is a pipe whose other end the asking process holds and never writes to, so end of file means that it is
gone, also after kill -9. A process that the asker forked may still hold the pipe: a changed parent id says the same.
The first line on standard output is the command's process id. Standard library only: it runs isolated, without
site-packages.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys

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


def guard(command: list[str]) -> tuple[int, bool]:
    """Run the command to its end: its status, and whether it ended because the asker went away or asked for it."""
    asker = os.getppid()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)  # a signal ends the select below at once
    asked_to_stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: asked_to_stop.append(received))
    signal.signal(signal.SIGCHLD, lambda _received, _frame: None)
    # The guard has one thread only, so the "parent thread" of PDEATHSIG is the guard's whole life.
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=2,  # our standard output is a pipe that closes after one line
        close_fds=False,  # what the asker passed on (a file lock) lives as long as the command
        preexec_fn=die_with_guard if sys.platform.startswith("linux") else None,
    )
    print(child.pid, flush=True)
    os.dup2(2, 1)
    gone = False
    while child.poll() is None:
        readable, _, _ = select.select([0, woken], [], [], LOOK_EVERY_S)
        if woken in readable:
            os.read(woken, 64)
        gone = bool(asked_to_stop) or os.getppid() != asker or (0 in readable and not os.read(0, 1))
        if gone:
            end(child)
    return (child.returncode if child.returncode >= 0 else 128 - child.returncode), gone


def main(arguments: list[str]) -> int:
    split = arguments.index("--")
    options, command = arguments[:split], arguments[split + 1 :]
    status, gone = guard(command)
    for folder in options[1:] if gone else ():  # a command that crashed leaves its data, to be started again on them
        shutil.rmtree(folder, ignore_errors=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
