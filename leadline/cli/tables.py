"""Tables for terminals of any width: no frames, numbers to the right, and columns that give way where there is no room for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

GAP = 2
FOLDED = 24  # cells that a column of sentences needs at least
LONGEST = 3 * FOLDED  # signs of one cell; an id may have hundreds


@dataclass(frozen=True, slots=True)
class Column:
    """`rank` 0 always stands; of the others the highest goes first. `fold`: its texts may take several lines."""

    name: str
    right: bool = False
    fold: bool = False
    rank: int = 0


Row = Sequence["str | Text"]


def chosen(columns: Sequence[Column], rows: Sequence[Row], width: int) -> dict[int, int]:
    """Which columns fit into `width` cells, and how many of them each needs at least."""
    from rich.cells import cell_len

    def needed(at: int) -> int:
        natural = max((cell_len(str(row[at])) for row in rows), default=0)
        return max(cell_len(columns[at].name), min(natural, FOLDED) if columns[at].fold else natural)

    widths = {at: needed(at) for at in range(len(columns))}
    while sum(width_of + GAP for width_of in widths.values()) - GAP > width:
        least = max(widths, key=lambda at: columns[at].rank)
        if not columns[least].rank:
            break
        del widths[least]
    return widths


def clipped(text: str) -> str:
    """At most `LONGEST` signs, the last an ellipsis where something was cut."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def print_table(out: Console, title: str, columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """The title, a line of heads, a line a row. Cells are text, never markup: names are other people's."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    kept = chosen(columns, rows, out.width)
    # This box has a cell of its own between columns.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    for at, least in kept.items():
        column = columns[at]
        table.add_column(
            Text(column.name, style="dim"),
            justify="right" if column.right else "left",
            min_width=least,
            no_wrap=not column.fold,
            overflow="fold" if column.fold else "ellipsis",
        )
    for row in rows:
        table.add_row(*(Text(clipped(cell)) if isinstance(cell, str) else cell for cell in (row[at] for at in kept)))
    if title:
        out.print(Text(title, style="bold"))
    out.print(table)


def print_pairs(out: Console, pairs: Sequence[tuple[str, str | Text]], indent: int = 2) -> None:
    """Names and values, a line each, the values under one another."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, GAP, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(" " * indent + name, Text(value) if isinstance(value, str) else value)
    out.print(table)
