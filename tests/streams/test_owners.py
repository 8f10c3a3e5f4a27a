"""What was thrown away on its way, and what only waits behind another owner's work."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from streams.store.tables import Owner
from streams.transport.intake import Fetched
from streams.worker import owners
from streams.worker.owners import Owners

ONE, OTHER, JUDGE = Owner("observe", 0), Owner("observe", 1), Owner("judge", 0)


class Busy:
    """An owner whose batch ends when it is told."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def process(self, parts: object) -> None:
        await self.over.wait()


def test_a_batch_is_thrown_away_once_a_later_one_has_passed_it_or_nothing_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("streams.worker.owners.time", SimpleNamespace(monotonic=lambda: now))

    async def body() -> None:
        nonlocal now
        intake = SimpleNamespace(handed={ONE: 1, JUDGE: 3, OTHER: 4})
        topics = SimpleNamespace(groups=lambda roles: {"observe": ("a", "b"), "judge": ("c",)})
        settings = SimpleNamespace(topics=topics, roles=(), owners_at_once=1, claim_timeout_s=1.0)
        ours = Owners(cast(Any, SimpleNamespace(intake=intake, settings=settings)))
        busy = {owner: Busy() for owner in (ONE, JUDGE)}
        ours._works.update(cast(Any, busy))
        await ours.submit(Fetched(ONE, (), 1))
        waiting = asyncio.create_task(ours.submit(Fetched(JUDGE, (), 3)))  # there is room for one
        await asyncio.sleep(0)
        now = 10 * owners.STRAY_S
        assert not any(map(ours._is_thrown_away, (ONE, JUDGE, OTHER)))  # at work, waiting for room, not come yet
        intake.handed[ONE] = 5
        later = asyncio.create_task(ours.submit(Fetched(ONE, (), 5)))
        await asyncio.sleep(0)
        assert ours._is_thrown_away(OTHER)
        assert not ours._is_thrown_away(ONE)
        for one in busy.values():
            one.over.set()
        await asyncio.gather(waiting, later)
        while ours._running:
            await asyncio.sleep(0)
        intake.handed[JUDGE] = 6
        assert not ours._is_thrown_away(JUDGE)
        now += 2 * owners.STRAY_S
        assert ours._is_thrown_away(JUDGE)

    asyncio.run(asyncio.wait_for(body(), 30))
