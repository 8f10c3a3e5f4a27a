"""Durations as people write them: 250ms, 10s, 5m, 48h, 30d."""

from __future__ import annotations

import re
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, PlainSerializer
from pydantic.fields import FieldInfo

UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")


def parse_duration(text: Any) -> float:
    """Seconds of '48h', '1h30m' or a bare number of seconds. ValueError says what is accepted."""
    if isinstance(text, bool):
        raise ValueError("a duration is a text such as 10s, 5m, 48h or 30d, not true or false")
    if isinstance(text, int | float):
        return float(text)
    compact = str(text).strip().lower()
    if re.fullmatch(r"\d+(?:\.\d+)?", compact):
        return float(compact)
    parts = _PART.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != re.sub(r"\s+", "", compact):
        raise ValueError(
            f"{text!r} is no duration: write a number and a unit of ms, s, m, h, d or w, such as 10s, 5m, 48h, 30d"
        )
    return sum(float(number) * UNITS_S[unit] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """The shortest exact text of two units at most, such as '2 h 5 m', for people."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    for unit, lower, size in (("m", "s", 60.0), ("h", "m", 3600.0), ("d", "h", 86400.0)):
        limit = {"m": 3600.0, "h": 172800.0, "d": float("inf")}[unit]
        if seconds < limit:
            whole = int(seconds // size)
            rest = int((seconds - whole * size) // UNITS_S[lower])
            return f"{whole} {unit} {rest} {lower}" if rest else f"{whole} {unit}"
    raise AssertionError("unreachable: the last limit is infinite")


def short_duration(seconds: float) -> str:
    """As one would write it: 172800 is 48h, 604800 is 7d."""
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001)):
        count = seconds / size
        if count >= (3 if unit == "d" else 1) and count == int(count):
            return f"{int(count)}{unit}"
    return f"{seconds:g}s"


Duration = Annotated[float, BeforeValidator(parse_duration), PlainSerializer(lambda s: s, return_type=float)]


def is_duration(field: FieldInfo) -> bool:
    """Whether a key of the configuration is written as a duration."""
    marks = [
        *field.metadata,
        *(mark for part in get_args(field.annotation) for mark in getattr(part, "__metadata__", ())),
    ]
    return any(isinstance(mark, BeforeValidator) and mark.func is parse_duration for mark in marks)
