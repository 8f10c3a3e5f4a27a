"""The common judgement: past the threshold and past the noise, or silent."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from detectors.base import (
    BadParameter,
    BadValues,
    Detector,
    DetectorError,
    Level,
    State,
    Verdict,
    finite_values,
    judge,
    register,
)
from detectors.errors import CorruptState, ForeignState, UnequalConfigurations, UnknownKind


@pytest.mark.parametrize(
    ("value", "floor", "level"),
    [
        (0.05, 0.02, Level.OK),
        (0.15, 0.02, Level.WARN),
        (0.25, 0.02, Level.CRITICAL),
        (0.1, 0.02, Level.OK),
        (0.05, 0.15, Level.INSUFFICIENT_DATA),
        (0.18, 0.15, Level.INSUFFICIENT_DATA),
        (0.25, 0.15, Level.CRITICAL),
        (0.25, 0.3, Level.INSUFFICIENT_DATA),
        (9.0, np.inf, Level.INSUFFICIENT_DATA),
        (np.nan, 0.02, Level.INSUFFICIENT_DATA),
        (0.25, None, Level.INSUFFICIENT_DATA),
    ],
)
def test_a_figure_speaks_only_past_threshold_and_floor(value: float, floor: float | None, level: Level) -> None:
    verdict = judge(value, n=500, floor=floor, warn=0.1, critical=0.2, minimum=100)
    assert verdict.level == level
    assert verdict.fires == (level in (Level.WARN, Level.CRITICAL))
    assert judge(value, n=99, floor=floor, warn=0.1, critical=0.2, minimum=100).level == Level.INSUFFICIENT_DATA


def test_a_verdict_keeps_its_evidence() -> None:
    verdict = judge(0.3, n=500, floor=0.02, warn=0.1, critical=0.2, reference=0.1, p_value=1e-9)
    assert (verdict.value, verdict.n, verdict.reference, verdict.floor, verdict.p_value) == (0.3, 500, 0.1, 0.02, 1e-9)
    with pytest.raises(AttributeError):
        verdict.value = 0.0  # type: ignore[misc]


def test_numbers_of_any_type_are_taken_and_everything_else_is_refused() -> None:
    for good in ([1, 2], [True, False], np.array([1.5], dtype=np.float32), [], np.arange(3, dtype=np.uint8)):
        assert finite_values(good).dtype == np.float64
    for bad in (["1"], [None], [1.0, None], 1.0, [[1.0]], [np.nan], [np.inf], [10**400], [1j], "1.0"):
        with pytest.raises(BadValues):
            finite_values(bad)


def test_every_error_has_a_reason_of_its_own_and_one_root() -> None:
    leaves = [BadValues, BadParameter, UnequalConfigurations, CorruptState, ForeignState, UnknownKind]
    assert len({leaf.reason for leaf in leaves}) == len(leaves)
    assert all(issubclass(leaf, DetectorError) and issubclass(leaf, ValueError) for leaf in leaves)


def test_a_kind_cannot_be_registered_twice() -> None:
    @dataclass(frozen=True)
    class Twin:
        kind: ClassVar[str] = "adwin"

        def build(self, state: State | None = None) -> Detector:
            raise NotImplementedError

    import detectors.adwin  # noqa: F401 - the first of the twins

    with pytest.raises(BadParameter):
        register()(Twin)


def test_the_package_imports_no_pipeline() -> None:
    code = (
        "import sys; from detectors.base import registry; registry(); "
        "print([m for m in ('faust', 'aiokafka', 'confluent_kafka', 'redis', 'streams', 'sinks', 'leadline')"
        " if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_verdict_without_a_test_has_no_p_value() -> None:
    assert Verdict(level=Level.OK, value=1.0, n=3).p_value is None
