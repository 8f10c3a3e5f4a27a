"""Nothing waits while there is time; under pressure batches wait, a second at most, and no longer than the pressure lasts."""

from __future__ import annotations

from streams.worker.pace import BUSY, CALM, LEAST_S, MOST_S, Pace


def seen(pace: Pace, share: float, seconds: int, begun: tuple[float, float] = (0.0, 0.0)) -> list[float]:
    cpu, now = begun
    return [pace.see(cpu + share * at, now + at) for at in range(1, seconds + 1)]


def test_a_worker_with_time_waits_for_nothing() -> None:
    assert set(seen(Pace(), CALM - 0.1, 60)) == {0.0}


def test_pressure_has_batches_wait_step_by_step_a_second_at_most() -> None:
    waits = seen(Pace(), 0.95, 30)
    assert waits[0] == 0.0  # the first look has nothing to compare with
    assert waits[1] == LEAST_S
    assert waits == sorted(waits)
    assert waits[-1] == MOST_S


def test_between_both_bounds_nothing_changes_and_calm_ends_the_waiting() -> None:
    pace = Pace()
    seen(pace, 0.95, 30)
    assert set(seen(pace, (BUSY + CALM) / 2, 20, (30.0, 30.0))[1:]) == {MOST_S}
    waits = seen(pace, 0.05, 30, (60.0, 60.0))
    assert waits[1:] == sorted(waits[1:], reverse=True)
    assert waits[-1] == 0.0
