"""What is wrong with a record that is not taken: a bounded reason, and words."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import msgspec

from streams.core.colons import LARGEST_INTEGER
from streams.core.decoded import Fault
from streams.core.stage import Record

LATEST_PLAUSIBLE_S = 32_503_680_000.0  # the year 3000: above it a clock counts in a smaller unit than seconds
UNITS = (
    (1e17, "timestamp_in_nanoseconds"),
    (1e14, "timestamp_in_microseconds"),
    (LATEST_PLAUSIBLE_S, "timestamp_in_milliseconds"),
)


class _DuplicateKey(ValueError):
    pass


class _NotFinite(ValueError):
    pass


class _TooLarge(ValueError):
    pass


def clock_fault(record: Record, when: float) -> Fault:
    for limit, reason in UNITS:
        if when >= limit:
            return Fault(record, reason, f"{when:.0f} cannot be seconds; publish epoch seconds or RFC 3339")
    if when < 0:
        return Fault(record, "timestamp_negative", f"{when} lies before 1970")
    ahead = when - record.timestamp
    return Fault(record, "timestamp_in_future", f"{ahead:.0f} s ahead of the broker's clock; join.max_future bounds it")


def too_large_integers(records: Sequence[Record]) -> list[Fault | None]:
    """For events whose numbers reach 2**63: a fault where the text holds an integer literal of that size, None for a float such as 1e20."""
    return [look_closely(record, record.value or b"") for record in records]


def look_closely(record: Record, raw: bytes) -> Fault | None:
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


def explain(record: Record, raw: bytes, error: Exception) -> Fault:
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
    closer = look_closely(record, raw)
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
