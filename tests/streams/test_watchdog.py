"""The last resort, with time as a value: it must end what stands still, and nothing else."""

from __future__ import annotations

from streams.worker.watchdog import EXIT_STALLED, EXIT_STOP_TOO_SLOW, Progress, Watchdog


def watched(stall_s: float = 10.0, stop_s: float = 3.0) -> tuple[Progress, Watchdog, list[int]]:
    ended: list[int] = []
    progress = Progress(stall_s)
    return progress, Watchdog(progress, stop_s, lambda status, words: ended.append(status)), ended


def test_what_moves_is_left_alone() -> None:
    progress, dog, ended = watched()
    for beat in range(100):
        progress.see("loop", beat, True)
        dog.tick(9.0)
    assert ended == []


def test_what_stands_still_with_work_waiting_is_ended() -> None:
    progress, dog, ended = watched()
    progress.see("a/0", 7, True)
    dog.tick(6.0)
    progress.see("a/0", 7, True)
    assert ended == []
    dog.tick(6.0)
    assert ended == [EXIT_STALLED]


def test_standing_still_without_lag_is_no_stall() -> None:
    progress, dog, ended = watched()
    for _ in range(10):
        progress.see("a/0", 7, False)
        dog.tick(6.0)
    assert ended == []


def test_a_long_rest_does_not_count_when_lag_comes() -> None:
    progress, dog, ended = watched()
    for _ in range(20):
        progress.see("a/0", 7, False)
        dog.tick(1.0)
    for _ in range(9):
        progress.see("a/0", 7, True)
        dog.tick(1.0)
        assert ended == []
    progress.see("a/0", 8, True)
    dog.tick(1.0)
    assert ended == []


def test_a_partition_that_was_given_away_is_forgotten() -> None:
    progress, dog, ended = watched()
    progress.see("a/0", 7, True)
    progress.forget("a/0")
    dog.tick(60.0)
    assert ended == []
    assert progress.names() == set()


def test_a_stop_that_takes_too_long_is_ended_and_progress_no_longer_matters() -> None:
    progress, dog, ended = watched()
    progress.see("a/0", 7, True)
    dog.stopping()
    dog.tick(2.0)
    dog.stopping()  # asked again: not a second longer
    assert ended == []
    dog.tick(2.0)
    assert ended == [EXIT_STOP_TOO_SLOW]
