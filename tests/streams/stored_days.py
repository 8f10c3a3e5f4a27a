"""The sums of days as they will be once every open pane has ended."""

from __future__ import annotations

import copy

from streams.judge.cohorts import Cohorts
from streams.judge.model_cells import ModelCells


def all_days(cells: ModelCells) -> Cohorts:
    """By the day of the prediction; the cells stay as they are."""
    ended = copy.deepcopy(cells)
    for pane in ended.open.panes():
        ended.close_pane(pane)
    return ended.days
