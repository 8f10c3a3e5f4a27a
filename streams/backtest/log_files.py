"""Recorded logs: JSON Lines (plain or gz) or Parquet of events, merged in order of arrival."""

from __future__ import annotations

import gzip
import math
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from streams.core.rfc3339 import parse_rfc3339
from streams.core.stage import Record

MAX_STEP_S = 3600.0  # a line this much later than one of the next two has a stamp that is wrong
LOOK_AHEAD = 3
GZIP_MAGIC = b"\x1f\x8b"
PARQUET_MAGIC = b"PAR1"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # what some editors put before UTF-8; no part of the first event


class LogError(Exception):
    """A log file cannot be read. The text says which and what is accepted."""


class _NoEvent(TypeError):
    """A value that JSON does not know."""


class Arrived(NamedTuple):
    """One line of a log: when it arrived (None where nothing says so) and the record. Offsets count lines, blank ones too."""

    at: float | None
    record: Record


class _Stamp(msgspec.Struct):
    arrived_at: float | str | None = None
    timestamp: float | str | None = None


_stamps = msgspec.json.Decoder(_Stamp)


def read_log(path: Path, now: float, progress: Callable[[int], None] | None = None) -> Iterator[Arrived]:
    """Lines in file order. `progress` is told how many bytes of the file have been read since its last call.

    Where no `arrived_at` says when an event came, `now` (epoch seconds) stands for the broker's clock: a stamp past it is rejected.
    """
    if not path.exists():
        raise LogError(f"{path} does not exist; give JSON Lines (.jsonl, .jsonl.gz) or Parquet")
    if path.suffix in {".csv", ".xlsx"}:
        raise LogError(f"{path} is a table; give JSON Lines (.jsonl, .jsonl.gz) or Parquet, an event a line")
    told = False
    for offset, line in _events(path, progress):
        arrived, stamp = _when(line)
        if arrived is not None:
            told = True
            yield Arrived(arrived, Record(offset, None, line, arrived))
        else:
            # A stamp that cannot be right says nothing about the order of arrival either; nor does one among times of arrival.
            usable = stamp is not None and stamp <= now and not told
            yield Arrived(stamp if usable else None, Record(offset, None, line, now))


def first_event(path: Path) -> bytes | None:
    """The first line that is not blank, or the first row as JSON; None of a file without any."""
    return next((line for _, line in _events(path, None)), None)


def _events(path: Path, progress: Callable[[int], None] | None) -> Iterator[tuple[int, bytes]]:
    """Asked of the first bytes, not of the name: a file may be called anything."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(PARQUET_MAGIC))
    except OSError as error:
        raise LogError(f"{path} cannot be read: {error.strerror or error}") from None
    if magic == PARQUET_MAGIC or path.suffix in {".parquet", ".pq"}:
        return _parquet(path, progress)
    return _lines(path, progress)


def _lines(path: Path, progress: Callable[[int], None] | None) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank with their numbers, from 0; of a gz file or a plain one, by its first bytes."""
    try:
        with ExitStack() as stack:
            raw = stack.enter_context(path.open("rb"))
            packed = raw.read(len(GZIP_MAGIC)) == GZIP_MAGIC
            raw.seek(0)
            stream: Iterable[bytes] = stack.enter_context(gzip.GzipFile(fileobj=raw)) if packed else raw
            told = 0
            for number, line in enumerate(stream):
                text = line.removeprefix(BYTE_ORDER_MARK).strip() if number == 0 else line.strip()
                if text:
                    yield number, text
                if progress is not None and number % 2048 == 0:
                    here = raw.tell()
                    progress(here - told)
                    told = here
            if progress is not None:
                progress(raw.tell() - told)
    except (OSError, EOFError, zlib.error) as error:
        raise LogError(f"{path} cannot be read: {error}") from None


def _parquet(path: Path, progress: Callable[[int], None] | None) -> Iterator[tuple[int, bytes]]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise LogError(
            f"{path} is Parquet: install it with `pip install 'leadline[parquet]'`, or give JSON Lines"
        ) from None
    encode = msgspec.json.Encoder(enc_hook=_plain).encode
    number = told = 0
    try:
        with parquet.ParquetFile(path) as file:
            size, rows = path.stat().st_size, max(file.metadata.num_rows, 1)
            for batch in file.iter_batches(batch_size=4096):
                for row in batch.to_pylist():
                    yield number, encode({name: _clean(value) for name, value in row.items() if value is not None})
                    number += 1
                if progress is not None:
                    here = size * number // rows
                    progress(here - told)
                    told = here
    except (OSError, ValueError, pyarrow.ArrowException, _NoEvent) as error:
        raise LogError(f"{path} cannot be read: {error}") from None


def _clean(value: Any) -> Any:
    """Parquet has maps as lists of pairs, and NaN for what JSON calls null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _clean(item) for name, item in value.items()}
    if isinstance(value, list) and value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
        return {name: _clean(item) for name, item in value}
    return value


def _plain(value: Any) -> Any:
    if hasattr(value, "timestamp"):
        return value.timestamp()
    raise _NoEvent(f"row values of type {type(value).__name__} are no part of an event")


def _when(line: bytes) -> tuple[float | None, float | None]:
    try:
        stamp = _stamps.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, None
    return _seconds(stamp.arrived_at), _seconds(stamp.timestamp)


def _seconds(value: float | str | None) -> float | None:
    return parse_rfc3339(value) if isinstance(value, str) else value


def merge(predictions: Iterator[Arrived], labels: Iterator[Arrived]) -> Iterator[tuple[str, Record]]:
    """Both files in order of arrival. Order within a file is file order: a line whose time is unknown, or lies before the last one's,
    arrives with the line before it. So does one whose time is far past that of the lines after it: a single stamp that is wrong
    must not hold back the rest of its file."""
    left, right = _monotone(predictions), _monotone(labels)
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] <= other[0]):
            assert one is not None
            yield "predictions", one[1]
            one = next(left, None)
        else:
            yield "labels", other[1]
            other = next(right, None)


def _monotone(lines: Iterator[Arrived]) -> Iterator[tuple[float, Record]]:
    last = -math.inf
    ahead = deque(islice(lines, LOOK_AHEAD))
    while ahead:
        times = [line.at for line in ahead if line.at is not None and math.isfinite(line.at)]
        line = ahead.popleft()
        if line.at is not None and math.isfinite(line.at):
            last = max(last, line.at if line.at <= min(times) + MAX_STEP_S else min(times))
        yield last, line.record
        ahead.extend(islice(lines, 1))
