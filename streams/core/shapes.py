"""Decoders made for the keys that events happen to have.

Most producers send the same keys in every event. A struct with just these fields, features and segments structs of their own, is
decoded in two thirds of the time of maps, is kept in a third of their memory, and says at once whether an event is of that shape: a key
more or less is an error of the decoder, and then the general one is asked.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from leadline.events import FeatureValue

MOST_SHAPES = 64
LONGEST_PAUSE = 64  # chunks for which nothing is tried again
LARGEST_SHAPE = 2_000  # keys
NESTED: dict[str, Any] = {"features": FeatureValue, "segments": str}
"""Maps that become structs, and the type of their values."""
MAPS: dict[str, Any] = {
    "score": dict[str, float],
    "values": dict[str, float],
    "resources": dict[str, float],
    "runtime": dict[str, str],
    "context": dict[str, FeatureValue],
}
"""Maps that stay maps, and their type: their keys are counted, event by event."""


class Shape(NamedTuple):
    """One set of keys. `fields` says under which attribute a field stands, `nested` the names of the values of a struct in it."""

    decode: Callable[[bytes], Any]
    fields: dict[str, str]
    nested: dict[str, tuple[str, ...]]
    numbers: tuple[bool, ...]
    """Which features are numbers, or null."""
    maps: tuple[str, ...]
    texts: tuple[str, ...]
    """Attributes that may hold text, known to us or not."""
    unknown: tuple[str, ...]
    """Attributes of fields that no event has: scalars, of which only the literals matter."""
    keys: int
    """Keys of an event beside those of its maps: as many colons as stand outside of its names and values."""
    colons_in_names: int
    stamped: bool
    """Whether `timestamp` is a number."""
    scored: bool
    """Whether `score` is."""


class Shapes:
    """Remembers the shape of the last events of one kind."""

    def __init__(self, kind: type[msgspec.Struct]) -> None:
        fields = msgspec.structs.fields(kind)
        self._types = {field.name: field.type for field in fields}
        self._required = frozenset(field.name for field in fields if field.required)
        self._known: OrderedDict[tuple[Any, ...], Shape | None] = OrderedDict()
        self._last: tuple[tuple[Any, ...], Shape] | None = None
        self._pause = self._left = 0

    def decode(self, values: Sequence[bytes]) -> tuple[Shape, list[Any]] | None:
        """Events of one shape, or None where they have several, or one that has no struct."""
        if self._left:
            self._left -= 1
            return None
        if self._last is not None and (found := _decoded(self._last[1], values)) is not None:
            return found
        key = _signature(values[0])
        shape = None if key is None else self._shape(key)
        if shape is not None and key is not None and (self._last is None or key != self._last[0]):
            self._last = key, shape
            if (found := _decoded(shape, values)) is not None:
                self._pause = 0
                return found
        self._left = self._pause = min(2 * self._pause + 1, LONGEST_PAUSE)
        return None

    def _shape(self, key: tuple[Any, ...]) -> Shape | None:
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        if len(self._known) >= MOST_SHAPES:
            self._known.popitem(last=False)
        whole = self._required <= {name for name, what in key if what != "null"}
        shape = self._known[key] = _made(key, self._types) if whole else None
        return shape


def _decoded(shape: Shape, values: Sequence[bytes]) -> tuple[Shape, list[Any]] | None:
    try:
        return shape, list(map(shape.decode, values))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _signature(value: bytes) -> tuple[Any, ...] | None:
    """(name, kind) of each key: None for a scalar, "number", "null", or the names of a nested map and which of them are numbers."""
    try:
        event = json.loads(value)
    except (ValueError, RecursionError):
        return None
    if type(event) is not dict:
        return None
    found: list[tuple[str, Any]] = []
    size = len(event)
    for name, item in event.items():
        if name in NESTED and type(item) is dict and item:
            size += len(item)
            found.append((name, tuple((inner, type(value) in (int, float)) for inner, value in item.items())))
        elif item is None:
            found.append((name, "null"))
        elif type(item) in (int, float) and name in ("timestamp", "score"):
            found.append((name, "number"))
        elif type(item) is dict and name in MAPS:
            found.append((name, "map"))
        elif type(item) is dict or (type(item) is list and name != "embedding"):
            return None
        else:
            found.append((name, None))
    return tuple(found) if size <= LARGEST_SHAPE else None


def _made(key: tuple[tuple[str, Any], ...], types: Mapping[str, Any]) -> Shape:
    """The decoder of a signature."""
    columns: list[tuple[str, Any]] = []
    fields: dict[str, str] = {}
    nested: dict[str, tuple[str, ...]] = {}
    numbers: tuple[bool, ...] = ()
    texts: list[str] = []
    unknown: list[str] = []
    keys = colons = 0
    for number, (name, what) in enumerate(key):
        attribute = f"f{number}"
        kind = types.get(name)
        keys += 1
        colons += name.count(":")
        if kind is None:
            unknown.append(attribute)
            texts.append(attribute)
            columns.append((attribute, FeatureValue))
            continue
        fields[name] = attribute
        if isinstance(what, tuple):
            nested[name] = names = tuple(inner for inner, _ in what)
            keys += len(names)
            colons += sum(inner.count(":") for inner in names)
            inside = [float | None if number and name == "features" else NESTED[name] for _, number in what]
            kind = _struct([(f"f{at}", each) for at, each in enumerate(inside)], names)
            if name == "features":
                numbers = tuple(number for _, number in what)
        elif what == "number":
            kind = float
        elif what == "map":
            kind = MAPS[name]
        elif what == "null":
            kind = None
        elif name not in MAPS:
            texts.append(attribute)
        columns.append((attribute, kind))
    struct = _struct(columns, [name for name, _ in key])
    maps = tuple(fields[name] for name, what in key if what == "map" and name in fields)
    return Shape(
        msgspec.json.Decoder(struct).decode,
        fields,
        nested,
        numbers,
        maps,
        tuple(texts),
        tuple(unknown),
        keys,
        colons,
        ("timestamp", "number") in key,
        ("score", "number") in key,
    )


def _struct(columns: Sequence[tuple[str, Any]], names: Sequence[str]) -> type[msgspec.Struct]:
    rename = {attribute: name for (attribute, _), name in zip(columns, names, strict=True)}
    return msgspec.defstruct("Event", columns, rename=rename, forbid_unknown_fields=True, gc=False)
