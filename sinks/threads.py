"""A thread that makes blocking calls in order, for clients and files that would otherwise hold up the event loop.

A daemon, unlike the loop's default executor: a terminal that is stopped, a hanging disk or a broker that does not
answer must not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class CallThread:
    """`await call(f, ...)` runs `f` in the thread. A cancelled call that has begun runs to its end, unheard."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def succeed(result: T) -> None:
            if not answer.done():
                answer.set_result(result)

        def fail(error: BaseException) -> None:
            if not answer.done():
                answer.set_exception(error)

        def work() -> None:
            if answer.cancelled():
                return
            try:
                settle = partial(succeed, function(*args, **kwargs))
            except BaseException as error:  # whatever it is, it belongs to the caller, not to this thread
                settle = partial(fail, error)
            try:
                loop.call_soon_threadsafe(settle)
            except RuntimeError:
                pass  # the loop is closed: nobody waits any more

        self._calls.put(work)
        return await answer

    def stop(self) -> None:
        """End the thread after the calls that wait; does not wait for it."""
        self._calls.put(None)

    def _run(self) -> None:
        while (work := self._calls.get()) is not None:
            work()
