"""The report of a backtest: flat rows, documented in docs/report.md, versioned. The same log gives the same bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from typing import Any

import msgspec
import numpy as np

import leadline
from streams.backtest.backtest import Backtest
from streams.core.days import DAY_S
from streams.counting.figure import Figure
from streams.figures.figures import figures
from streams.judge.incidents import Where
from streams.judge.model_judge import ModelJudge
from streams.judge.model_wide_figures import of_days, of_labels
from streams.judge.views import incident_row

REPORT_VERSION = 1


def build_report(backtest: Backtest) -> dict[str, Any]:
    """Everything the log said: counts, rejected, figures, incidents and the alerts that would have been sent."""
    config = backtest.config
    models = backtest.judge.models
    return {
        "version": REPORT_VERSION,
        "leadline": leadline.__version__,
        "parameters": {
            "delay_window_s": config.join.delay_window,
            "early_tolerance_s": config.join.early_tolerance,
            "pane_s": config.panes.pane,
            "false_alarms_per_month": config.rules.false_alarms_per_month,
        },
        "clock": _finite(backtest.clock),
        "models": [_model(judge) for _, judge in sorted(models.items())],
        "counts": backtest.counts(),
        "rejected": dict(sorted(backtest.observer.rejected.items())),
        "figures": [row for _, judge in sorted(models.items()) for row in figure_rows(judge)],
        "incidents": [
            incident_row(incident)
            for _, judge in sorted(models.items())
            for incident in sorted([*judge.resolved, *judge.incidents], key=lambda item: (item.opened_at, item.id))
        ],
        "alerts": [alert.model_dump(mode="json") for alert in backtest.alerts],
    }


def _model(judge: ModelJudge) -> dict[str, Any]:
    reference = judge.reference
    return {
        "model_id": judge.model_id,
        "task": reference.task,
        "versions": judge.cells.versions,
        "baseline": "none"
        if not reference.features and reference.learned
        else "learned"
        if reference.learned
        else "reference",
        "reference_fingerprint": reference.fingerprint,
        "reference_rows": reference.rows,
        "features": [feature.name for feature in reference.features],
    }


def figure_rows(judge: ModelJudge) -> Iterator[dict[str, Any]]:
    """Every figure of every cell: the whole log (null window) and each UTC day, by the day of the prediction (axis cohort); outcomes
    also by the day on which the pair was complete (axis arrival). Then what no single cell gives."""
    only = judge.cells.serving[0] if len(judge.cells.serving) == 1 else None
    for axis, cohorts in (("cohort", judge.cells.days), ("arrival", judge.cells.arrivals)):
        days: dict[Where, list[int]] = {}
        for where, day in cohorts.cells():
            days.setdefault(where, []).append(day)
        for where, known in days.items():
            # One serving version alone is the same as all: its rows are written beside them.
            versions = [where.version] if only is None or where.version is not None else [None, only]
            baseline = judge.live.vector(where.segment)
            windows: list[tuple[float | None, float | None, np.ndarray]] = [(None, None, cohorts.total(where))]
            windows += [(float(day * DAY_S), float((day + 1) * DAY_S), cohorts.day(where, day)) for day in known]
            for start, end, vector in windows:
                rows = [
                    figure
                    for figure in figures(judge.reference, vector, baseline, judge.evaluator.latency_slo_ms)
                    if axis == "cohort" or (figure.layer == "outcome" and figure.signal != "label_coverage")
                ]
                for version in versions:
                    for figure in rows:
                        yield _row(judge.model_id, version, where, axis, start, end, figure)
    layout, control, usual = judge.reference.layout, judge.groups.control, judge.reference.cells
    placed = chain(of_days(layout, judge.cells.days, control, usual), of_labels(judge.labels))
    for where, axis, start, end, figure in placed:
        for version in [where.version] if only is None or where.version is not None else [None, only]:
            yield _row(judge.model_id, version, where, axis, start, end, figure)
    for where, figure in judge.sequential.figures(judge.cells.several):
        yield _row(judge.model_id, where.version, where, "arrival", None, None, figure)


def _row(
    model_id: str, version: str | None, where: Where, axis: str, start: float | None, end: float | None, figure: Figure
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "model_id": model_id,
        "model_version": version,
        "segment": where.segment,
        "signal": figure.signal,
        "subject": figure.subject,
        "axis": axis,
        "window_start": start,
        "window_end": end,
        "value": _finite(figure.value),
        "n": figure.n,
        "reference": _finite(figure.reference),
        "noise_floor": _finite(figure.floor),
        "layer": figure.layer,
        "stage": where.stage,
    }
    if math.isfinite(figure.bound):
        row["bound"] = figure.bound
    return row


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def encode_report(report: dict[str, Any]) -> bytes:
    """JSON, keys in order of writing, one space of indentation."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1)
