"""The short form, for every run of the tests: each kind of fault once, on the parts that need nothing installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.episode import Order, run
from tests.real.backend import Backend

ONCE = ("nothing", "nothing", "kill", "redis_restart", "outage", "errors", "slow", "redis_cut")
BACK_IN_TIME = ("nothing", "nothing", "redis_lossy_restart", "redis_slow", "redis_fail_over", "term")
EACH = (
    "kill",
    "kill_static",
    "term",
    "zombie",
    "add",
    "kill_all",
    "outage",
    "errors",
    "slow",
    "redis_slow",
    "redis_cut",
)


def test_counts_are_exact_after_kills_and_outages_of_broker_and_store(tmp_path: Path) -> None:
    order = Order(
        "embedded", seed=11, seconds=1.0, rate=1000.0, faults={"errors": 1.0}, first=ONCE, requests=5_000, workers=1
    )
    result = run(order, tmp_path)
    assert result.verdict.faults == []
    assert result.verdict.events > 5_000
    assert result.verdict.alerts >= 1
    assert result.done["kill"] >= 1


def test_counts_are_exact_after_the_store_has_lost_its_last_moments_and_failed_over_to_a_replica_that_lagged(
    tmp_path: Path,
) -> None:
    faults = {"redis_lossy_restart": 1.0}
    order = Order(
        "embedded", seed=12, seconds=1.0, rate=1000.0, faults=faults, first=BACK_IN_TIME, requests=5_000, workers=1
    )
    result = run(order, tmp_path)
    assert result.verdict.faults == []
    assert result.verdict.lossy
    assert result.done["redis_fail_over"] == 1
    assert result.to_stop


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.parametrize("lossy", [False, True])
def test_counts_are_exact_after_each_fault_once_on_real_parts(kafka: Backend, tmp_path: Path, lossy: bool) -> None:
    """`kafka` says whether they are there; the episode has a broker and a store of its own."""
    stores = ("redis_lossy_restart", "redis_fail_over") if lossy else ("redis_restart",)
    faults = dict.fromkeys((*EACH, *stores), 1.0)
    result = run(Order("kafka", 13 + lossy, 10.0, 400.0, faults, workers=3, first=tuple(faults)), tmp_path)
    assert result.verdict.faults == []
    assert all(result.done[name] for name in faults)
    assert result.aborted
