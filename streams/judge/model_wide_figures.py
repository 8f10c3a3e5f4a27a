"""Figures that no single cell's counts give: gaps between cells, and what is watched of the labels themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from streams.core.days import DAY_S
from streams.counting.figure import NAN, Figure, estimated, number
from streams.counting.layout import Layout, Vector
from streams.figures.group_figures import group_figures
from streams.figures.outcome_figures import business_mean, lift_figure
from streams.judge.cohorts import Cohorts
from streams.judge.incidents import Where
from streams.judge.label_watch import EVERYONE, LabelWatch

RECENT_DAYS = 2
"""UTC days of arrival, the running one among them, over which live views compare groups; `panes.days_kept` is at least as many."""


class Placed(NamedTuple):
    """A figure with its cell, axis and window; null ends: the whole log. Epoch seconds."""

    where: Where
    axis: str
    start: float | None
    end: float | None
    figure: Figure


def between_cells(
    layout: Layout,
    vectors: Mapping[Where, Vector],
    control: str | None,
    usual: Mapping[str | None, Vector] | None = None,
) -> Iterator[tuple[Where, Figure]]:
    """Gaps between the values of each segment name (the segment is null, the subject its name), and lifts against the control group.

    `usual` are the reference's vectors by segment: their own gaps stand as reference.
    """
    named: dict[tuple[str | None, str, str], dict[str, Vector]] = {}
    for where, vector in vectors.items():
        if where.segment is not None:
            key = (where.version, where.stage, where.segment.partition("=")[0])
            named.setdefault(key, {})[where.segment] = vector
    for (version, stage, _), groups in named.items():
        before = {segment: usual[segment] for segment in groups if usual and segment in usual}
        own = {figure.signal: figure.value for figure in group_figures(layout, before)}
        for figure in group_figures(layout, groups):
            yield Where(version, stage, None), figure._replace(reference=own.get(figure.signal, NAN))
        if control is None or control not in groups:
            continue
        for name in layout.business:
            base = business_mean(layout, groups[control], name)
            for segment, vector in groups.items():
                live = business_mean(layout, vector, name) if segment != control else None
                if live is not None and base is not None:
                    figure = lift_figure("business_lift_control", name, live, base)
                    yield Where(version, stage, segment), figure


def of_days(layout: Layout, days: Cohorts, control: str | None, usual: Mapping[str | None, Vector]) -> Iterator[Placed]:
    """`between_cells` over the whole log and each day of the predictions."""
    cells = dict.fromkeys(where for where, _ in days.cells())
    whole = {where: days.total(where) for where in cells}
    for where, figure in between_cells(layout, whole, control, usual):
        yield Placed(where, "cohort", None, None, figure)
    of_day: dict[int, dict[Where, Vector]] = {}
    for where, day in days.cells():
        of_day.setdefault(day, {})[where] = days.day(where, day)
    for day, vectors in sorted(of_day.items()):
        for where, figure in between_cells(layout, vectors, control, usual):
            yield Placed(where, "cohort", float(day * DAY_S), float((day + 1) * DAY_S), figure)


def of_recent_days(
    layout: Layout, arrivals: Cohorts, control: str | None, usual: Mapping[str | None, Vector]
) -> Iterator[Placed]:
    """`between_cells` over the last two days: what came in them, of predictions and of outcomes. By the day of the prediction there were no
    outcomes where labels take longer."""
    cells = arrivals.cells()
    last = max((day for _, day in cells), default=0)
    vectors: dict[Where, Vector] = {}
    for where, day in cells:
        if day > last - RECENT_DAYS:
            vector = arrivals.day(where, day)
            vectors[where] = vectors[where] + vector if where in vectors else vector
    start, end = float((last - RECENT_DAYS + 1) * DAY_S), float((last + 1) * DAY_S)
    for where, figure in between_cells(layout, vectors, control, usual):
        yield Placed(where, "arrival", start, end, figure)


def of_labels(watch: LabelWatch) -> Iterator[Placed]:
    """Coverage of what is due, of open cohorts at their age, and the share of each version of the label's definition."""
    due = watch.coverage.due()
    if due is not None:
        yield Placed(EVERYONE, "cohort", None, None, estimated("outcome", "label_coverage_due", due, None))
    expected = watch.coverage.expected()
    if expected is not None:
        live, usual = expected
        figure = estimated("outcome", "label_coverage_same_age", live, None)
        yield Placed(EVERYONE, "cohort", None, None, figure._replace(reference=usual))
    definitions = watch.definitions
    for day in (None, *sorted(definitions.state.days)):
        start, end = (None, None) if day is None else (float(day * DAY_S), float((day + 1) * DAY_S))
        for name, part in definitions.shares(day).items():
            figure = Figure(
                "outcome", "label_definition_share", name, number(part.value), round(number(part.n)), NAN, NAN
            )
            yield Placed(EVERYONE, "arrival", start, end, figure)
