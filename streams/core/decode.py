"""Bytes to events, or to a reason. Nothing raises: bad input is a counted value.

The hot path is one msgspec call and a share of a count of colons. JSON has exactly one colon outside of strings for every key, so
where the colons of the text equal the keys that were decoded there is no duplicate key, no unknown field and no colon in a value;
any other text takes the slow path, which reads it again with the standard library and looks at every key.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
import numpy as np

from leadline.events import Change, Label, Prediction
from streams.core.stage import Record

Event = TypeVar("Event", Prediction, Label, Change)

LATEST_PLAUSIBLE_S = 32_503_680_000.0  # the year 3000: above it a clock counts in a smaller unit than seconds
UNITS = (
    (1e17, "timestamp_in_nanoseconds"),
    (1e14, "timestamp_in_microseconds"),
    (LATEST_PLAUSIBLE_S, "timestamp_in_milliseconds"),
)
LARGEST_INTEGER = 2**63
CHUNK = 512  # records that are checked together; one bad one among them has them checked one by one
COLON = ord(":")
PLAIN_MAPS = frozenset({"features", "segments"})
FLOAT_MAPS = ("score", "values", "resources")


class Fault(NamedTuple):
    """Why one record was not taken. `reason` is bounded (a metric's label); `detail` is for people."""

    record: Record
    reason: str
    detail: str


class Decoded(NamedTuple, Generic[Event]):
    """Events with their records and times (epoch seconds), and the faults, each in order of arrival.

    `columns` are the events' fields by name: a batch is worked on by columns.
    """

    events: list[Event]
    records: list[Record]
    times: list[float]
    faults: list[Fault]
    columns: dict[str, list[Any]]


_decoders: dict[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (Prediction, Label, Change)
}
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)")


class _DuplicateKey(ValueError):
    pass


class _NotFinite(ValueError):
    pass


class _TooLarge(ValueError):
    pass


def decode(
    kind: type[Event], records: Sequence[Record], *, max_bytes: int = 1_048_576, max_future_s: float = 300.0
) -> Decoded[Event]:
    """Decodes records of one topic. A timestamp further than `max_future_s` past the broker's is a fault."""
    result: Decoded[Event] = Decoded([], [], [], [], {name: [] for name in kind.__struct_fields__})
    for begin in range(0, len(records), CHUNK):
        chunk = records[begin : begin + CHUNK]
        if not _take_whole(kind, chunk, max_bytes, max_future_s, result):
            _take_each(kind, chunk, max_bytes, max_future_s, result)
    return result


def _take_whole(
    kind: type[Event], records: Sequence[Record], max_bytes: int, max_future_s: float, result: Decoded[Event]
) -> bool:
    """Takes a chunk in which nothing is odd; False, and nothing taken, where a record must be looked at on its own.

    No record can have fewer colons than it has keys, so where the sums over the chunk are equal each record's are.
    """
    try:
        raws: list[bytes] = [record.value for record in records]  # type: ignore[misc]
        text = b"".join(raws)
        if len(text) > max_bytes and max(map(len, raws)) > max_bytes:
            return False
        events = list(map(_decoders[kind].decode, raws))
    except (msgspec.DecodeError, TypeError, ValueError, RecursionError):
        return False
    fields = kind.__struct_fields__
    columns = dict(zip(fields, zip(*map(msgspec.structs.astuple, events), strict=True), strict=True))
    spare = int(np.count_nonzero(np.frombuffer(text, np.uint8) == COLON)) - len(fields) * len(events)
    for name in fields[-len(kind.__struct_defaults__) :]:
        empty = columns[name].count(None)
        spare += empty
        if empty < len(events) and name in PLAIN_MAPS:
            spare -= sum(map(len, filter(None, columns[name])))
    if spare:
        spare -= sum(map(_other_keys, events))
    times: Sequence[Any] = columns["timestamp"]
    if set(map(type, times)) != {float}:
        if b"\\" in text:  # written as escapes a timestamp's colons are not in the text
            return False
        spare -= sum(when.count(":") for when in times if type(when) is str)
        times = [parse_rfc3339(when) if type(when) is str else when for when in times]
        if None in times:
            return False
    if spare:
        return False
    told = [record.timestamp for record in records]
    if not (min(times) >= 0.0 and max(times) <= min(told) + max_future_s):
        stamps = np.array(times, dtype=np.float64)
        if not ((stamps >= 0.0) & (stamps <= np.array(told) + max_future_s)).all():
            return False
    result.events.extend(events)
    result.records.extend(records)
    result.times.extend(times)
    for name, column in columns.items():
        result.columns[name].extend(column)
    return True


def _other_keys(event: Prediction | Label | Change) -> int:
    """The keys of an event's maps of numbers; none where a number is so large that its literal must be seen."""
    maps = [value for name in FLOAT_MAPS if type(value := getattr(event, name, None)) is dict]
    if not maps:
        return 0
    numbers = [number for values in (*maps, getattr(event, "features", None) or {}) for number in values.values()]
    if any(type(number) is float and not -LARGEST_INTEGER < number < LARGEST_INTEGER for number in numbers):
        return 0
    return sum(map(len, maps))


def _take_each(
    kind: type[Event], records: Sequence[Record], max_bytes: int, max_future_s: float, result: Decoded[Event]
) -> None:
    """Takes records one by one and says what is wrong with each that is not taken."""
    read = _decoders[kind].decode
    fields = kind.__struct_fields__
    events, kept, times, faults, columns = result
    before = len(events)
    for record in records:
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
        kept.append(record)
        times.append(when)
    for name in fields:
        columns[name] += [getattr(event, name) for event in events[before:]]


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
