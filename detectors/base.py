"""The two halves of every detector: a frozen configuration that declares, a running object that remembers.

A detector knows no clock and no I/O. Its input is a batch of values; its output a :class:`Verdict`. Its memory travels
as a :class:`State`. Every configuration registers itself under its ``kind``; the law suite finds it there and tries the
laws: same input, same verdicts; restored at any prefix, same future; bad input leaves the state byte-identical; bounded
size; corrupt bytes give a typed error.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from detectors.errors import (
    BadParameter,
    BadValues,
    CorruptState,
    DetectorError,
    ForeignState,
    UnequalConfigurations,
    UnknownKind,
)
from detectors.state import Field, State, fingerprint

__all__ = [
    "BadParameter",
    "BadValues",
    "CorruptState",
    "Detector",
    "DetectorConfig",
    "DetectorError",
    "Entry",
    "Field",
    "FloatArray",
    "ForeignState",
    "IntArray",
    "Level",
    "Mergeable",
    "State",
    "UnequalConfigurations",
    "UnknownKind",
    "Verdict",
    "config_of",
    "fingerprint",
    "finite_values",
    "judge",
    "register",
    "registry",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class Level(StrEnum):
    """What a figure says about its subject."""

    OK = "ok"
    WARN = "warn"
    CRITICAL = "critical"
    INSUFFICIENT_DATA = "insufficient_data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One judged figure with its evidence.

    Attributes:
        level: ok, warn, critical or insufficient_data.
        value: the figure, in the unit of its detector.
        n: sample size behind it (values, not bins).
        reference: what it was compared with; None where the detector has none.
        floor: how far noise alone moves the value; None where the test has no such number.
        p_value: chance of a value at least this extreme without any change; None where there is none.
        onset: how many values ago the change began (1 = the last value); None where nothing changed.
    """

    level: Level
    value: float
    n: int
    reference: float | None = None
    floor: float | None = None
    p_value: float | None = None
    onset: int | None = None

    @property
    def fires(self) -> bool:
        """True for warn and critical."""
        return self.level in (Level.WARN, Level.CRITICAL)


def judge(
    value: float,
    *,
    n: int,
    floor: float | None,
    warn: float,
    critical: float,
    minimum: int = 1,
    reference: float | None = None,
    p_value: float | None = None,
) -> Verdict:
    """Level of a figure that is worse the larger it is: past the threshold *and* past what noise alone reaches.

    Where the floor itself lies past a threshold, a value past that threshold proves nothing: ``insufficient_data``. The
    same holds for a missing floor, a value that is not finite, or fewer than ``minimum`` samples.
    """
    level = Level.OK
    if floor is None or n < minimum or not (math.isfinite(value) and math.isfinite(floor)):
        level = Level.INSUFFICIENT_DATA
    elif value > critical >= floor:
        level = Level.CRITICAL
    elif floor > warn:
        level = Level.INSUFFICIENT_DATA
    elif value > warn:
        level = Level.WARN
    return Verdict(level=level, value=value, n=n, reference=reference, floor=floor, p_value=p_value)


class Detector(Protocol):
    """Remembers; knows no Kafka, Redis, Faust, clock."""

    def update(self, values: Any, /) -> Verdict | None:
        """Take one batch; None where there is nothing to say yet. Raises BadValues and is then unchanged."""
        ...

    def snapshot(self) -> State:
        """A copy of the memory; ``config.build(snapshot)`` has the same future."""
        ...


class DetectorConfig(Protocol):
    """Frozen, keyword-only: what people declare."""

    kind: ClassVar[str]

    def build(self, state: State | None = None) -> Detector:
        """A fresh detector, or the one the state remembers. Raises ForeignState or CorruptState."""
        ...


class Mergeable(Protocol):
    """State that adds exactly: ``a.merge(b)`` is what feeding both inputs to one would give."""

    def merge(self, other: Self, /) -> Self:
        """A new sum. Raises UnequalConfigurations."""
        ...

    def subtract(self, other: Self, /) -> Self:
        """A new difference: undoes merge. Raises UnequalConfigurations."""
        ...


def _identity(values: FloatArray) -> Any:
    return values


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered kind: how to make a typical configuration, and how a stream of numbers becomes its input."""

    config: type[DetectorConfig]
    example: Callable[[], DetectorConfig]
    adapt: Callable[[FloatArray], Any]


_REGISTRY: dict[str, Entry] = {}
_Config = TypeVar("_Config", bound=DetectorConfig)


def register(
    *, example: Callable[[], DetectorConfig] | None = None, adapt: Callable[[FloatArray], Any] = _identity
) -> Callable[[type[_Config]], type[_Config]]:
    """Class decorator that enters a configuration under its ``kind``.

    ``example`` makes a typical configuration (default: the class without arguments). ``adapt`` turns a 1-D float64
    array (any values, possibly NaN) into one batch for ``update``: the law suite feeds every entry through it.
    """

    def enter(config: type[_Config]) -> type[_Config]:
        if config.kind in _REGISTRY:
            raise BadParameter(f"kind {config.kind!r} is registered twice")
        _REGISTRY[config.kind] = Entry(config, example or config, adapt)
        return config

    return enter


def registry() -> Mapping[str, Entry]:
    """Every kind in this package, found by importing its modules."""
    package = importlib.import_module("detectors")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"detectors.{module.name}")
    return dict(_REGISTRY)


def config_of(kind: str) -> type[DetectorConfig]:
    """The configuration class of a kind. Raises UnknownKind."""
    try:
        return registry()[kind].config
    except KeyError:
        raise UnknownKind(f"no detector of kind {kind!r}") from None


def finite_values(values: Any) -> FloatArray:
    """A 1-D float64 view or copy of a batch of numbers. Raises BadValues for other types, shapes, NaN, infinity."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise BadValues(f"values of type {array.dtype} are not numbers")
    if array.ndim != 1:
        raise BadValues(f"values have {array.ndim} dimensions, wanted 1")
    numbers = array.astype(np.float64, copy=False)
    if not np.isfinite(numbers).all():
        raise BadValues("values hold NaN or infinity")
    return numbers
