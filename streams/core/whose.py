"""Whose events are: model, version, stage and segments as one small number each.

A batch holds thousands of events and few of these. As numbers they are grouped, counted and looked up by columns, and their text is
gone before it has left the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


class Who(NamedTuple):
    """What one number stands for."""

    model_id: str
    version: str
    stage: str | None
    segments: Mapping[str, str] | None


class Whose:
    """The numbers of one decoder, in order of appearance. The same events may have two, if their segments stand in another order."""

    def __init__(self) -> None:
        self.values: list[Who] = []
        self.models: list[str] = []
        self._numbers: dict[tuple[object, ...], int] = {}
        self._model_numbers: dict[str, int] = {}
        self._model_of: Indices = np.zeros(64, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def model_of(self) -> Indices:
        """The model's place in `models`, by number."""
        return self._model_of[: len(self.values)]

    def numbers(self, keys: Iterable[tuple[object, ...]]) -> Indices:
        """Of keys (segment names, model, version, stage, segment values)."""
        listed = list(keys)
        found = list(map(self._numbers.get, listed))
        if None in found:
            for at, number in enumerate(found):
                if number is None:
                    found[at] = self._add(listed[at])
        return np.array(found, dtype=np.int64)

    def _add(self, key: tuple[object, ...]) -> int:
        number = self._numbers.get(key)
        if number is not None:  # it came twice among the new ones
            return number
        number = self._numbers[key] = len(self.values)
        names, model_id, version, stage, values = key
        segments = dict(zip(names, values, strict=True)) if names else None  # type: ignore[call-overload]
        self.values.append(Who(str(model_id), str(version), stage if stage is None else str(stage), segments))
        if number >= len(self._model_of):
            self._model_of = np.concatenate([self._model_of, np.zeros_like(self._model_of)])
        model = self._model_numbers.setdefault(str(model_id), len(self.models))
        if model == len(self.models):
            self.models.append(str(model_id))
        self._model_of[number] = model
        return number
