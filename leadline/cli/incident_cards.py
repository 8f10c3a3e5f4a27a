"""Incidents as people read them in a terminal: severity and title, when, the figure, and what moved with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from leadline.cli.common import number

WITH = 4  # other signals of an incident
RANK = {"critical": 0, "warn": 1, "ok": 2, "insufficient_data": 3}
STYLE = {"critical": "bold red", "warn": "yellow", "ok": "green", "insufficient_data": "dim"}
Row = Mapping[str, Any]


def opened(model: Row) -> list[Row]:
    """Its open incidents, the gravest first, of these the oldest."""
    rows = [row for row in model["incidents"] if row["resolved_at"] is None]
    return sorted(rows, key=lambda row: (RANK.get(row["severity"], 9), row["onset_at"], row["id"]))


def what(row: Row) -> str:
    """A signal and its subject."""
    return f"{row['signal']} of {row['subject']}" if row["subject"] else str(row["signal"])


def card(row: Row, when: str) -> Table:
    """One incident: its severity, and beside it title, when, the figure, and what moved with it."""
    words = Text(f"{row['title']}\n{when}, {what(row)} {number(row['value'])}")
    if row["reference"] is not None:
        words.append(f" against {number(row['reference'])}")
    words.append(f", n {number(row['n'])}, id {row['id']}")
    others = list(dict.fromkeys(what(each) for each in row.get("evidence", ()) if what(each) != what(row)))
    if others:
        more = f" and {len(others) - WITH} more" if len(others) > WITH else ""
        words.append(f"\nwith it moved {', '.join(others[:WITH])}{more}", "dim")
    found = Table.grid(padding=(0, 2, 0, 0))
    found.add_column(width=len("critical"), no_wrap=True)
    found.add_column()
    found.add_row(Text(row["severity"], STYLE.get(row["severity"], "")), words)
    return found
