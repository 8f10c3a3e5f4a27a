"""Blocking calls in a thread of their own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from sinks.threads import CallThread


def test_calls_run_in_order_in_one_thread_and_errors_come_back() -> None:
    async def scene() -> None:
        thread = CallThread("test")
        seen: list[int] = []

        def note(number: int) -> str:
            seen.append(number)
            return threading.current_thread().name

        names = await asyncio.gather(*(thread.call(note, n) for n in range(50)))
        assert set(names) == {"test"}
        assert seen == list(range(50))
        with pytest.raises(ZeroDivisionError):
            await thread.call(lambda: 1 / 0)
        assert await thread.call(note, 50) == "test"
        thread.stop()

    asyncio.run(scene())


def test_a_call_cancelled_before_its_turn_does_not_run() -> None:
    async def scene() -> None:
        thread = CallThread("test")
        gate = threading.Event()
        ran: list[int] = []
        first = asyncio.ensure_future(thread.call(gate.wait))
        second = asyncio.ensure_future(thread.call(ran.append, 1))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        gate.set()
        await first
        await thread.call(lambda: None)
        assert ran == []
        thread.stop()

    asyncio.run(scene())


def test_a_call_that_hangs_does_not_keep_the_process_alive() -> None:
    script = """
import asyncio, threading
from sinks.threads import CallThread
async def main():
    try:
        await asyncio.wait_for(CallThread("hangs").call(threading.Event().wait), 0.05)
    except TimeoutError:
        print("left")
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "left\n"
