"""The cells of one model: which versions are kept apart, from when on, whatever is read at once."""

from __future__ import annotations

import math

import numpy as np
import pytest

from leadline.config import Panes, Rules
from streams.core.digest_cells import Named
from streams.counting.references import bare
from streams.judge.incidents import Where
from streams.judge.model_cells import ModelCells
from streams.judge.open_panes import Part

LAYOUT = bare("binary", (), (), (), ()).layout
ROWS = LAYOUT.offset("rows")


def counted(*cells: tuple[str, str, int, float]) -> Part:
    """(version, stage, pane, rows) of all traffic."""
    names: list[Named] = [(version, stage, None, pane, 0) for version, stage, pane, _ in cells]
    rows = np.array([rows for *_, rows in cells])
    return Part(names, np.arange(len(cells) + 1), np.full(len(cells), ROWS, dtype=np.int32), rows)


def rows_of(cells: ModelCells, version: str | None, stage: str = "live") -> dict[int, float]:
    spans = cells.spans.get(Where(version, stage, None))
    return {} if spans is None else {pane: block.rows for pane, block in spans.blocks[0].items()}


@pytest.mark.parametrize("at_once", [True, False])
def test_a_shadow_that_is_promoted_is_a_version_like_any_other(at_once: bool) -> None:
    split: list[str] = []
    cells = ModelCells(LAYOUT, Panes(), Rules().traffic_share, lambda where: 0, split.append)
    parts = [
        counted(("1", "live", 0, 5.0), ("2", "shadow", 0, 7.0)),
        counted(("1", "live", 1, 3.0), ("2", "live", 1, 2.0)),
    ]
    for pane, part in enumerate(parts):
        cells.add(part)
        if not at_once:
            cells.close_panes(pane + 1)
    while cells.open:
        cells.close_panes(math.inf)
    assert (cells.versions, cells.serving, split) == (["1", "2"], ["1", "2"], ["1"])
    assert rows_of(cells, None) == {0: 5.0, 1: 5.0}
    assert rows_of(cells, "1") == {0: 5.0, 1: 3.0}
    assert rows_of(cells, "2") == {1: 2.0}
    assert rows_of(cells, "2", "shadow") == {0: 7.0}
    assert [cells.known(end) for end in (0, 1, 2)] == [0, 2, 4]
