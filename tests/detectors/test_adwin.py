"""ADWIN is river's, cut for cut; what is ours are the mapping, the counters and the safe snapshot."""

from __future__ import annotations

import math

import numpy as np
import pytest
from river import drift

from detectors.adwin import AdwinConfig
from detectors.base import BadParameter, BadValues, CorruptState, State
from tests.detectors.data import DATA_SETS, step, uniform


@pytest.mark.parametrize("name", DATA_SETS)
@pytest.mark.parametrize("significance", [0.002, 0.3])
def test_every_cut_is_rivers(name: str, significance: float) -> None:
    values = DATA_SETS[name](5_000)
    low, high = float(values.min()) - 1.0, float(values.max()) + 1.0
    ours = AdwinConfig(low=low, high=high, significance=significance).build()
    theirs = drift.ADWIN(delta=significance)
    expected = []
    for at, value in enumerate(((values - low) / (high - low)).tolist()):
        theirs.update(value)
        if theirs.drift_detected:
            expected.append((at, theirs.width))
    found = ours.update_many(values)
    assert [(one.index, one.onset) for one in found] == expected
    assert ours.detections == len(expected)
    assert ours.seen == 5_000


def test_a_detection_tells_means_before_and_after_in_the_values_unit() -> None:
    values = 100.0 * step(4_000)
    (found,) = AdwinConfig(low=0.0, high=100.0).build().update_many(values)
    start = found.index + 1 - found.onset
    assert found.width == found.index + 1
    assert found.before == pytest.approx(values[:start].mean(), rel=1e-9)
    assert found.after == pytest.approx(values[start : found.index + 1].mean(), rel=1e-9)
    assert found.before == pytest.approx(40.0, abs=1.0)


def test_the_verdict_counts_the_onset_from_the_end_of_the_batch() -> None:
    values = step(4_000)
    detector = AdwinConfig().build()
    (found,) = AdwinConfig().build().update_many(values[: 2_000 + 500])
    verdict = detector.update(values[:2_500])
    assert verdict is not None
    assert verdict.fires
    assert verdict.onset == found.onset + 2_499 - found.index
    quiet = detector.update(values[2_500:2_600])
    assert quiet is not None
    assert not quiet.fires
    assert detector.update(np.empty(0)) is None


def test_the_count_of_detections_survives_rivers_restarts() -> None:
    detector = AdwinConfig().build()
    for part in range(6):
        detector.update_many(np.full(1_000, 0.1 if part % 2 else 0.9))
    assert detector.detections == 5


def test_each_detection_compares_with_the_values_since_the_last_one() -> None:
    first, second = AdwinConfig().build().update_many(np.repeat([0.2, 0.8, 0.4], 1_000))
    start = second.index + 1 - second.width
    assert start == first.index + 1
    assert second.before == pytest.approx(0.8, abs=0.02)


def test_a_nan_does_not_poison_the_window() -> None:
    detector = AdwinConfig().build()
    detector.update_many(uniform(500))
    with pytest.raises(BadValues):
        detector.update_many(np.array([0.5, math.nan]))
    assert math.isfinite(detector.estimate)
    assert detector.update_many(np.full(500, 0.99))


def test_values_outside_the_range_are_clipped_and_counted() -> None:
    detector = AdwinConfig(low=-1.0, high=1.0).build()
    detector.update_many([-5.0, -1.0, 0.0, 1.0, 7.0])
    assert detector.clipped == 2
    assert detector.estimate == pytest.approx(0.0)


@pytest.mark.parametrize("fill", [b"\x00", b"\xff", b"\x07"])
def test_bytes_that_make_rust_panic_are_a_corrupt_state(fill: bytes) -> None:
    detector = AdwinConfig().build()
    detector.update_many(uniform(500))
    state = detector.snapshot()
    window = state.raw("window")
    for bad in (b"", window[:20], window[: len(window) // 2], fill * len(window), window[:-1], fill * 100_000):
        broken = State(state.kind, state.version, state.fingerprint, {**state.fields, "window": bad})
        with pytest.raises(CorruptState):
            AdwinConfig().build(broken)


def test_senseless_parameters_are_refused() -> None:
    for parameters in ({"low": 1.0, "high": 1.0}, {"low": math.nan}, {"significance": 0.0}, {"clock": 0}):
        with pytest.raises(BadParameter):
            AdwinConfig(**parameters)
