"""What is stored of one model: a small state beside the rows of its blocks, days and detectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from leadline.events import LearningRow
from streams.judge.incident_lives import LivesState
from streams.judge.incidents import Where
from streams.judge.label_watch import LabelState
from streams.judge.model_judge import ModelJudge
from streams.judge.notes import Notes
from streams.judge.traffic import TrafficState

Rows = Mapping[Where, Mapping[str, bytes]]


class Saved(msgspec.Struct):
    """What is kept of a model beside its blocks and days."""

    layout: str = ""
    closed: int = 0
    versions: list[str] = []
    serving: list[str] = []
    lives: LivesState = msgspec.field(default_factory=LivesState)
    traffic: TrafficState = msgspec.field(default_factory=TrafficState)
    cohorts: dict[int, tuple[int, int, int]] = {}
    learning: list[LearningRow] = []
    schema_seen: dict[str, dict[str, int]] = {}
    sections: dict[str, tuple[int, int]] = {}
    labels: LabelState = msgspec.field(default_factory=LabelState)
    task: Literal["", "binary", "regression", "multiclass"] = ""
    classes: list[str] = []
    renames: dict[str, list[int]] = {}


def save(judge: ModelJudge) -> Saved:
    """All but what rows hold."""
    cells, reference, notes = judge.cells, judge.reference, judge.lives.notes
    return Saved(
        judge.mapping,
        cells.closed,
        cells.versions,
        cells.serving,
        judge.lives.save(),
        cells.traffic.save(),
        {start: (rows, joined, late) for start, (rows, joined, late) in judge.cohorts.items()},
        judge.learning,
        notes.seen,
        reference.layout.sections,
        judge.labels.save(),
        reference.task if reference.is_bare else "",
        list(reference.classes) if reference.is_bare else [],
        renames=notes.renames,
    )


def restore(
    judge: ModelJudge,
    saved: Saved,
    blocks: Rows,
    days: Rows,
    opened: Mapping[str, bytes],
    sequential: dict[str, bytes],
    variation: Mapping[Where, bytes],
) -> None:
    """Takes back what `save` and the rows held. Blocks over edges that the reference no longer has are dropped."""
    if saved.task:
        judge.book.tell_task(judge.model_id, saved.task, saved.classes)
    if judge.book.get(judge.model_id) is not judge.reference:
        judge.change_reference()
    cells, same = judge.cells, saved.layout == judge.mapping
    cells.closed, cells.versions, cells.serving = saved.closed, saved.versions, saved.serving
    judge.lives.restore(saved.lives)
    cells.traffic.restore(saved.traffic)
    judge.sequential.restore(sequential, same)
    judge.variation.restore(variation)
    judge.cohorts = {start: list(counts) for start, counts in saved.cohorts.items()}
    judge.labels.restore(saved.labels)
    judge.learning = saved.learning
    judge.lives.notes = Notes(saved.schema_seen, saved.renames)
    cells.restore_days(days)
    cells.open.restore(opened)
    if same:
        cells.restore_blocks(blocks)
    else:
        cells.drop_blocks(blocks, saved.sections)
