"""Each safeguard is needed: with it everything is exact, without it the verdict says so."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from streams.core.stage import Effects
from streams.store import tables_redis
from streams.store.tables import Change, Outcome, Owner
from streams.store.tables_redis import RedisTables
from tests.faults.episode import Order, run
from tests.real.backend import Backend

BACK_IN_TIME = ("redis_lossy_restart", "redis_lossy_restart", "redis_lossy_restart")
RESENT = ("nothing", "nothing", "nothing", "kill")  # when something was sent
LOST: tuple[str, ...] = ()


def faults_of(folder: Path, provocation: str, safeguard: str, first: tuple[str, ...], drain_s: float) -> list[str]:
    """What differs after a few thousand events through one worker with that provocation and without that safeguard.

    A worker that never gets to the end differs too.
    """
    module = ("tests.faults.broken", provocation, safeguard)
    nothing = {"nothing": 1.0}
    order = Order("embedded", 5, 4.0, 600.0, nothing, 1, drain_s, module, requests=2_500, first=first)
    try:
        return run(order, folder).verdict.faults
    except AssertionError as error:
        return [str(error)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("provocation", "first"), [("lost-batches", LOST), ("resends", RESENT), ("nothing", BACK_IN_TIME)]
)
def test_with_all_safeguards_provocations_change_nothing(
    tmp_path: Path, provocation: str, first: tuple[str, ...]
) -> None:
    assert faults_of(tmp_path, provocation, "nothing", first, 120.0) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("safeguard", "provocation", "first", "says"),
    [
        ("chain", "lost-batches", LOST, "observers: predictions"),
        ("expected-offset", "nothing", BACK_IN_TIME, "should be|unsent"),
        ("lines", "nothing", BACK_IN_TIME, "cohorts of"),
        ("skip", "resends", RESENT, "cohorts of"),
        ("ids", "resends", RESENT, "on the topic of rejected"),
    ],
)
def test_a_broken_safeguard_is_noticed(
    tmp_path: Path, safeguard: str, provocation: str, first: tuple[str, ...], says: str
) -> None:
    faults = faults_of(tmp_path, provocation, safeguard, first, 40.0)
    assert any(word in fault for fault in faults for word in says.split("|")), faults


def stale_commit(url: str) -> Outcome:
    """What an owner is told whose partition was claimed by another one, although the offsets are as it believes."""

    async def body() -> Outcome:
        tables, one = RedisTables(url), Owner("observe", 0)
        await tables.start()
        try:
            stale = (await tables.claim(one)).fence
            await tables.claim(one)
            return await tables.commit(one, Change(stale, {"t": None}, {"t": 1}, Effects()))
        finally:
            await tables.close()

    return asyncio.run(body())


def test_a_broken_fence_is_noticed(embedded: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stale_commit(embedded.fresh().redis_url) is Outcome.FENCED
    monkeypatch.setattr(tables_redis, "COMMIT", tables_redis.COMMIT.replace("then return 0 end", "then end"))
    assert stale_commit(embedded.fresh().redis_url) is Outcome.COMMITTED
