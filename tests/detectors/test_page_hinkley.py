"""Page-Hinkley against river's (running mean) and against a slow CUSUM (known mean)."""

from __future__ import annotations

import numpy as np
import pytest
from river import drift

from detectors.base import BadParameter
from detectors.page_hinkley import PageHinkleyConfig
from tests.detectors.data import DATA_SETS, step


@pytest.mark.parametrize("name", DATA_SETS)
@pytest.mark.parametrize("forgetting", [1.0, 0.9999])
def test_with_a_running_mean_every_alarm_is_rivers(name: str, forgetting: float) -> None:
    values = DATA_SETS[name](4_000)
    ours = PageHinkleyConfig(threshold=5.0, forgetting=forgetting).build()
    theirs = drift.PageHinkley(threshold=5.0, alpha=forgetting)
    expected = []
    for at, value in enumerate(values.tolist()):
        theirs.update(value)
        if theirs.drift_detected:
            expected.append(at)
    assert [one.index for one in ours.update_many(values)] == expected


def test_around_a_known_mean_the_statistic_is_the_two_sided_cusum() -> None:
    values = step(3_000)
    detector = PageHinkleyConfig(centre=0.4, spread=0.1, slack=0.25, threshold=1e6).build()
    up = down = 0.0
    for at, value in enumerate(values.tolist()):
        detector.update_many([value])
        z = (value - 0.4) / 0.1
        # the first value sets the extreme, so the sums start from the second
        if at:
            up, down = max(0.0, up + z - 0.25), max(0.0, down - z - 0.25)
        assert detector.statistic == pytest.approx(max(up, down), abs=1e-6)


def test_the_onset_of_a_step_lies_at_the_step() -> None:
    found = PageHinkleyConfig(centre=0.4, spread=0.1, slack=0.5, threshold=20.0).build().update_many(step(4_000))
    first = found[0]
    assert 2_000 <= first.index < 2_060
    assert abs(first.index + 1 - first.onset - 2_000) <= 5
    assert first.before == pytest.approx(0.4, abs=0.01)
    assert first.after == pytest.approx(0.6, abs=0.05)


def test_both_directions_are_seen() -> None:
    config = PageHinkleyConfig(centre=0.5, spread=0.1, slack=0.5, threshold=10.0)
    for level in (0.3, 0.7):
        (found, *_) = config.build().update_many(np.full(40, level))
        assert found.after == pytest.approx(level)


def test_senseless_parameters_are_refused() -> None:
    for parameters in ({"spread": 0.0}, {"threshold": -1.0}, {"forgetting": 1.5}, {"minimum": 0}, {"centre": np.nan}):
        with pytest.raises(BadParameter):
            PageHinkleyConfig(**parameters)
