"""A TCP proxy that can be moved to another server, delayed, cut and frozen, while its clients keep one address."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any

HOST = "127.0.0.1"
CHUNK = 1 << 16


class Proxy:
    """Forwards `port` to `target`, in a thread with an event loop of its own. Methods may be called from any thread."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.delay_s = 0.0  # one way, for every piece of what goes through
        self._refusing = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server: asyncio.Server = self._run(lambda: asyncio.start_server(self._serve, HOST, 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def move(self, target: int) -> None:
        """New connections go to another port; those of now are cut."""
        self.target = target
        self.cut()

    def cut(self) -> None:
        """End every connection of now."""
        self._run(self._cut)

    def refuse(self, refusing: bool = True) -> None:
        """Let nobody in, and cut who is; or let them in again."""
        self._refusing = refusing
        if refusing:
            self.cut()

    def freeze(self) -> None:
        """Connections stay and nothing goes through."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def thaw(self) -> None:
        self._loop.call_soon_threadsafe(self._flowing.set)

    def close(self) -> None:
        """End for good. Safe to call twice."""
        if self._thread.is_alive():
            self.refuse()
            self._run(self._close)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
            self._loop.close()

    def _run(self, what: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return asyncio.run_coroutine_threadsafe(what(), self._loop).result(10)

    async def _cut(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _close(self) -> None:
        self._server.close()
        self._flowing.set()
        await self._cut()
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            if self._refusing:
                writer.transport.abort()
                return
            try:
                there, back = await asyncio.open_connection(HOST, self.target)
            except OSError:
                writer.transport.abort()
                return
            self._open |= {writer, back}
            try:
                await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
            finally:
                self._open -= {writer, back}

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(CHUNK):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._flowing.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            with contextlib.suppress(OSError, RuntimeError):
                sink.close()
