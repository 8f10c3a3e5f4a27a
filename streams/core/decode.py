"""Bytes to events, or to a reason. Nothing raises: bad input is a counted value.

The hot path is one msgspec call and a share of a count of colons. JSON has exactly one colon outside of strings for every key, so
where the colons of the text equal the keys that were decoded there is no duplicate key, no unknown field and no colon in a value;
any other text takes the slow path, which reads it again with the standard library and looks at every key.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain, repeat
from operator import attrgetter
from struct import error as StructError
from struct import pack
from typing import Any, Generic

import msgspec
import numpy as np

from leadline.events import Prediction
from streams.core.decoded import DECODERS, Column, Decoded, Event, Fault, Floats, Part
from streams.core.records import Records
from streams.core.request_keys import request_keys
from streams.core.shapes import Shape, Shapes
from streams.core.stage import Record
from streams.core.table import Table
from streams.core.whose import Indices, Whose

LATEST_PLAUSIBLE_S = 32_503_680_000.0  # the year 3000: above it a clock counts in a smaller unit than seconds
UNITS = (
    (1e17, "timestamp_in_nanoseconds"),
    (1e14, "timestamp_in_microseconds"),
    (LATEST_PLAUSIBLE_S, "timestamp_in_milliseconds"),
)
LARGEST_INTEGER = 2**63
CHUNK = 512  # records that are checked together, and turned into columns while they are in the cache
MOST_WHO = 200_000
COLON = ord(":")
TICKS_PER_S = 1e6
PLAIN_MAPS = frozenset({"features", "segments"})
FLOAT_MAPS = ("score", "values", "resources")
WHO = ("model_id", "model_version", "stage", "segments")
APART = frozenset({"request_id", "timestamp", *WHO})
"""Fields of a prediction that are no columns of their own."""
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)")


class _DuplicateKey(ValueError):
    pass


class _NotFinite(ValueError):
    pass


class _TooLarge(ValueError):
    pass


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
                events, times, places = _each(self._kind, columns[begin:end], self._max_bytes, max_future_s, faults)
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
        spare = int(np.count_nonzero(np.frombuffer(text, np.uint8) == COLON))
        spare -= _keys_of(events, self._kind) if shape is None else _keys_of_shape(events, shape)
        if spare and shape is not None and not escaped:
            spare -= _colons_in_text(events, shape)
        times: Any = list(map(attrgetter("timestamp" if shape is None else shape.fields["timestamp"]), events))
        if (shape is None or not shape.stamped) and set(map(type, times)) != {float}:
            if escaped:
                return None
            if shape is None:
                spare -= _colons_of(times)
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


def _keys_of_shape(events: Sequence[Any], shape: Shape) -> int:
    """The keys of events of one shape, those of their maps included; -1 where each literal must be looked at."""
    keys = shape.keys * len(events)
    for attribute in shape.maps:
        keys += sum(map(_map_keys, map(attrgetter(attribute), events)))
    if any(_reaches_integers(map(attrgetter(attribute), events)) for attribute in shape.unknown):
        return -1
    return keys


def _keys_of(events: Sequence[Any], kind: type[msgspec.Struct]) -> int:
    """The keys of any events."""
    fields = kind.__struct_fields__
    keys = len(fields) * len(events)
    for name in fields[-len(kind.__struct_defaults__) :]:
        column = list(map(attrgetter(name), events))
        empty = column.count(None)
        keys -= empty
        if empty < len(events) and name in PLAIN_MAPS:
            keys += sum(map(len, filter(None, column)))
    return keys + sum(map(_other_keys, events))


def _other_keys(event: msgspec.Struct) -> int:
    """The keys of an event's maps of numbers; none where a number is so large that its literal must be seen."""
    maps = [value for name in FLOAT_MAPS if type(value := getattr(event, name, None)) is dict]
    if not maps:
        return 0
    numbers = [number for values in (*maps, getattr(event, "features", None) or {}) for number in values.values()]
    if any(type(number) is float and not -LARGEST_INTEGER < number < LARGEST_INTEGER for number in numbers):
        return 0
    return sum(map(len, maps))


def _map_keys(values: Mapping[str, Any]) -> int:
    """The keys of a map; none where a number is so large that its literal must be seen."""
    return 0 if _reaches_integers(values.values()) else len(values)


def _reaches_integers(values: Iterable[Any]) -> bool:
    """Whether one of them is a number of 2**63 or more, on either side of zero."""
    return any(type(value) is float and not -LARGEST_INTEGER < value < LARGEST_INTEGER for value in values)


def _colons_in_text(events: Sequence[Any], shape: Shape) -> int:
    """Colons in the names and values of events of one shape, in which nothing is written as escapes."""
    found = shape.colons_in_names * len(events)
    for attribute in shape.texts:
        found += _colons_of(map(attrgetter(attribute), events))
    for name in shape.nested:
        structs = map(attrgetter(shape.fields[name]), events)
        found += _colons_of(chain.from_iterable(map(msgspec.structs.astuple, structs)))
    for attribute in shape.maps:
        for values in map(attrgetter(attribute), events):
            found += _colons_of(chain(values, values.values()))
    return found


def _colons_of(values: Iterable[Any]) -> int:
    return "".join([value for value in values if type(value) is str]).count(":")


def _each(
    kind: type[Event], records: Records, max_bytes: int, max_future_s: float, faults: list[Fault]
) -> tuple[list[Event], list[float], list[int]]:
    """Takes records one by one and says what is wrong with each that is not taken: events, their times and places."""
    read = DECODERS[kind].decode
    fields = kind.__struct_fields__
    events: list[Event] = []
    kept: list[int] = []
    times: list[float] = []
    for place, record in enumerate(records):
        raw = record.value
        if raw is None:
            faults.append(Fault(record, "tombstone", "a message without a value"))
            continue
        if len(raw) > max_bytes:
            faults.append(
                Fault(record, "oversized", f"{len(raw)} bytes, more than kafka.max_message_bytes = {max_bytes}")
            )
            continue
        try:
            event = read(raw)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            faults.append(_explain(record, raw, error))
            continue
        when = event.timestamp
        spare = raw.count(b":")
        for name, value in zip(fields, msgspec.structs.astuple(event), strict=True):
            if value is not None:
                spare -= 1
                if name in PLAIN_MAPS:
                    spare -= len(value)
        if spare:
            spare -= _other_keys(event)
        if type(when) is str:
            # Written as escapes (\u003a) its colons are not in the text: a duplicate key could hide behind them.
            spare = 1 if b"\\" in raw else spare - when.count(":")
            seconds = parse_rfc3339(when)
            if seconds is None:
                faults.append(
                    Fault(
                        record,
                        "timestamp_unreadable",
                        f"{when[:64]!r} is neither epoch seconds nor RFC 3339 with an offset",
                    )
                )
                continue
            when = seconds
        if spare:
            fault = _look_closely(record, raw)
            if fault is not None:
                faults.append(fault)
                continue
        if not 0.0 <= when <= record.timestamp + max_future_s:
            faults.append(_clock_fault(record, when))
            continue
        events.append(event)
        kept.append(place)
        times.append(when)
    return events, times, kept


def parse_rfc3339(text: str) -> float | None:
    """Epoch seconds, or None. An offset is required: a local time says nothing."""
    if not _RFC3339.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError):
        return None


def _clock_fault(record: Record, when: float) -> Fault:
    for limit, reason in UNITS:
        if when >= limit:
            return Fault(record, reason, f"{when:.0f} cannot be seconds; publish epoch seconds or RFC 3339")
    if when < 0:
        return Fault(record, "timestamp_negative", f"{when} lies before 1970")
    ahead = when - record.timestamp
    return Fault(record, "timestamp_in_future", f"{ahead:.0f} s ahead of the broker's clock; join.max_future bounds it")


def too_large_integers(records: Sequence[Record]) -> list[Fault | None]:
    """For events whose numbers reach 2**63: a fault where the text holds an integer literal of that size, None for a float such as 1e20."""
    return [_look_closely(record, record.value or b"") for record in records]


def _look_closely(record: Record, raw: bytes) -> Fault | None:
    """Reads the text again with every key and number in view. None: nothing is wrong with it."""
    try:
        json.loads(raw, object_pairs_hook=_unique, parse_constant=_constant, parse_int=_integer, parse_float=_finite)
    except _DuplicateKey as error:
        return Fault(record, "duplicate_key", f"the key {str(error)[:64]!r} stands twice in one object")
    except _NotFinite as error:
        return Fault(record, "not_finite", f"{str(error)[:32]} is no finite number")
    except _TooLarge as error:
        return Fault(record, "integer_too_large", f"an integer of {error} digits does not fit 64 bits")
    except RecursionError:
        return Fault(record, "too_deep", "nested too deeply")
    except ValueError as error:
        return Fault(record, "malformed_json", str(error)[:200])
    return None


def _explain(record: Record, raw: bytes, error: Exception) -> Fault:
    """Names the reason of a text that msgspec refused."""
    if isinstance(error, RecursionError):
        return Fault(record, "too_deep", "nested too deeply")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as fault:
        return Fault(record, "invalid_utf8", f"byte {fault.start}: {fault.reason}")
    text = str(error)
    if "surrogate" in text:
        return Fault(record, "lone_surrogate", text[:200])
    closer = _look_closely(record, raw)
    if closer is not None:
        return closer
    if not isinstance(error, msgspec.ValidationError):
        return Fault(record, "malformed_json", text[:200])
    if text.startswith("Expected `object`, got") and "`$." not in text:
        return Fault(record, "not_an_object", text[:200])
    if "missing required field" in text:
        return Fault(record, "missing_field", text[:200])
    if "`str` of length" in text:
        return Fault(record, "empty_id" if ">= 1" in text else "wrong_type", text[:200])
    return Fault(record, "wrong_type", text[:200])


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _DuplicateKey(key)
            seen.add(key)
    return found


def _constant(text: str) -> float:
    raise _NotFinite(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _NotFinite(text)
    return number


def _integer(text: str) -> int:
    if len(text) > 20 or abs(int(text)) >= LARGEST_INTEGER:
        raise _TooLarge(str(len(text.lstrip("-"))))
    return int(text)
