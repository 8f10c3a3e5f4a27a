"""Alerts appended to a file, one JSON object a line: each alert id once, also over restarts and after a kill in
mid-write.
"""

from __future__ import annotations

import errno
import json
import os
from collections import OrderedDict
from io import FileIO
from pathlib import Path
from typing import Literal

from pydantic import Field

from leadline.alert import Alert
from sinks.base import RetryLater, Sink, SinkConfig
from sinks.threads import CallThread

IDS_KEPT = 100_000
OUR_LINE = b'{"schema_version":'


class JsonlConfig(SinkConfig):
    """`kind: jsonl`. The folder is made if it is missing."""

    kind: Literal["jsonl"] = "jsonl"
    path: Path
    fsync: bool = Field(default=False, description="wait for the disk after every alert: survives a power cut")
    tail_bytes: int = Field(default=8 << 20, ge=1024, description="end of the file that is read for ids at the start")

    @property
    def default_name(self) -> str:
        return self.kind

    def build(self) -> Sink:
        return JsonlSink(self)


class JsonlSink:
    """Appends. What the delivery process may repeat is recent, so the ids in the last `tail_bytes` are enough to know a
    repetition.
    """

    def __init__(self, config: JsonlConfig) -> None:
        self.name = config.label
        self._config = config
        self._file: FileIO | None = None
        self._known: OrderedDict[str, None] = OrderedDict()
        self._thread: CallThread | None = None
        self._closed = False

    async def send(self, alert: Alert, /) -> None:
        if self._closed:
            raise RetryLater(None, "closed")
        if self._thread is None:
            self._thread = CallThread(f"sink-{self.name}")
        failure = await self._thread.call(self._append, alert)
        if failure:
            raise RetryLater(None, "io_error", failure)

    async def close(self) -> None:
        self._closed = True
        thread, self._thread = self._thread, None
        if thread is not None:
            try:
                await thread.call(self._shut)
            finally:
                thread.stop()

    def _append(self, alert: Alert) -> str:
        """What went wrong, or nothing. Any `OSError` may pass (disk full, folder not mounted yet), so all are worth
        another try.
        """
        try:
            file = self._file if self._file is not None else self._open()
            if alert.alert_id not in self._known:
                end = os.fstat(file.fileno()).st_size
                try:
                    line = alert.model_dump_json().encode() + b"\n"
                    if file.write(line) != len(line):
                        raise OSError(errno.ENOSPC, "short write")
                    if self._config.fsync:
                        os.fsync(file.fileno())
                except OSError:
                    file.truncate(end)  # half a line on a full disk would spoil the next
                    raise
                self._remember(alert.alert_id)
        except OSError as error:
            self._shut()
            return f"could not append: {type(error).__name__} {error.errno}"
        return ""

    def _open(self) -> FileIO:
        self._config.path.parent.mkdir(parents=True, exist_ok=True)
        file = self._config.path.open("ab+", buffering=0)
        try:
            self._mend_and_read(file)
        except OSError:
            file.close()
            raise
        self._file = file
        return file

    def _mend_and_read(self, file: FileIO) -> None:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - self._config.tail_bytes))
        tail = file.read(self._config.tail_bytes)
        whole, newline, torn = tail.rpartition(b"\n")
        if torn:
            seen_from_its_start = bool(newline) or len(tail) == size
            if seen_from_its_start and torn.startswith(OUR_LINE) and _alert_id(torn) is None:
                file.truncate(size - len(torn))  # killed in mid-write: not acknowledged, so it comes again
                torn = b""
            else:
                file.write(b"\n")
        for line in [*whole.split(b"\n"), torn]:
            if (alert_id := _alert_id(line)) is not None:
                self._remember(alert_id)

    def _remember(self, alert_id: str) -> None:
        self._known[alert_id] = None
        self._known.move_to_end(alert_id)
        if len(self._known) > IDS_KEPT:
            self._known.popitem(last=False)

    def _shut(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError:
                pass  # nothing is buffered: what was acknowledged has been handed to the system


def _alert_id(line: bytes) -> str | None:
    try:
        value = json.loads(line)["alert_id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None  # cut at the front of the tail, or not ours
    return value if isinstance(value, str) else None
