"""Bytes to events, or to a reason. Nothing raises: bad input is a counted value.

The hot path is one msgspec call and a share of a count of colons (`colons.py`), a chunk of records at a time; a chunk in which something is
odd takes the slow path (`one_by_one.py`), which says of each record what is wrong with it (`what_is_wrong.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from operator import attrgetter
from struct import error as StructError
from struct import pack
from typing import Any, Generic

import msgspec
import numpy as np

from leadline.events import Prediction
from streams.core.colons import colons_in, colons_in_text, colons_of, keys_of, keys_of_shape
from streams.core.decoded import DECODERS, Column, Decoded, Event, Fault, Floats, Part
from streams.core.one_by_one import one_by_one
from streams.core.records import Records
from streams.core.request_keys import request_keys
from streams.core.rfc3339 import parse_rfc3339
from streams.core.shapes import Shape, Shapes
from streams.core.stage import Record
from streams.core.table import Table
from streams.core.whose import Indices, Whose

CHUNK = 512  # records that are checked together, and turned into columns while they are in the cache
MOST_WHO = 200_000
TICKS_PER_S = 1e6
WHO = ("model_id", "model_version", "stage", "segments")
APART = frozenset({"request_id", "timestamp", *WHO})
"""Fields of a prediction that are no columns of their own."""


class Decoder(Generic[Event]):
    """Decodes records of one kind. Remembers how the last ones were best read, and whose events there are."""

    def __init__(self, kind: type[Event], max_bytes: int = 1_048_576) -> None:
        self._kind: type[Event] = kind
        self._max_bytes = max_bytes
        self._shapes = Shapes(kind)
        self._whose = Whose()

    def decode(self, records: Sequence[Record], max_future_s: float = 300.0) -> Decoded[Event]:
        """A timestamp further than `max_future_s` past the broker's is a fault."""
        columns = Records.of(records)
        if len(self._whose) > MOST_WHO:
            self._whose = Whose()
        parts: list[Part] = []
        faults: list[Fault] = []
        for begin in range(0, len(columns), CHUNK):
            end = min(begin + CHUNK, len(columns))
            values, told = columns.values[begin:end], columns.timestamps[begin:end]
            part = self._whole(values, told, begin, max_future_s)
            if part is None:
                events, times, places = one_by_one(
                    self._kind, columns[begin:end], self._max_bytes, max_future_s, faults
                )
                part = self._of_events(events, [begin + place for place in places], times)
            parts.append(part)
        return Decoded.of(self._kind, columns, faults, self._whose, parts)

    def _whole(self, raws: list[Any], told: list[float], begin: int, max_future_s: float) -> Part | None:
        """Takes a chunk in which nothing is odd; None where a record must be looked at on its own.

        No record can have fewer colons than it has keys, so where the sums over the chunk are equal each record's are.
        """
        try:
            text = b"".join(raws)
            if len(text) > self._max_bytes and max(map(len, raws)) > self._max_bytes:
                return None
            shaped = self._shapes.decode(raws)
            shape, events = shaped or (None, list(map(DECODERS[self._kind].decode, raws)))
        except (msgspec.DecodeError, TypeError, ValueError, RecursionError):
            return None
        escaped = b"\\" in text  # written as escapes (\u003a) a value's colons are not in the text
        spare = colons_in(text)
        spare -= keys_of(events, self._kind) if shape is None else keys_of_shape(events, shape)
        if spare and shape is not None and not escaped:
            spare -= colons_in_text(events, shape)
        times: Any = list(map(attrgetter("timestamp" if shape is None else shape.fields["timestamp"]), events))
        if (shape is None or not shape.stamped) and set(map(type, times)) != {float}:
            if escaped:
                return None
            if shape is None:
                spare -= colons_of(times)
            times = [parse_rfc3339(when) if type(when) is str else when for when in times]
            if None in times:
                return None
        if spare:
            return None
        if not (min(times) >= 0.0 and max(times) <= min(told) + max_future_s):
            stamps = np.array(times, dtype=np.float64)
            if not ((stamps >= 0.0) & (stamps <= np.array(told) + max_future_s)).all():
                return None
        places = range(begin, begin + len(raws))
        return self._of_events(events, places, times) if shape is None else self._of_shape(events, shape, places, times)

    def _of_events(self, events: Sequence[Any], places: Sequence[int], times: Sequence[float]) -> Part:
        fields = self._kind.__struct_fields__
        columns: dict[str, Column] = {}
        who: Iterable[tuple[object, ...]] = ()
        keys: list[bytes] = []
        if events:
            given = dict(zip(fields, zip(*map(msgspec.structs.astuple, events), strict=True), strict=True))
            if "request_id" in given:
                keys = request_keys(given["request_id"])
            if self._kind is Prediction:
                who = [
                    (tuple(parts), model, version, stage, tuple(parts.values()))
                    if parts
                    else ((), model, version, stage, ())
                    for model, version, stage, parts in zip(*(given[name] for name in WHO), strict=True)
                ]
            columns = {
                name: list(column)
                for name, column in given.items()
                if name not in APART and any(map(_is_given, column))
            }
        return Part(places, _whole_ticks(times), keys, self._whose.numbers(who), columns)

    def _of_shape(self, events: Sequence[Any], shape: Shape, places: Sequence[int], times: Sequence[float]) -> Part:
        def column(name: str) -> list[Any]:
            return list(map(attrgetter(shape.fields[name]), events))

        columns: dict[str, Column] = {}
        for name in shape.fields:
            if name in APART:
                continue
            if name == "features" and name in shape.nested:
                columns[name] = _table(column(name), shape)
            elif name == "score" and shape.scored:
                columns[name] = np.array(column(name), dtype=np.float64)
            else:
                columns[name] = column(name)
        keys = request_keys(column("request_id")) if "request_id" in shape.fields else []
        who = self._who_of_shape(column, shape) if self._kind is Prediction else np.empty(0, np.int64)
        return Part(places, _whole_ticks(times), keys, who, columns)

    def _who_of_shape(self, column: Callable[[str], list[Any]], shape: Shape) -> Indices:
        stages: Iterable[Any] = column("stage") if "stage" in shape.fields else repeat(None)
        names = shape.nested.get("segments", ())
        values: Iterable[Any] = map(msgspec.structs.astuple, column("segments")) if names else repeat(())
        return self._whose.numbers(
            zip(repeat(names), column("model_id"), column("model_version"), stages, values, strict=False)
        )


def _is_given(value: object) -> bool:
    return value is not None


def _whole_ticks(times: Sequence[float]) -> Floats:
    return np.asarray(np.rint(np.array(times, dtype=np.float64) * TICKS_PER_S) / TICKS_PER_S)


def _table(structs: Sequence[Any], shape: Shape) -> Table:
    """Features of a chunk as columns. Numbers are packed as they are; where a null is among them they take the longer way."""
    names = shape.nested["features"]
    numeric = tuple(name for name, number in zip(names, shape.numbers, strict=True) if number)
    attributes = [f"f{at}" for at, number in enumerate(shape.numbers) if number]
    if len(numeric) == len(names):
        flat = list(chain.from_iterable(map(msgspec.structs.astuple, structs)))
    elif len(attributes) > 1:
        flat = list(chain.from_iterable(map(attrgetter(*attributes), structs)))
    else:
        flat = list(map(attrgetter(attributes[0]), structs)) if attributes else []
    try:
        matrix = np.frombuffer(pack(f"{len(flat)}d", *flat), dtype=np.float64)
    except StructError:
        matrix = np.array(flat, dtype=np.float64)
    others = {
        name: list(map(attrgetter(f"f{at}"), structs))
        for at, (name, number) in enumerate(zip(names, shape.numbers, strict=True))
        if not number
    }
    return Table(names, numeric, matrix.reshape(len(structs), len(numeric)), others)
