"""From what a serving thread holds (floats, numpy scalars, pandas rows, datetimes) to what the contract takes, or to a
reason why not.

Nothing here imports numpy or pandas: a scalar of theirs is known by its `item()`, a row by its `items()`.

Not-a-number and infinities, which JSON does not have:

- in `features` and `context` they become null, so they show in the null rate;
- in optional numbers (`latency_ms`, `confidence`, `resources`, `values`, a probe's mean, ...) they are left out;
- in `score` and `label` they make the event invalid: an answer or a truth that is no number cannot be counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from numbers import Real
from typing import Any
from uuid import UUID

INFINITY = float("inf")
LARGEST_INTEGER = 2**63  # an integer literal from here on is refused by the worker; as a float it passes
# The year 3000 in seconds. Clocks that count in smaller units are past it, and by which one they are shows the unit.
UNITS = (
    (1e17, "timestamp_in_nanoseconds"),
    (1e14, "timestamp_in_microseconds"),
    (32_503_680_000.0, "timestamp_in_milliseconds"),
)
PLAIN = frozenset((float, str, bool, type(None)))  # int is absent: its size must be looked at
MISSING = frozenset(("NAType", "NaTType"))  # pandas.NA, pandas.NaT
STAGES = frozenset(("live", "shadow", "canary"))
PROBE_FIELDS = ("mean", "std", "has_nan", "has_inf")
KINDS = frozenset(("deploy", "rollback", "feature_pipeline", "schema", "label_definition", "traffic"))

INVALID_REASONS = frozenset(
    (
        "empty_id",
        "lone_surrogate",
        "not_finite",
        "timestamp_in_microseconds",
        "timestamp_in_milliseconds",
        "timestamp_in_nanoseconds",
        "timestamp_negative",
        "timestamp_unreadable",
        "wrong_type",
    )
)


class InvalidEvent(ValueError):
    """An event that the worker would reject. `reason` is one of `INVALID_REASONS`, in the words of `docs/events.md`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def plain(value: Any) -> float | int | str | bool | None:
    """One feature's value. NaN, infinities, `pandas.NA` and `NaT` are None; what is no scalar raises `InvalidEvent`."""
    kind = type(value)
    if kind is float:
        return value if -INFINITY < value < INFINITY else None
    if kind is str or kind is bool or value is None:
        same: str | bool | None = value
        return same
    if kind is int:
        if -LARGEST_INTEGER < value < LARGEST_INTEGER:
            return int(value)
        try:
            return float(value)
        except OverflowError:
            return None  # past 1.8e308: an infinity by another name
    if hasattr(value, "item"):
        item = value.item()  # numpy and torch scalars; an array of several raises ValueError
        if type(item) is float:
            return item if -INFINITY < item < INFINITY else None
        if type(item) is not kind:  # numpy.longdouble gives itself
            return plain(item)
    if isinstance(value, str):
        return str.__str__(value)  # the text itself also of enumerations
    if kind.__name__ in MISSING:
        return None
    if isinstance(value, int):
        return plain(int(value))
    if isinstance(value, Real | Decimal) or hasattr(value, "as_integer_ratio"):  # also Fraction, numpy.longdouble
        return plain(float(value))
    raise InvalidEvent("wrong_type", f"a {kind.__name__} is neither number, string, bool nor null")


def number(value: Any, name: str) -> float | int | None:
    """A number, or None where it is missing or not finite."""
    found = plain(value)
    if isinstance(found, bool | str):
        raise InvalidEvent("wrong_type", f"{name} must be a number, not {type(found).__name__}")
    return found


def required_number(value: Any, name: str) -> float | int:
    found = number(value, name)
    if found is None:
        raise InvalidEvent("wrong_type" if value is None else "not_finite", f"{name} is {value!r:.40}")
    return found


def required_class(value: Any, name: str) -> float | int | str | bool:
    found = plain(value)
    if found is None:
        raise InvalidEvent("wrong_type" if value is None else "not_finite", f"{name} is {value!r:.40}")
    return found


def identifier(value: Any, name: str, longest: int) -> str:
    """Text of 1 to `longest` characters; integers and UUIDs are written out, because people use them as ids."""
    if isinstance(value, UUID):
        return str(value)
    found = None if isinstance(value, float) else plain(value)
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found)
    if not isinstance(found, str):
        reason = "empty_id" if value is None else "wrong_type"
        raise InvalidEvent(reason, f"{name} must be a string, not {type(value).__name__}")
    if not found:
        raise InvalidEvent("empty_id", f"{name} is empty")
    if len(found) > longest:
        raise InvalidEvent("wrong_type", f"{name} has {len(found)} characters, more than {longest}")
    return found


def text(value: Any, name: str) -> str:
    found = plain(value)
    if not isinstance(found, str):
        raise InvalidEvent("wrong_type", f"{name} must be a string, not {type(value).__name__}")
    return found


def timestamp(value: Any) -> float | int:
    """Epoch seconds from a number, an aware datetime or an RFC 3339 string with an offset; None is now."""
    if value is None:
        return time.time()
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidEvent("timestamp_unreadable", f"{value[:64]!r} is not RFC 3339") from None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidEvent("timestamp_unreadable", f"{value} has no offset: a local time says nothing")
        value = value.timestamp()
    seconds = required_number(value, "timestamp")
    if 0 <= seconds < UNITS[-1][0]:
        return seconds
    for limit, reason in UNITS:
        if seconds >= limit:
            raise InvalidEvent(reason, f"{seconds} cannot be seconds")
    raise InvalidEvent("timestamp_negative", f"{seconds} lies before 1970")


def score(value: Any) -> float | int | dict[str, float | int]:
    """A finite number, or a map from class to a finite number."""
    if hasattr(value, "items"):
        return {_name(key): required_number(part, f"score[{key!r:.40}]") for key, part in value.items()}
    return required_number(value, "score")


def features(values: Any) -> dict[str, Any]:
    """Name to scalar. A dict of plain values is returned as it is: encoding copies it, and writes NaN as null."""
    if type(values) is dict:
        if PLAIN.issuperset(map(type, values.values())):
            return values
        return {key: plain(value) for key, value in values.items()}
    return {_name(key): plain(value) for key, value in values.items()}


def strings(values: Any, name: str) -> dict[str, str]:
    """Name to text: segments, runtime versions. Integers and bools are written out, missing values left out."""
    found: dict[str, str] = {}
    for key, value in values.items():
        part = value if type(value) is str else plain(value)
        if part is None:
            continue
        if isinstance(part, float):
            raise InvalidEvent("wrong_type", f"{name}[{key!r:.40}] must be a string, not a float")
        found[_name(key)] = part if isinstance(part, str) else str(part).lower()
    return found


def numbers(values: Any, name: str) -> dict[str, float | int]:
    """Name to number; what is missing or not finite is left out."""
    found = ((_name(key), number(value, name)) for key, value in values.items())
    return {key: value for key, value in found if value is not None}


def embedding(value: Any) -> float | int | list[float | int] | None:
    """A norm, or a vector; None where any part is not finite."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
        parts = [number(part, "embedding") for part in value]
        return None if None in parts else [part for part in parts if part is not None]
    return number(value, "embedding")


def probes(values: Any) -> dict[str, dict[str, Any]]:
    """Layer to `mean`, `std`, `has_nan`, `has_inf`, from mappings or `leadline.events.Probe`. A NaN sets `has_nan`."""
    found: dict[str, dict[str, Any]] = {}
    for layer, probe in values.items():
        given = probe if isinstance(probe, Mapping) else {name: getattr(probe, name) for name in PROBE_FIELDS}
        unknown = given.keys() - set(PROBE_FIELDS)
        if unknown:
            raise InvalidEvent("wrong_type", f"a probe has no {sorted(unknown)[0]!r:.40}")
        has_nan, has_inf = bool(given.get("has_nan")), bool(given.get("has_inf"))
        out: dict[str, Any] = {}
        for name in ("mean", "std"):
            raw = given.get(name)
            value = number(raw, f"probe {name}")
            if value is not None:
                out[name] = value
            elif raw is not None:
                is_nan = raw != raw
                has_nan, has_inf = has_nan or is_nan, has_inf or not is_nan
        out["has_nan"], out["has_inf"] = has_nan, has_inf
        found[_name(layer)] = out
    return found


def one_of(value: Any, allowed: frozenset[str], name: str) -> str:
    found = text(value, name)
    if found not in allowed:
        raise InvalidEvent("wrong_type", f"{name} is {found!r:.40}, not one of {', '.join(sorted(allowed))}")
    return found


def _name(key: Any) -> str:
    """A key of a JSON object. scikit-learn's classes are often integers."""
    if type(key) is str:
        return key
    found = plain(key)
    if found is None:
        raise InvalidEvent("wrong_type", "a name is missing")
    return found if isinstance(found, str) else str(found)
