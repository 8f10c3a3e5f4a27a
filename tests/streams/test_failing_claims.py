"""Whatever fails while Faust recovers, or in Faust itself: the worker ends, in time, with that failure and its exit status."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest

from streams.store.log_identity import TopicRecreated
from streams.store.tables import Owner
from streams.transport.chain import Place
from streams.transport.group_thread import ConsumerThread, MortalThread, ThreadOver
from streams.worker.agents import App
from streams.worker.owner import Work
from streams.worker.owners import Owners
from streams.worker.watchdog import EXIT_FAILED, EXIT_STALLED, EXIT_STOP_TOO_SLOW
from streams.worker.worker import Worker
from tests.patience import seconds
from tests.real.backend import Backend
from tests.streams.fleet import Fleet
from tests.streams.inside import Inside, until

STOP_S = 8.0
REFUSED = TopicRecreated("t was deleted and made anew")
Provoke = Callable[[Inside, Worker, pytest.MonkeyPatch], Awaitable[None]]


@pytest.fixture
def inside(embedded: Backend) -> Inside:
    return Inside(embedded)


def refuse_claims(patch: pytest.MonkeyPatch) -> None:
    async def refused(self: Owners, places: Iterable[Place]) -> dict[Place, int]:
        raise REFUSED

    patch.setattr(Owners, "claim", refused)


async def at_a_rebalance(inside: Inside, worker: Worker, patch: pytest.MonkeyPatch) -> None:
    refuse_claims(patch)
    assert worker._app is not None
    await worker._app.consumer._thread.call_thread(rejoin, worker)  # type: ignore[attr-defined]


async def rejoin(worker: Worker) -> None:
    assert worker._app is not None
    worker._app.consumer._thread._consumer._coordinator.request_rejoin()  # type: ignore[attr-defined]


async def when_nothing_is_assigned(inside: Inside, worker: Worker, patch: pytest.MonkeyPatch) -> None:
    refuse_claims(patch)
    assert worker._app is not None
    await worker._app.consumer.threadsafe_partitions_assigned(asyncio.get_running_loop(), set())  # type: ignore[attr-defined]


async def while_records_are_fetched(inside: Inside, worker: Worker, patch: pytest.MonkeyPatch) -> None:
    async def refused(self: Work) -> None:
        raise REFUSED

    patch.setattr(Work, "claim_again", refused)
    assert worker._owners is not None
    worker._owners.intake._lost = {Place(inside.topics.labels, 0)}


async def while_tending(inside: Inside, worker: Worker, patch: pytest.MonkeyPatch) -> None:
    async def refused(owner: Owner, topics: object, shared: object) -> None:
        raise REFUSED

    patch.setattr("streams.worker.owner.try_claim", refused)
    patch.setattr("streams.worker.owners.COMPARE_S", 0.1)
    inside.tables._state(Owner("observe", 0)).offsets.clear()


async def inside_faust(inside: Inside, worker: Worker, patch: pytest.MonkeyPatch) -> None:
    """Its services crash all at once, and the thread of the group is ending by itself when the worker comes to stop it."""
    assert worker._app is not None
    consumer = worker._app.consumer
    thread = consumer._thread  # type: ignore[attr-defined]

    async def leave(self: ConsumerThread, of: object) -> None:
        await asyncio.sleep(2)

    async def quiesce(self: Owners) -> None:
        while not thread.method_queue.should_stop:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        consumer._mirrored.clear()  # type: ignore[attr-defined]  # there is something left to say to the group

    patch.setattr(ConsumerThread, "_leave", leave)
    patch.setattr(Owners, "quiesce", quiesce)
    patch.setattr("streams.worker.worker.QUIESCE_S", 5.0)
    await worker._app.tables.recovery.crash(REFUSED)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "provoke", [at_a_rebalance, when_nothing_is_assigned, while_records_are_fetched, while_tending, inside_faust]
)
def test_what_fails_in_any_state_ends_the_worker_with_its_reason(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, provoke: Provoke
) -> None:
    inside.send(50)
    began = 0.0

    async def body() -> None:
        nonlocal began
        async with inside.worker() as worker:
            await inside.counted(worker)
            began = time.monotonic()
            asked = asyncio.create_task(provoke(inside, worker, monkeypatch))
            await until(lambda: worker.progress().state == "stopping", 20, worker)
            asked.cancel()

    with pytest.raises(TopicRecreated, match="made anew"):
        asyncio.run(body())
    assert time.monotonic() - began < seconds(STOP_S)
    assert "nobody waits for it" not in caplog.text  # everything has ended, nothing was left hanging
    assert ("Crashed reason" in caplog.text) == (
        provoke is inside_faust
    )  # what fails in ours is no crash of Faust's services


def test_a_first_claim_that_fails_ends_the_worker_while_faust_is_still_starting(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_claims(monkeypatch)

    async def body() -> None:
        async with inside.worker() as worker:
            await until(lambda: worker.progress().state == "stopping", 20, worker)

    with pytest.raises(TopicRecreated):
        asyncio.run(body())


def test_a_call_into_a_thread_that_ends_ends_with_it() -> None:
    class Toy(MortalThread):
        """A service in a thread, with nothing to do."""

    async def never() -> None:
        await asyncio.Event().wait()

    async def answer() -> int:
        return 7

    async def body() -> None:
        toy = Toy()
        await toy.start()
        assert await toy.call_thread(answer) == 7
        waiting = asyncio.create_task(toy.call_thread(never))
        await asyncio.sleep(0.05)
        toy._crash(ValueError("elsewhere"))  # as mode does when another service has crashed
        with pytest.raises(ThreadOver):
            await asyncio.wait_for(waiting, 10)
        await asyncio.wait_for(toy.stop(), 10)
        with pytest.raises(ThreadOver):
            await asyncio.wait_for(toy.call_thread(answer), 10)

    asyncio.run(body())


def test_a_faust_that_does_not_stop_keeps_nobody_from_the_reason(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_claims(monkeypatch)

    async def never(self: App) -> None:
        await asyncio.Event().wait()

    stop = App.stop
    monkeypatch.setattr(App, "stop", never)

    async def body() -> None:
        worker = None
        try:
            async with inside.worker(stop_s=2.0) as worker:
                await until(lambda: worker.progress().state == "stopping", 20, worker)
        finally:
            assert worker is not None
            assert worker._app is not None
            await stop(worker._app)

    with pytest.raises(TopicRecreated):
        asyncio.run(body())


@pytest.mark.parametrize("asked", [False, True], ids=["refused", "asked to stop"])
def test_a_process_whose_stop_hangs_is_ended_with_the_status_of_its_reason(
    embedded: Backend, tmp_path: Path, asked: bool
) -> None:
    fleet = Fleet(embedded, tmp_path, {"stop_s": 2.0, "topics_s": 0.2})
    try:
        fleet.send(100)
        worker = fleet.start(hang="stop")
        fleet.assert_exact()
        began = time.monotonic()
        if asked:
            worker.terminate()
        else:
            fleet.store.flushdb()  # the next look finds that the store does not stand where the worker does
        status = worker.wait(60)
        assert time.monotonic() - began < seconds(15 if not asked else 5)
        assert status == (EXIT_STOP_TOO_SLOW if asked else EXIT_FAILED), fleet.log_of(worker)[-3000:]
        if not asked:
            assert "because of StateMissing: Redis holds no state" in fleet.log_of(worker)
    finally:
        fleet.close()


@pytest.mark.parametrize(("hang", "says"), [("batch", "no progress of "), ("loop", "no progress of event loop")])
def test_a_process_that_stands_still_with_something_to_read_ends_itself(
    embedded: Backend, tmp_path: Path, hang: str, says: str
) -> None:
    fleet = Fleet(embedded, tmp_path, {"stall_s": 4.0})
    try:
        fleet.send(100)
        worker = fleet.start(hang=hang)
        assert worker.wait(60) == EXIT_STALLED
        log = fleet.log_of(worker)
        assert says in log
        assert "ending the process" in log
        assert "toy.py" in log  # every thread's stack: where it hangs
    finally:
        fleet.close()
