"""The short form, for every run of the tests: each kind of fault once, on the parts that need nothing installed."""

from __future__ import annotations

from pathlib import Path

from tests.faults.episode import Order, run

ONCE = ("nothing", "nothing", "kill", "redis_restart", "outage", "errors", "redis_cut")


def test_counts_are_exact_after_kills_and_outages_of_broker_and_store(tmp_path: Path) -> None:
    order = Order(
        "embedded", seed=11, seconds=1.0, rate=1000.0, faults={"errors": 1.0}, first=ONCE, requests=5_000, workers=1
    )
    result = run(order, tmp_path)
    assert result.verdict.faults == []
    assert result.verdict.events > 5_000
    assert result.verdict.alerts >= 1
    assert result.done["kill"] >= 1
