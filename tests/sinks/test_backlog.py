"""The order of attempts: an incident's alerts in order, incidents apart, one probe a rest while a sink is down."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sinks.backlog import Backlog
from sinks.retry import RetryPolicy
from tests.sinks.samples import alert


def longest(low: float, high: float) -> float:
    return high


def backlog(limit: int = 10, **policy: float) -> Backlog[int]:
    return Backlog(RetryPolicy(**policy), limit, longest)


def test_alerts_are_tried_in_the_order_in_which_they_came() -> None:
    waiting = backlog()
    for n in range(4):
        assert waiting.push(alert(n, f"inc-{n % 2}"), n, 0.0)
    order = []
    while (item := waiting.take(0.0)) is not None:
        order.append(item.ticket)
        waiting.succeeded(item)
    assert order == [0, 1, 2, 3]
    assert waiting.wait_s(0.0) is None


def failed_once(waiting: Backlog[int], now: float = 0.0) -> int:
    """Let the next attempt fail; its ticket."""
    item = waiting.take(now)
    assert item is not None
    waiting.failed(item, now, None)
    return item.ticket


def served(waiting: Backlog[int], now: float) -> list[int]:
    """Let every attempt go through."""
    tickets = []
    while (item := waiting.take(now)) is not None:
        tickets.append(item.ticket)
        waiting.succeeded(item)
    return tickets


def test_after_a_failure_the_whole_sink_rests() -> None:
    waiting = backlog(base_s=10)
    waiting.push(alert(1, "a"), 1, 0.0)
    waiting.push(alert(1, "b"), 2, 0.0)
    failed_once(waiting)
    assert waiting.take(9.9) is None
    assert waiting.wait_s(4.0) == 6.0


def test_an_alert_that_the_other_side_chokes_on_holds_up_its_own_incident_alone() -> None:
    waiting = backlog(base_s=10)
    for ticket, incident in enumerate(("poison", "poison", "other", "third")):
        waiting.push(alert(ticket, incident), ticket, 0.0)
    assert failed_once(waiting) == 0
    probe = waiting.take(10.0)
    assert probe is not None
    assert probe.ticket == 2  # not the poison again, and not what stands behind it
    waiting.succeeded(probe)
    assert not waiting.failing
    assert served(waiting, 10.0) == [3, 0, 1]


def test_a_success_ends_the_rest_of_the_sink_but_not_the_wait_of_the_alert_that_failed() -> None:
    waiting = backlog(base_s=10)
    waiting.push(alert(1, "poison"), 1, 0.0)
    failed_once(waiting)  # waits until 10, as the sink does
    failed_once(waiting, 10.0)  # until 30
    waiting.push(alert(1, "other"), 2, 10.0)
    probe = waiting.take(30.0)
    assert probe is not None
    assert probe.ticket == 2
    probe_at = 30.0
    waiting.failed(probe, probe_at, None)  # the sink's third failure in a row: rests 40 s; this alert's first: 10 s
    assert waiting.wait_s(probe_at) == 40.0
    assert served(waiting, 70.0) == [2, 1]


def test_an_outage_costs_one_attempt_a_rest_however_many_wait() -> None:
    waiting = backlog(limit=100, base_s=1, cap_s=64, give_up_after_s=1e6)
    for n in range(100):
        waiting.push(alert(n, f"inc-{n}"), n, 0.0)
    now, attempts = 0.0, 0
    while now < 640:
        item = waiting.take(now)
        if item is None:
            now += waiting.wait_s(now) or 0.0
        else:
            attempts += 1
            waiting.failed(item, now, None)
    assert attempts < 20


def test_retry_after_rests_the_whole_sink() -> None:
    waiting = backlog(base_s=0.001, cap_s=0.001)
    waiting.push(alert(1, "a"), 1, 0.0)
    waiting.push(alert(1, "b"), 2, 0.0)
    item = waiting.take(0.0)
    assert item is not None
    waiting.failed(item, 0.0, 30)
    assert waiting.take(29.9) is None
    assert waiting.take(30.1) is not None


def test_only_a_failing_sink_gives_alerts_up() -> None:
    waiting = backlog(base_s=1, cap_s=1, give_up_after_s=100)
    waiting.push(alert(1), 1, 0.0)
    assert waiting.overdue(1e9) is None
    item = waiting.take(1e9)
    assert item is not None
    waiting.failed(item, 1e9, None)
    assert waiting.overdue(1e9) is item
    assert waiting.wait_s(1e9) == 0


def test_the_wait_ends_in_time_to_give_up() -> None:
    waiting = backlog(base_s=500, cap_s=500, give_up_after_s=100)
    waiting.push(alert(1), 1, 0.0)
    item = waiting.take(0.0)
    assert item is not None
    waiting.failed(item, 0.0, None)
    assert waiting.wait_s(0.0) == 100


def test_a_full_backlog_takes_no_more_and_says_so() -> None:
    waiting = backlog(limit=2)
    assert [waiting.push(alert(n), n, 0.0) for n in range(3)] == [True, True, False]
    assert len(waiting) == 2


def test_a_purge_forgets_tickets_and_what_is_under_way_does_no_harm_later() -> None:
    waiting = backlog()
    for n in range(4):
        waiting.push(alert(n, f"inc-{n % 2}"), n, 0.0)
    under_way = waiting.take(0.0)
    assert under_way is not None
    waiting.purge(lambda ticket: ticket == 3)
    waiting.succeeded(under_way)
    assert len(waiting) == 1
    last = waiting.take(0.0)
    assert last is not None
    assert last.ticket == 3


@given(
    incidents=st.lists(st.integers(0, 3), max_size=30),
    verdicts=st.lists(st.booleans(), max_size=200),
)
def test_whatever_fails_each_incident_comes_out_complete_and_in_order(
    incidents: list[int], verdicts: list[bool]
) -> None:
    waiting = backlog(limit=100, base_s=1, cap_s=30, give_up_after_s=1e9)
    for n, incident in enumerate(incidents):
        waiting.push(alert(n, f"inc-{incident}"), n, 0.0)
    out: list[int] = []
    now = 0.0
    rest = iter(verdicts)
    while len(waiting):
        item = waiting.take(now)
        if item is None:
            wait = waiting.wait_s(now)
            assert wait is not None
            assert wait > 0
            now += wait
        elif next(rest, True):
            out.append(item.ticket)
            waiting.succeeded(item)
        else:
            waiting.failed(item, now, None)
    assert sorted(out) == list(range(len(incidents)))
    for incident in set(incidents):
        mine = [n for n in out if incidents[n] == incident]
        assert mine == sorted(mine)
