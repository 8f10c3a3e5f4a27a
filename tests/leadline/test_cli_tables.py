"""Tables that are read at any width: which columns give way, and what is never cut."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from rich.console import Console

from leadline.cli import status_tables
from leadline.cli.tables import FOLDED, GAP, Column, chosen, print_table

COLUMNS = (
    Column("model", fold=True),
    Column("n", right=True),
    Column("late", right=True, rank=1),
    Column("task", rank=2),
)
ROWS = [("readmission of the north", "1,000,000", "12", "binary"), ("a", "1", "0", "multiclass")]


def printed(width: int, title: str = "") -> str:
    out = io.StringIO()
    print_table(Console(file=out, width=width), title, COLUMNS, ROWS)
    return out.getvalue()


def test_the_least_wanted_column_goes_first_and_those_without_a_rank_stay() -> None:
    assert list(chosen(COLUMNS, ROWS, 120)) == [0, 1, 2, 3]
    everything = FOLDED + len("1,000,000") + len("late") + len("multiclass") + 3 * GAP
    assert list(chosen(COLUMNS, ROWS, everything)) == [0, 1, 2, 3]
    assert list(chosen(COLUMNS, ROWS, everything - 1)) == [0, 1, 2]
    assert list(chosen(COLUMNS, ROWS, 10)) == [0, 1]


@pytest.mark.parametrize("width", range(36, 120, 7))
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(width: int) -> None:
    text = printed(width)
    assert max(map(len, text.splitlines())) <= width
    assert "1,000,000" in text
    assert "…" not in text


def test_names_of_other_people_are_text_and_no_markup() -> None:
    out = io.StringIO()
    print_table(Console(file=out, width=80), "[bold]t[/bold]", (Column("[red]h[/red]"),), [("[blink]x[/blink]",)])
    assert all(word in out.getvalue() for word in ("[bold]t[/bold]", "[red]h[/red]", "[blink]x[/blink]"))


def model(number: int, *, bad: bool) -> dict[str, Any]:
    incident = {
        "id": f"i{number}", "severity": "critical" if number % 2 else "warn", "title": f"fleet-{number}: AUC dropped (all traffic)",
        "signal": "auc", "subject": None, "value": 0.6, "reference": 0.8, "n": 500, "opened_at": 10.0 + number, "onset_at": 10.0 + number,
        "resolved_at": None, "evidence": [{"signal": "psi", "subject": "age"}],
    }  # fmt: skip
    join = {"predictions": 123_456, "joined": 100_000, "late": 5, "pending": 23_451, "expired": 0}
    return {
        "model_id": f"fleet-{number:03d}", "task": "binary", "versions": "1,2", "baseline": "reference", "clock": time.time(),
        "join": join, "incidents": [incident] if bad else [],
    }  # fmt: skip


@pytest.mark.parametrize("width", [80, 100, 160])
def test_two_hundred_models_are_an_overview_with_those_in_trouble_first(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    models = [model(number, bad=number in (150, 151)) for number in range(200)]
    status_tables.show({"models": models, "joins": [], "workers": []}, named=False)
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "models: 200, 2 with open incidents" in lines[0]
    assert [line.split()[0] for line in lines[3:6]] == ["fleet-151", "fleet-150", "fleet-000"]
    assert "and 168 more without an open incident" in text
    assert "with it moved psi of age" in text
    assert len(lines) < 60
