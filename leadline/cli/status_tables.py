"""The tables of `leadline status`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from leadline.cli.common import console, instant, number

WORST = 15
RANK = {"critical": 0, "warn": 1, "ok": 2, "insufficient_data": 3}
STYLE = {"critical": "bold red", "warn": "yellow", "ok": "green", "insufficient_data": "dim"}


def show(found: Mapping[str, Any]) -> None:
    """Everything on standard output."""
    out = console()
    if not found["models"]:
        start = "" if found["workers"] else "run a worker (leadline run) and "
        out.print(f"no model has been seen yet: {start}publish predictions")
    else:
        _models(out, found["models"])
        for model in found["models"]:
            _incidents(out, model)
            _signals(out, model)
    if found["joins"]:
        _joins(out, found["joins"])
    _workers(out, found["workers"])


def _table(title: str, *columns: str) -> Table:
    table = Table(title=Text(title), title_justify="left")
    for column in columns:
        table.add_column(column)
    return table


def _models(out: Console, models: Sequence[Mapping[str, Any]]) -> None:
    states = list(dict.fromkeys(name for model in models for name in model["join"]))
    table = _table("models", "model", "task", "versions", "baseline", "clock (UTC)", *states, "open incidents")
    for model in models:
        opened = model.get("open_incidents") or 0
        table.add_row(
            Text(model["model_id"]),
            model.get("task", ""),
            Text(model.get("versions", "")),
            model.get("baseline", ""),
            instant(model.get("clock")),
            *(number(model["join"].get(state, 0)) for state in states),
            Text(str(opened), style="bold red" if opened else "green"),
        )
    out.print(table)


def _incidents(out: Console, model: Mapping[str, Any]) -> None:
    opened = [row for row in model["incidents"] if row["resolved_at"] is None]
    if not opened:
        return
    table = _table(
        f"{model['model_id']}: open incidents", "since (UTC)", "severity", "incident", "value", "reference", "n", "id"
    )
    for row in opened:
        table.add_row(
            instant(row["onset_at"]),
            Text(row["severity"], style=STYLE.get(row["severity"], "")),
            Text(row["title"]),
            number(row["value"]),
            number(row["reference"]),
            number(row["n"]),
            Text(row["id"], style="dim"),
        )
    out.print(table)


def _signals(out: Console, model: Mapping[str, Any]) -> None:
    signals = sorted(model["signals"], key=_badness)
    if not signals:
        return
    title = f"{model['model_id']}: the worst {min(WORST, len(signals))} of {len(signals)} signals (all: --json)"
    table = _table(
        title, "verdict", "signal", "subject", "version", "segment", "value", "reference", "noise floor", "n"
    )
    for row in signals[:WORST]:
        table.add_row(
            Text(row["verdict"], style=STYLE.get(row["verdict"], "")),
            Text(row["signal"]),
            Text(row["subject"] or "–"),
            Text(row["model_version"] or "all"),
            Text(row["segment"] or "all"),
            number(row["value"]),
            number(row["reference"]),
            number(row["noise_floor"]),
            number(row["n"]),
        )
    out.print(table)


def _badness(row: Mapping[str, Any]) -> tuple[int, float, str, str]:
    """Verdict first; within one, how far the value stands beyond what noise alone could do."""
    value, floor, reference = row["value"], row["noise_floor"], row["reference"]
    beyond = 0.0
    if value is not None and reference is not None and floor:
        beyond = abs(value - reference) / floor
    return (RANK.get(row["verdict"], 9), -beyond, row["signal"], row["subject"] or "")


def _joins(out: Console, joins: Sequence[Mapping[str, Any]]) -> None:
    names = [
        name for name in dict.fromkeys(name for row in joins for name in row) if name not in ("partition", "watermark")
    ]
    table = _table(
        "join, counted since the beginning", "count", "all", *(f"partition {row['partition']}" for row in joins)
    )
    for name in names:
        counts = [row.get(name) or 0 for row in joins]
        table.add_row(name, number(sum(counts)), *(number(count) for count in counts))
    table.add_row("watermark (UTC)", "", *(instant(row.get("watermark")) for row in joins))
    out.print(table)


def _workers(out: Console, workers: Sequence[Mapping[str, Any]]) -> None:
    if not workers:
        out.print("no worker is running (a worker that was killed is shown for up to a minute)")
        return
    table = _table(
        "workers",
        "worker",
        "state",
        "healthy",
        "events",
        "events/s",
        "lag",
        "unsent",
        "data gaps",
        "misplaced keys",
        "since",
    )
    for row in workers:
        table.add_row(
            Text(row["worker_id"]),
            row.get("state", ""),
            Text(row.get("healthy", ""), style="green" if row.get("healthy") == "yes" else "bold red"),
            row.get("events", ""),
            row.get("events_per_second", ""),
            row.get("lag", ""),
            row.get("outbox_waiting", ""),
            row.get("data_gaps", ""),
            _share(row.get("misplaced_keys", "")),
            row.get("started", ""),
        )
    out.print(table)


def _share(text: str) -> Text:
    """Keys in a wrong partition, as a share: none is right."""
    share = float(text or 0)
    return Text(f"{share:.1%}" if share else "0", style="bold red" if share else "")
