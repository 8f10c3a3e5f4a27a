"""The console: all that matters on any terminal, and other people's names are only text."""

from __future__ import annotations

import asyncio
import io

import pytest
from rich.console import Console

from leadline.alert import Alert
from sinks.base import RetryLater
from sinks.console import ConsoleConfig, ConsoleSink
from tests.sinks.samples import alert, full_alert


def printed(what: Alert, *, width: int = 100, colour: bool = False) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=colour, highlight=False)

    async def scene() -> None:
        sink = ConsoleSink(ConsoleConfig(), console)
        await sink.send(what)
        await sink.close()

    asyncio.run(scene())
    return stream.getvalue()


@pytest.mark.parametrize("width", [60, 100, 200])
def test_the_panel_says_what_a_tired_person_needs(width: int) -> None:
    shown = " ".join(printed(full_alert(), width=width).replace("│", " ").split())
    for words in ("WARN", "Resolved", "readmission", "version 3", "0.3123 against 0.1", "n = 4,200", "Since"):
        assert words in shown
    for words in ("Changed before", "deploy 3", "To do", "Compare the scaler", "incident inc-1"):
        assert words in shown


def test_a_long_title_is_whole_on_a_narrow_terminal() -> None:
    title = "readmission: age, length_of_stay, creatinine: standardised again before the model: a re-fitted scaler (version 3.1.0)"
    shown = " ".join(printed(alert(title=title), width=60).replace("│", " ").split())
    assert title in shown
    assert "…" not in shown


def test_markup_and_escapes_in_names_are_text() -> None:
    shown = printed(alert(title="[red]x[/red]\x1b[2J", summary="[bold]"), colour=True)
    assert "[red]x[/red]" in shown
    assert "[bold]" in shown
    assert "\x1b[2J" not in shown


def test_a_critical_alert_stands_out_in_colour() -> None:
    assert "\x1b[1;31m" in printed(alert(severity="critical"), colour=True)


def test_a_closed_stream_means_later() -> None:
    stream = io.StringIO()
    stream.close()

    async def scene() -> None:
        sink = ConsoleSink(ConsoleConfig(), Console(file=stream))
        with pytest.raises(RetryLater) as error:
            await sink.send(alert())
        assert error.value.reason == "io_error"
        await sink.close()

    asyncio.run(scene())
