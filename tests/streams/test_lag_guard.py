import pytest

from streams.embedded.embedded_errors import EmbeddedDataLost, EmbeddedLogRestarted
from streams.embedded.lag_guard import LogRange, Pacer, check_positions


def test_positions_inside_the_log_and_at_both_its_ends_are_fine():
    logs = {("p", 0): LogRange(10, 20), ("p", 1): LogRange(10, 20), ("p", 2): LogRange(0, 0)}
    check_positions({("p", 0): 10, ("p", 1): 20, ("p", 2): 0}, logs)


def test_a_position_below_the_log_names_the_lost_range():
    with pytest.raises(EmbeddedDataLost, match=r"p\[1\].*forgot 7 unread records, offsets \[3, 10\)") as lost:
        check_positions({("p", 0): 15, ("p", 1): 3}, {("p", 0): LogRange(10, 20), ("p", 1): LogRange(10, 20)})
    assert (lost.value.topic, lost.value.partition, lost.value.start, lost.value.end) == ("p", 1, 3, 10)


def test_a_position_beyond_the_log_belongs_to_an_earlier_log():
    with pytest.raises(EmbeddedLogRestarted, match=r"p\[0\]: position 21 lies beyond the end of the log, 20"):
        check_positions({("p", 0): 21}, {("p", 0): LogRange(10, 20)})


class HandMovedTime:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.on_sleep = lambda: None

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.on_sleep()


def test_a_pacer_counts_only_what_nobody_has_read():
    positions = {("p", 0): 0}
    pacer = Pacer(lambda: positions)
    for offset, size in enumerate([100, 200, 300]):
        pacer.sent("p", 0, offset, size)
    pacer.sent("p", 1, 0, 50)
    assert pacer.unread() == {("p", 0): (600, 3), ("p", 1): (50, 1)}
    positions[("p", 0)] = 2
    assert pacer.unread() == {("p", 0): (300, 1), ("p", 1): (50, 1)}


def test_a_pacer_waits_until_the_reader_has_made_room():
    time, positions = HandMovedTime(), {("p", 0): 0}
    pacer = Pacer(lambda: positions, clock=time.clock, sleep=time.sleep)
    for offset in range(10):
        pacer.sent("p", 0, offset, 100)

    def reader_takes_one() -> None:
        positions[("p", 0)] += 1

    time.on_sleep = reader_takes_one
    assert pacer.wait_for_lag(1_000) == 0
    assert positions == {("p", 0): 0}
    assert pacer.wait_for_lag(700) > 0
    assert positions == {("p", 0): 3}


def test_a_pacer_bounds_the_number_of_records_too():
    time = HandMovedTime()
    pacer = Pacer(dict, clock=time.clock, sleep=time.sleep)
    for offset in range(11):
        pacer.sent("p", 0, offset, 1)
    with pytest.raises(TimeoutError):
        pacer.wait_for_lag(1_000, max_records=10, timeout_s=1)


def test_a_pacer_gives_up_aloud_when_nobody_reads():
    time = HandMovedTime()
    pacer = Pacer(dict, clock=time.clock, sleep=time.sleep)
    pacer.sent("p", 3, 0, 5_000)
    with pytest.raises(TimeoutError, match=r"p\[3\]: 1 records \(5000 bytes\) still unread after 60 s"):
        pacer.wait_for_lag(1_000)
    assert time.now_s == pytest.approx(160, abs=0.2)
