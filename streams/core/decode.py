"""Bytes to events, or to a reason. Nothing raises: bad input is a counted value.

The hot path is one msgspec call and a share of a count of colons. JSON has exactly one colon outside of strings for every key, so
where the colons of the text equal the keys that were decoded there is no duplicate key, no unknown field and no colon in a value;
any other text takes the slow path, which reads it again with the standard library and looks at every key.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from leadline.events import Change, Label, Prediction
from streams.core.alike import Alike
from streams.core.records import Records
from streams.core.shapes import Shape, Shapes
from streams.core.stage import Record

Event = TypeVar("Event", Prediction, Label, Change)
Times = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

LATEST_PLAUSIBLE_S = 32_503_680_000.0  # the year 3000: above it a clock counts in a smaller unit than seconds
UNITS = (
    (1e17, "timestamp_in_nanoseconds"),
    (1e14, "timestamp_in_microseconds"),
    (LATEST_PLAUSIBLE_S, "timestamp_in_milliseconds"),
)
LARGEST_INTEGER = 2**63
CHUNK = 512  # records that are checked together; one bad one among them has them checked one by one
COLON = ord(":")
TICKS_PER_S = 1e6
PLAIN_MAPS = frozenset({"features", "segments"})
FLOAT_MAPS = ("score", "values", "resources")


class Fault(NamedTuple):
    """Why one record was not taken. `reason` is bounded (a metric's label); `detail` is for people."""

    record: Record
    reason: str
    detail: str


@dataclass(slots=True)
class _Run(Generic[Event]):
    """Events that were decoded together; of a shape they have its attributes."""

    events: list[Any]
    shape: Shape | None

    def column(self, name: str) -> Sequence[Any]:
        if self.shape is None:
            return list(map(attrgetter(name), self.events))
        attribute = self.shape.fields.get(name)
        if attribute is None:
            return [None] * len(self.events)
        column = list(map(attrgetter(attribute), self.events))
        names = self.shape.nested.get(name)
        return column if names is None else Alike(names, column)


@dataclass(slots=True)
class Decoded(Generic[Event]):
    """What one batch of one topic says: its events as columns, in order of arrival, and the faults.

    `kept` are the events' places among the records, None for all of them; `times` [n] in epoch seconds, whole microseconds.
    """

    kind: type[Event]
    records: Records
    kept: list[int] | None
    times: Times
    faults: list[Fault]
    _runs: list[_Run[Event]]
    _columns: dict[str, Sequence[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.times)

    def column(self, name: str) -> Sequence[Any]:
        """One field of every event. Maps with the same names come as `Alike`."""
        found = self._columns.get(name)
        if found is None:
            parts = [run.column(name) for run in self._runs]
            found = self._columns[name] = parts[0] if len(parts) == 1 else _concatenated(parts)
        return found

    def event(self, at: int) -> Event:
        """One event whole."""
        return self.kind(**{name: self.column(name)[at] for name in self.kind.__struct_fields__})

    @property
    def offsets(self) -> list[int]:
        """Where each event's message stands in the log."""
        every = self.records.offsets
        return every if self.kept is None else [every[at] for at in self.kept]

    @property
    def places(self) -> Indices:
        """Where each event's record stands in the batch."""
        return np.arange(len(self)) if self.kept is None else np.array(self.kept, dtype=np.int64)

    def record(self, at: int) -> Record:
        """The record of an event."""
        return self.records[at if self.kept is None else self.kept[at]]


def _concatenated(parts: Sequence[Sequence[Any]]) -> Sequence[Any]:
    first = parts[0] if parts else []
    if isinstance(first, Alike) and all(isinstance(part, Alike) and part.names == first.names for part in parts):
        alike = [part for part in parts if isinstance(part, Alike)]
        # The structs of two shapes may differ in their order of fields, never those of equal names.
        return Alike(first.names, list(chain.from_iterable(part.structs for part in alike)))
    return list(chain.from_iterable(parts))


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


class Decoder(Generic[Event]):
    """Decodes records of one kind. Remembers nothing but how the last ones were best read."""

    def __init__(self, kind: type[Event], max_bytes: int = 1_048_576) -> None:
        self._kind: type[Event] = kind
        self._max_bytes = max_bytes
        self._shapes = Shapes(kind)

    def decode(self, records: Sequence[Record], max_future_s: float = 300.0) -> Decoded[Event]:
        """A timestamp further than `max_future_s` past the broker's is a fault."""
        columns = Records.of(records)
        runs: list[_Run[Event]] = []
        times: list[Times] = []
        kept: list[list[int] | range] = []
        faults: list[Fault] = []
        for begin in range(0, len(columns), CHUNK):
            chunk = columns[begin : begin + CHUNK]
            taken = self._whole(chunk, max_future_s)
            if taken is not None:
                run, stamps = taken
                kept.append(range(begin, begin + len(chunk)))
            else:
                run, stamps, places = _each(self._kind, chunk, self._max_bytes, max_future_s, faults)
                kept.append([begin + place for place in places])
            times.append(np.asarray(stamps, dtype=np.float64))
            if runs and runs[-1].shape is run.shape:
                runs[-1].events.extend(run.events)
            else:
                runs.append(run)
        all_kept = not faults
        return Decoded(
            self._kind,
            columns,
            None if all_kept else list(chain.from_iterable(kept)),
            np.rint(np.concatenate([np.empty(0), *times]) * TICKS_PER_S) / TICKS_PER_S,
            faults,
            runs or [_Run([], None)],
        )

    def _whole(self, records: Records, max_future_s: float) -> tuple[_Run[Event], Sequence[float]] | None:
        """Takes a chunk in which nothing is odd; None where a record must be looked at on its own.

        No record can have fewer colons than it has keys, so where the sums over the chunk are equal each record's are.
        """
        raws: list[Any] = records.values
        try:
            text = b"".join(raws)
            if len(text) > self._max_bytes and max(map(len, raws)) > self._max_bytes:
                return None
            shaped = self._shapes.decode(raws)
            events = shaped[1] if shaped is not None else list(map(_decoders[self._kind].decode, raws))
        except (msgspec.DecodeError, TypeError, ValueError, RecursionError):
            return None
        run: _Run[Event] = _Run(events, shaped[0] if shaped is not None else None)
        colons = int(np.count_nonzero(np.frombuffer(text, np.uint8) == COLON))
        escaped = b"\\" in text  # written as escapes (\u003a) a value's colons are not in the text
        spare = colons - _keys_of(run, self._kind)
        if spare and run.shape is not None and not escaped:
            spare -= _colons_in_text(run)
        times = run.column("timestamp")
        if (run.shape is None or not run.shape.stamped) and set(map(type, times)) != {float}:
            if escaped:
                return None
            if run.shape is None:
                spare -= _colons_of(times)
            times = [parse_rfc3339(when) if type(when) is str else when for when in times]
            if None in times:
                return None
        if spare:
            return None
        told = records.timestamps
        if not (min(times) >= 0.0 and max(times) <= min(told) + max_future_s):
            stamps = np.array(times, dtype=np.float64)
            if not ((stamps >= 0.0) & (stamps <= np.array(told) + max_future_s)).all():
                return None
        return run, times


def _keys_of(run: _Run[Any], kind: type[msgspec.Struct]) -> int:
    """The keys of a run's events, those of their maps included; -1 where each literal must be looked at."""
    events, shape = run.events, run.shape
    if shape is not None:
        keys = shape.keys * len(events)
        for attribute in shape.maps:
            keys += sum(map(_map_keys, map(attrgetter(attribute), events)))
        if any(_reaches_integers(map(attrgetter(attribute), events)) for attribute in shape.unknown):
            return -1
        return keys
    fields = kind.__struct_fields__
    keys = len(fields) * len(events)
    for name in fields[-len(kind.__struct_defaults__) :]:
        column = run.column(name)
        empty = column.count(None)
        keys -= empty
        if empty < len(events) and name in PLAIN_MAPS:
            keys += sum(map(len, filter(None, column)))
    return keys + sum(map(_other_keys, events))


def _other_keys(event: Prediction | Label | Change) -> int:
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


def _colons_in_text(run: _Run[Any]) -> int:
    """Colons in the names and values of events of one shape, in which nothing is written as escapes."""
    shape = run.shape
    assert shape is not None
    found = shape.colons_in_names * len(run.events)
    for attribute in shape.texts:
        found += _colons_of(map(attrgetter(attribute), run.events))
    for name in shape.nested:
        rows = run.column(name)
        assert isinstance(rows, Alike)
        found += _colons_of(chain.from_iterable(rows.rows()))
    for attribute in shape.maps:
        for values in map(attrgetter(attribute), run.events):
            found += _colons_of(chain(values, values.values()))
    return found


def _colons_of(values: Iterable[Any]) -> int:
    return "".join([value for value in values if type(value) is str]).count(":")


def _each(
    kind: type[Event], records: Records, max_bytes: int, max_future_s: float, faults: list[Fault]
) -> tuple[_Run[Event], list[float], list[int]]:
    """Takes records one by one and says what is wrong with each that is not taken: events, their times and places."""
    read = _decoders[kind].decode
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
    return _Run(events, None), times, kept


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
