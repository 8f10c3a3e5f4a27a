"""Duplicate keys are found by counting colons.

JSON has exactly one colon outside of strings for every key, so where the colons of a text equal the keys that were decoded, and the
colons in their names and values, there is no duplicate key and no unknown field. Any other text must be read again, with every key in view.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from streams.core.shapes import Shape

COLON = ord(":")
LARGEST_INTEGER = 2**63
PLAIN_MAPS = frozenset({"features", "segments"})
FLOAT_MAPS = ("score", "values", "resources")


def colons_in(text: bytes) -> int:
    """All colons of a text."""
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == COLON))


def keys_of_shape(events: Sequence[Any], shape: Shape) -> int:
    """The keys of events of one shape, those of their maps included; -1 where each literal must be looked at."""
    keys = shape.keys * len(events)
    for attribute in shape.maps:
        keys += sum(map(_map_keys, map(attrgetter(attribute), events)))
    if any(_reaches_integers(map(attrgetter(attribute), events)) for attribute in shape.unknown):
        return -1
    return keys


def keys_of(events: Sequence[Any], kind: type[msgspec.Struct]) -> int:
    """The keys of any events."""
    fields = kind.__struct_fields__
    keys = len(fields) * len(events)
    for name in fields[-len(kind.__struct_defaults__) :]:
        column = list(map(attrgetter(name), events))
        empty = column.count(None)
        keys -= empty
        if empty < len(events) and name in PLAIN_MAPS:
            keys += sum(map(len, filter(None, column)))
    return keys + sum(map(other_keys, events))


def other_keys(event: msgspec.Struct) -> int:
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


def colons_in_text(events: Sequence[Any], shape: Shape) -> int:
    """Colons in the names and values of events of one shape, in which nothing is written as escapes."""
    found = shape.colons_in_names * len(events)
    for attribute in shape.texts:
        found += colons_of(map(attrgetter(attribute), events))
    for name in shape.nested:
        structs = map(attrgetter(shape.fields[name]), events)
        found += colons_of(chain.from_iterable(map(msgspec.structs.astuple, structs)))
    for attribute in shape.maps:
        for values in map(attrgetter(attribute), events):
            found += colons_of(chain(values, values.values()))
    return found


def colons_of(values: Iterable[Any]) -> int:
    return "".join([value for value in values if type(value) is str]).count(":")
