"""The observer says the same as it did, however its inside is rearranged for speed."""

from __future__ import annotations

import json

import pytest

from tests.streams.observer_workload import GOLDEN, close, events, run_backtest, run_live, summaries

EXPECTED = json.loads(GOLDEN.read_text())


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, object]]:
    return summaries()


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_digests_rows_and_counts_are_those_of_the_golden_run(name: str, found: dict[str, dict[str, object]]) -> None:
    said, expected = found[name], EXPECTED[name]
    assert said["cells"] == expected["cells"]
    assert said["exact"] == expected["exact"]


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_sums_are_those_of_the_golden_run_but_for_their_last_digits(
    name: str, found: dict[str, dict[str, object]]
) -> None:
    said, expected = found[name]["sums"], EXPECTED[name]["sums"]
    assert isinstance(said, dict)
    wrong = {
        slot: (said.get(slot, 0.0), value) for slot, value in expected.items() if not close(said.get(slot, 0.0), value)
    }
    wrong |= {slot: (value, 0.0) for slot, value in said.items() if slot not in expected and not close(value, 0.0)}
    assert not wrong


def test_the_same_log_says_the_same_to_the_last_bit_twice() -> None:
    log = events(5, 300, 1.0)
    assert run_live(log, 50).summary() == run_live(log, 50).summary()
    assert run_backtest(log, 128).summary() == run_backtest(log, 128).summary()
