"""One sink's lane and the dead letters, step by step, with time moved by hand."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass, field

from leadline.alert import Alert, Undelivered
from sinks.base import Rejected, RetryLater
from sinks.console import ConsoleConfig
from sinks.kafka import Outcome, Record
from sinks.lane import Lane, Shop
from sinks.letters import ORIGINAL_LIMIT, DeadLetters
from sinks.progress import Progress, Ticket
from sinks.record import MemoryRecord
from sinks.retry import RetryPolicy
from sinks.stats import DeliverStats
from tests.sinks.samples import alert


@dataclass
class Scripted:
    """A sink that answers from a list, then says yes."""

    name: str = "console"
    answers: list[Exception | None] = field(default_factory=list)
    got: list[str] = field(default_factory=list)

    async def send(self, what: Alert, /) -> None:
        self.got.append(what.alert_id)
        if self.answers and (answer := self.answers.pop(0)) is not None:
            raise answer

    async def close(self) -> None:
        pass


@dataclass
class Post:
    """A dead letter topic that answers from a list, then takes everything."""

    answers: list[Outcome] = field(default_factory=list)
    letters: list[Undelivered] = field(default_factory=list)

    async def send(self, key: bytes | None, value: bytes) -> Outcome:
        outcome = self.answers.pop(0) if self.answers else "sent"
        if outcome == "sent":
            self.letters.append(Undelivered.model_validate_json(value))
        return outcome


class Scene:
    """A lane with everything around it, and a clock."""

    def __init__(self, *answers: Exception | None, queue_size: int = 10, give_up_after_s: float = 100.0) -> None:
        self.now = 0.0
        self.progress = Progress()
        self.progress.assigned([0])
        self.stats = DeliverStats()
        self.post = Post()
        self.letters = DeadLetters(self.post, self.progress, self.stats, lambda low, high: high)
        self.record = MemoryRecord()
        self.sink = Scripted(answers=list(answers))
        self.shop = Shop(
            self.record,
            self.letters,
            self.progress,
            self.stats,
            lambda: self.now,
            lambda: 1e9,
            lambda low, high: high,
            send_timeout_s=5.0,
            full_patience_s=30.0,
        )
        policy = RetryPolicy(base_s=1, cap_s=8, give_up_after_s=give_up_after_s)
        self.lane = Lane(ConsoleConfig(queue_size=queue_size, retry=policy), self.sink, self.shop)
        self.offset = 0

    def place(self, what: Alert) -> str:
        ticket = self.progress.begin(0, self.offset)
        assert ticket is not None
        return self.place_again(what, ticket)

    def place_again(self, what: Alert, ticket: Ticket) -> str:
        record = Record("alerts", 0, ticket.offset, b"key", what.model_dump_json().encode())
        self.offset = ticket.offset + 1
        return self.lane.place(what, record, ticket)

    async def settle(self) -> None:
        """Step until there is nothing to do now."""
        while await self.lane.step() == 0 or await self.letters.step() == 0:
            pass


def test_a_delivery_is_recorded_counted_and_committable() -> None:
    scene = Scene()
    scene.place(alert(1))
    asyncio.run(scene.settle())
    assert scene.sink.got == ["inc-1:1"]
    assert asyncio.run(scene.record.seen("console", "inc-1:1"))
    assert scene.stats.delivered == {"console": 1}
    assert scene.progress.take() == {0: 1}


def test_a_repetition_on_the_topic_is_delivered_once() -> None:
    scene = Scene()
    scene.place(alert(1))
    scene.place(alert(1))
    asyncio.run(scene.settle())
    assert scene.sink.got == ["inc-1:1"]
    assert scene.stats.duplicates == {"console": 1}
    assert scene.progress.take() == {0: 2}


def test_nothing_is_committable_while_the_sink_asks_for_patience() -> None:
    scene = Scene(RetryLater(20.0, "rate_limited"))
    scene.place(alert(1))
    scene.place(alert(2))
    asyncio.run(scene.settle())
    assert scene.progress.take() == {}
    scene.now = 20.5
    asyncio.run(scene.settle())
    assert scene.sink.got == ["inc-1:1"]
    scene.now = 21.0
    asyncio.run(scene.settle())
    assert scene.sink.got == ["inc-1:1", "inc-1:1", "inc-1:2"]
    assert scene.progress.take() == {0: 2}


def test_a_refused_alert_is_buried_with_its_reason_and_the_next_one_goes_on() -> None:
    scene = Scene(Rejected("bad_payload", "status 400"))
    scene.place(alert(1))
    scene.place(alert(2))
    asyncio.run(scene.settle())
    [letter] = scene.post.letters
    assert (letter.reason, letter.detail, letter.sink) == ("rejected", "bad_payload: status 400", "console")
    assert (letter.attempts, letter.source_offset, letter.alert, letter.failed_at) == (1, 0, alert(1), 1e9)
    assert scene.sink.got[-1] == "inc-1:2"
    assert scene.progress.take() == {0: 2}


def test_an_offset_is_not_committable_before_the_broker_has_the_dead_letter() -> None:
    scene = Scene(Rejected("refused"))
    scene.post.answers = ["failed", "failed"]
    scene.place(alert(1))
    asyncio.run(scene.settle())
    assert scene.progress.take() == {}
    assert scene.stats.undelivered_pending == 1
    assert asyncio.run(scene.letters.step()) == 1.0  # rests longer after each failure
    asyncio.run(scene.settle())
    assert scene.progress.take() == {0: 1}
    assert scene.stats.undelivered == {("console", "rejected"): 1}


def test_a_dead_letter_too_large_for_the_broker_is_shortened() -> None:
    scene = Scene(Rejected("refused"))
    scene.post.answers = ["too_large"]
    large = alert(1, summary="x" * 200_000)
    scene.place(large)
    asyncio.run(scene.settle())
    [letter] = scene.post.letters
    assert letter.alert is None
    assert letter.original is not None
    assert len(letter.original) <= ORIGINAL_LIMIT * 4 / 3 + 4
    assert letter.original_size == len(large.model_dump_json())
    assert scene.progress.take() == {0: 1}


def test_an_alert_is_given_up_when_it_is_too_old_and_the_sink_still_fails() -> None:
    scene = Scene(*[RetryLater(None, "server_error")] * 1000, give_up_after_s=60)
    scene.place(alert(1))
    scene.now = 30.0
    scene.place(alert(2))
    while scene.now < 80.0:
        asyncio.run(scene.settle())
        scene.now += 0.5
    assert [letter.alert.alert_id for letter in scene.post.letters if letter.alert] == ["inc-1:1"]
    assert scene.post.letters[0].reason == "gave_up"
    assert scene.post.letters[0].attempts > 1
    while scene.now < 100.0:
        asyncio.run(scene.settle())
        scene.now += 0.5
    assert [letter.reason for letter in scene.post.letters] == ["gave_up"] * 2


def test_a_full_queue_waits_once_an_outage_and_then_overflows() -> None:
    scene = Scene(*[RetryLater(None, "unreachable")] * 1000, queue_size=2)
    assert [scene.place(alert(1)), scene.place(alert(2))] == ["placed", "placed"]
    ticket = scene.progress.begin(0, 2)
    assert ticket is not None
    assert scene.place_again(alert(3), ticket) == "wait"
    scene.now = 29.9
    assert scene.place_again(alert(3), ticket) == "wait"
    scene.now = 30.0
    assert scene.place_again(alert(3), ticket) == "overflow"
    assert scene.place(alert(4)) == "overflow"  # no second wait while the outage lasts
    scene.sink.answers.clear()
    asyncio.run(scene.settle())
    assert scene.place(alert(5)) == "placed"
    asyncio.run(scene.settle())
    assert scene.sink.got == ["inc-1:1", "inc-1:2", "inc-1:5"]
    assert [letter.reason for letter in scene.post.letters] == ["queue_full"] * 2
    assert scene.progress.take() == {0: 5}
    scene.place(alert(6))
    scene.place(alert(7))
    ticket = scene.progress.begin(0, 7)
    assert ticket is not None
    assert scene.place_again(alert(8), ticket) == "wait"  # a new outage, a new patience


def test_alerts_of_a_revoked_partition_are_neither_sent_nor_buried() -> None:
    scene = Scene(RetryLater(None, "unreachable"), give_up_after_s=10)
    scene.place(alert(1))
    scene.place(alert(2))
    asyncio.run(scene.settle())
    scene.progress.revoked([0])
    scene.now = 1000.0
    scene.lane.purge()
    asyncio.run(scene.settle())
    assert scene.sink.got == ["inc-1:1"]
    assert scene.post.letters == []
    assert scene.stats.waiting == {"console": 0}


def test_without_a_purge_a_revoked_alert_is_noticed_when_its_turn_comes() -> None:
    scene = Scene()
    scene.place(alert(1))
    scene.progress.revoked([0])
    asyncio.run(scene.settle())
    assert scene.sink.got == []
    assert scene.progress.take() == {}


class Hanging(Scripted):
    async def send(self, what: Alert, /) -> None:
        await asyncio.Event().wait()


def test_a_sink_that_hangs_beyond_the_guard_is_tried_again() -> None:
    scene = Scene()
    lane = Lane(ConsoleConfig(), Hanging(), dataclasses.replace(scene.shop, send_timeout_s=0.01))
    scene.lane = lane
    scene.place(alert(1))
    asyncio.run(lane.step())
    assert scene.stats.retries == {("console", "timeout"): 1}


def test_a_lane_that_is_stopped_ends_after_what_can_go_at_once() -> None:
    scene = Scene(None, RetryLater(1000.0, "rate_limited"))

    async def play() -> None:
        for n in range(3):
            scene.place(alert(n, f"inc-{n}"))
        scene.lane.stop()
        async with asyncio.timeout(5):
            await scene.lane.run()

    asyncio.run(play())
    assert scene.sink.got == ["inc-0:0", "inc-1:1"]


def test_a_queue_of_one_gets_its_patience_back_too() -> None:
    scene = Scene(queue_size=1)
    for n in range(3):
        assert scene.place(alert(2 * n)) == "placed"
        ticket = scene.progress.begin(0, 2 * n + 1)
        assert ticket is not None
        assert scene.place_again(alert(2 * n + 1), ticket) == "wait"
        scene.now += 100.0
        asyncio.run(scene.settle())
        assert scene.place_again(alert(2 * n + 1), ticket) == "placed"
        asyncio.run(scene.settle())
