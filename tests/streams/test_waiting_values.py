"""Waiting values come out in order, in whole chunks, the same ones however they came, asked for, or were stored between."""

from __future__ import annotations

import random

import numpy as np
import pytest

from leadline.events import DigestSample
from streams.counting.sampling import LEVELS
from streams.judge.waiting_values import CHUNK, MAX_WAITING, Group, WaitingValues

GROUP = Group("1", "live", "features")


def sample(rows: list[tuple[float, int, int]]) -> DigestSample:
    """Two streams; the second has every third value missing."""
    times, order, levels = ([row[part] for row in rows] for part in range(3))
    return DigestSample("1", "live", "features", times, order, [levels, [-1 if at % 3 == 0 else at for at in levels]])  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_chunks_are_the_same_however_values_come_and_whatever_restarts_lie_between(seed: int) -> None:
    draw = random.Random(seed)
    rows = [(float(draw.randint(0, 300)), draw.randint(0, 5) * 1000 + at, draw.randint(0, LEVELS)) for at in range(900)]
    rows.sort(key=lambda row: row[0] // 50)  # in order but for the last fifty seconds
    waiting, table, taken = WaitingValues(), {}, []
    at = 0
    while at < len(rows):
        size = draw.randint(1, 120)
        waiting.keep(sample(rows[at : at + size]))
        at += size
        # Nothing that is still to come lies before the fifty seconds that the next row is in.
        before = rows[at][0] // 50 * 50 if at < len(rows) else 1e9
        for tick in [*sorted(draw.uniform(0, before) for _ in range(3)), before]:
            chunk = waiting.take(GROUP, tick)
            taken += [chunk] if chunk is not None else []
        written, gone = waiting.take_changes()
        table = {name: row for name, row in table.items() if name not in gone} | written
        if draw.random() < 0.5:
            waiting = WaitingValues()
            waiting.restore(dict(sorted(table.items(), key=lambda item: draw.random())))
    expected = sorted(rows)[: len(rows) // CHUNK * CHUNK]
    assert all(len(chunk.times) % CHUNK == 0 and chunk.values.shape == (2, len(chunk.times)) for chunk in taken)
    assert np.concatenate([chunk.times for chunk in taken]).tolist() == [row[0] for row in expected]
    values = np.concatenate([chunk.values for chunk in taken], axis=1)
    assert values[0].tolist() == [row[2] / LEVELS for row in expected]
    missing = np.array([row[2] % 3 == 0 for row in expected])
    assert (np.isnan(values[1]) == missing).all()


def test_a_value_at_the_tick_waits_for_the_next() -> None:
    waiting = WaitingValues()
    waiting.keep(sample([(1.0, at, at) for at in range(CHUNK - 1)] + [(2.0, 0, 0)]))
    assert waiting.take(GROUP, 2.0) is None
    chunk = waiting.take(GROUP, 2.1)
    assert chunk is not None
    assert len(chunk.times) == CHUNK


def test_cleared_it_removes_its_rows() -> None:
    waiting = WaitingValues()
    waiting.keep(sample([(1.0, 1, 1)]))
    waiting.keep(sample([(2.0, 1, 1)]))
    written, _ = waiting.take_changes()
    assert len(written) == 2
    waiting.clear()
    assert waiting.take_changes() == ({}, list(written))


def test_beyond_the_bound_values_are_dropped_and_counted() -> None:
    waiting = WaitingValues()
    waiting.keep(sample([(float(at), at, 1) for at in range(MAX_WAITING)]))
    waiting.keep(sample([(0.0, 1, 1)] * 7))
    assert waiting.dropped == 7
    assert waiting.queues[GROUP].waiting == MAX_WAITING
