"""Alerts on a terminal, for a person who has been awake too long."""

from __future__ import annotations

import sys
from typing import Literal

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from leadline.alert import Alert
from sinks.base import RetryLater, Sink, SinkConfig
from sinks.threads import CallThread
from sinks.words import Telling, tell

STYLE = {"info": "cyan", "warn": "yellow", "critical": "bold red"}


class ConsoleConfig(SinkConfig):
    """`kind: console`."""

    kind: Literal["console"] = "console"
    stream: Literal["stdout", "stderr"] = "stdout"
    colour: bool | None = None
    """None: colours where the stream is a terminal."""

    @property
    def default_name(self) -> str:
        return self.kind

    def build(self) -> Sink:
        return ConsoleSink(self)


class ConsoleSink:
    """Prints one panel an alert. Markup in other people's names is text, never style."""

    def __init__(self, config: ConsoleConfig, console: Console | None = None) -> None:
        self.name = config.label
        self._config = config
        self._console = console
        self._thread: CallThread | None = None
        self._closed = False

    async def send(self, alert: Alert, /) -> None:
        if self._closed:
            raise RetryLater(None, "closed")
        if self._thread is None:
            self._thread = CallThread(f"sink-{self.name}")
        failure = await self._thread.call(self._print, alert)
        if failure:
            raise RetryLater(None, "io_error", failure)

    async def close(self) -> None:
        self._closed = True
        if self._thread is not None:
            self._thread.stop()
            self._thread = None

    def _print(self, alert: Alert) -> str:
        try:
            if self._console is None:
                stream = sys.stderr if self._config.stream == "stderr" else sys.stdout
                self._console = Console(file=stream, force_terminal=self._config.colour, highlight=False)
            self._console.print(render(alert))
            self._console.file.flush()
        except (OSError, ValueError) as error:  # ValueError: the stream was closed under us
            return f"could not write to {self._config.stream}: {type(error).__name__}"
        return ""


def render(alert: Alert) -> Panel:
    """The panel; its border carries the severity, green once it is over."""
    style = "green" if alert.life == "resolved" else STYLE[alert.severity]
    telling = tell(alert)
    severity, life, title = telling.headline.split(" · ", 2)
    # The title may be longer than a terminal is wide, and a frame cuts what it is given as its title.
    return Panel(_body(telling, title), title=Text(f"{severity} · {life}"), title_align="left", border_style=style)


def _body(telling: Telling, title: str) -> Group:
    parts: list[Text | Table] = [Text(title, style="bold")]
    if telling.summary:
        parts.append(Text(telling.summary))
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in telling.facts:
        facts.add_row(Text(name), Text(value))
    for name, lines in (("Changed before", telling.changes), ("To do", telling.advice), ("Evidence", telling.evidence)):
        for index, line in enumerate(lines):
            facts.add_row(Text(name if index == 0 else ""), Text(line))
    parts.append(facts)
    parts.append(Text(telling.footer, style="dim"))
    return Group(*parts)
