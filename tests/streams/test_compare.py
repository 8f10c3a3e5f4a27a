"""While nothing comes an owner compares the store with itself: what went back in time is taken up again."""

from __future__ import annotations

import asyncio

from streams.store.tables import Owner
from tests.faults.world import World
from tests.streams.history import T0, label, prediction

OBSERVER = Owner("observe", 0)


async def observed() -> World:
    """A batch is committed and its messages are on their way."""
    world = World()
    await world.claim(0, "observe")
    for event in (prediction(1, T0), label(1, T0 + 60, True)):
        world.publish(event)
    await world.work(0, "observe", 20)
    return world


def test_messages_that_the_store_holds_again_are_sent_again_under_the_same_ids() -> None:
    async def body() -> None:
        world = await observed()
        sender, work = world.workers[0].sender, world.workers[0].works["observe"]
        first = [message.id for _, message in sender.queue]
        world.store.keep()
        await world.send(0, 20, "at once")
        assert first
        assert await world.store.owed(OBSERVER) == 0
        world.store.back(-1)  # to before it was told
        assert await world.store.owed(OBSERVER) == len(first)
        await work.compare()
        assert [message.id for _, message in sender.queue] == first
        await world.send(0, 20, "at once")
        assert await world.store.owed(OBSERVER) == 0

    asyncio.run(body())


def test_messages_on_their_way_are_no_reason_to_begin_again() -> None:
    async def body() -> None:
        world = await observed()
        work, waiting = world.workers[0].works["observe"], len(world.workers[0].sender.queue)
        for told in (0, 1):  # then confirmed, and the store has not heard of it
            await work.compare()
            assert len(world.workers[0].sender.queue) == (0 if told else waiting)
            assert world.store._state(OBSERVER).claims == 1
            await world.send(0, 20, "late")

    asyncio.run(body())
