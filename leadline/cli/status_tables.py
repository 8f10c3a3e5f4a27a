"""What `leadline status` prints, readable at 80 columns: an overview of models, open incidents, signals, joins, workers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from leadline.cli.common import ago, console, instant, number
from leadline.cli.incident_cards import RANK, STYLE, Row, card, opened, what
from leadline.cli.tables import Column, print_pairs, print_table

WORST = 15  # signals of one model
OVERVIEW = 30  # models without an open incident
INCIDENTS = 20
RESOLVED = 5
SHORT = {"insufficient_data": "no verdict"}


def show(found: Mapping[str, Any], *, named: bool) -> None:
    """On standard output: of a `named` model all that is known of it, else everything; signals where there is one model."""
    out, now = console(), time.time()
    models = found["models"]
    alone = len(models) == 1
    if not models:
        start = "" if found["workers"] else "run a worker (leadline run) and "
        out.print(f"no model has been seen yet: {start}publish predictions", highlight=False)
    else:
        _models(out, models, now)
        _incidents(out, models, now)
        for model in models if alone else ():
            _resolved(out, model, now)
            _signals(out, model)
    if named:
        return
    _joins(out, found["joins"], now)
    _workers(out, found["workers"], now)
    if models and not alone:
        out.print(Text("signals of one model: leadline status MODEL; everything: --json", style="dim"))


def _models(out: Console, models: Sequence[Row], now: float) -> None:
    bad = sorted((model for model in models if opened(model)), key=lambda model: (_gravity(model), model["model_id"]))
    good = [model for model in models if not opened(model)]
    columns = (
        Column("model", fold=True),
        Column("incidents"),
        Column("predictions", right=True),
        Column("joined", right=True),
        Column("pending", right=True, rank=1),
        Column("late", right=True, rank=2),
        Column("expired", right=True, rank=3),
        Column("clock", right=True),
        Column("baseline", rank=4),
        Column("task", rank=6),
        Column("versions", fold=True, rank=5),
    )
    states = ("predictions", "joined", "pending", "late", "expired")
    rows = [
        (
            model["model_id"],
            _open_words(model),
            *(number(model["join"].get(state, 0)) for state in states),
            ago(model.get("clock"), now),
            model.get("baseline", ""),
            model.get("task", ""),
            model.get("versions", "").replace(",", ", "),
        )
        for model in [*bad, *good[:OVERVIEW]]
    ]
    with_open = f", {len(bad)} with open incidents" if bad else ", none with an open incident"
    print_table(out, f"models: {len(models)}{with_open}", columns, rows)
    if len(good) > OVERVIEW:
        out.print(Text(f"and {len(good) - OVERVIEW} more without an open incident", style="dim"))
    out.print()


def _gravity(model: Row) -> int:
    return min(RANK.get(row["severity"], 9) for row in opened(model))


def _open_words(model: Row) -> Text:
    counts: dict[str, int] = {}
    for row in opened(model):
        counts[row["severity"]] = counts.get(row["severity"], 0) + 1
    if not counts:
        return Text("none", style="green")
    words = [
        Text(f"{counts[name]} {name}", STYLE.get(name, ""))
        for name in sorted(counts, key=lambda name: RANK.get(name, 9))
    ]
    return Text(", ").join(words)


def _incidents(out: Console, models: Sequence[Row], now: float) -> None:
    rows = [row for model in models for row in opened(model)]
    if not rows:
        return
    rows.sort(key=lambda row: (RANK.get(row["severity"], 9), row["onset_at"], row["id"]))
    out.print(Text("open incidents", style="bold"))
    for row in rows[:INCIDENTS]:
        out.print(card(row, f"since {instant(row['onset_at'])} UTC ({ago(row['onset_at'], now)})"))
    if len(rows) > INCIDENTS:
        out.print(Text(f"and {len(rows) - INCIDENTS} more", style="dim"))
    out.print()


def _resolved(out: Console, model: Row, now: float) -> None:
    rows = sorted(
        (row for row in model["incidents"] if row["resolved_at"] is not None), key=lambda row: -row["resolved_at"]
    )
    if not rows:
        return
    out.print(Text("resolved last", style="bold"))
    for row in rows[:RESOLVED]:
        ended = f"{instant(row['resolved_at'])} UTC ({ago(row['resolved_at'], now)})"
        out.print(card(row, f"{instant(row['onset_at'])} to {ended}"))
    out.print()


def _signals(out: Console, model: Row) -> None:
    signals = sorted(model["signals"], key=_badness)
    if not signals:
        out.print(Text("no signals yet: they come with the first pane that is over\n", style="dim"))
        return
    columns = (
        Column("verdict"),
        Column("signal", fold=True),
        Column("where", fold=True),
        Column("value", right=True),
        Column("reference", right=True),
        Column("noise floor", right=True, rank=1),
        Column("n", right=True),
    )
    rows = [
        (
            Text(SHORT.get(row["verdict"], row["verdict"]), style=STYLE.get(row["verdict"], "")),
            what(row),
            _where(row),
            number(row["value"]),
            number(row["reference"]),
            number(row["noise_floor"]),
            number(row["n"]),
        )
        for row in signals[:WORST]
    ]
    shown = f"the worst {WORST} of {len(signals)}" if len(signals) > WORST else str(len(signals))
    print_table(out, f"signals of {model['model_id']}: {shown}", columns, rows)
    if len(signals) > WORST:
        out.print(Text("all of them: --json", style="dim"))
    out.print()


def _where(row: Row) -> str:
    return ", ".join(part for part in (row["model_version"], row["segment"]) if part) or "all traffic"


def _badness(row: Row) -> tuple[int, float, str, str]:
    """Verdict first; within one, how far the value stands beyond what noise alone could do."""
    value, floor, reference = row["value"], row["noise_floor"], row["reference"]
    beyond = 0.0
    if value is not None and reference is not None and floor:
        beyond = abs(value - reference) / floor
    return (RANK.get(row["verdict"], 9), -beyond, row["signal"], row["subject"] or "")


def _joins(out: Console, joins: Sequence[Row], now: float) -> None:
    """Sums over the partitions; of single ones only how far apart their watermarks are, which tells of one that stands."""
    if not joins:
        return
    names = sorted({name for row in joins for name in row} - {"partition", "watermark"}, key=_order)
    out.print(Text(f"join, since the beginning ({len(joins)} partition{'s' if len(joins) > 1 else ''})", style="bold"))
    pairs: list[tuple[str, str | Text]] = [(name, number(sum(row.get(name) or 0 for row in joins))) for name in names]
    marks = sorted((row["watermark"], row["partition"]) for row in joins if row.get("watermark") is not None)
    if marks:
        (least, partition), (most, _) = marks[0], marks[-1]
        words = f"{instant(least)} UTC ({ago(least, now)})"
        if most - least >= 1:
            words += f", partition {partition}; the farthest {instant(most)}"
        pairs.append(("watermark", words))
    print_pairs(out, pairs)
    out.print()


ORDER = ("predictions", "labels", "joined", "late", "early", "revised")


def _order(name: str) -> tuple[int, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def _workers(out: Console, workers: Sequence[Row], now: float) -> None:
    if not workers:
        out.print("no worker is running (a worker that was killed is shown for up to a minute)", highlight=False)
        return
    columns = (
        Column("worker", fold=True),
        Column("state"),
        Column("healthy"),
        Column("events", right=True, rank=3),
        Column("events/s", right=True),
        Column("lag", right=True),
        Column("unsent", right=True, rank=1),
        Column("data gaps", right=True),
        Column("misplaced", right=True),
        Column("started", right=True, rank=2),
    )
    rows = [
        (
            row["worker_id"],
            str(row.get("state", "")),
            Text(str(row.get("healthy", "")), style="green" if row.get("healthy") == "yes" else "bold red"),
            *(number(row.get(name, "")) for name in ("events", "events_per_second", "lag", "outbox_waiting")),
            _alarming(row.get("data_gaps"), number(row.get("data_gaps", ""))),
            _alarming(row.get("misplaced_keys"), f"{float(row.get('misplaced_keys') or 0):.1%}"),
            ago(_epoch(row.get("started")), now),
        )
        for row in workers
    ]
    print_table(out, f"workers: {len(workers)}", columns, rows)


def _alarming(value: object, text: str) -> Text:
    return Text(text, style="bold red") if value else Text("0")


def _epoch(text: object) -> float | None:
    from datetime import datetime

    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None
