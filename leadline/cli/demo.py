"""`leadline demo`: four failures, injected one after another into a live model, and how long each took to be reported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from leadline.cli.common import FAILED, Json, clean_errors, fail, make_folder, print_json


def demo(
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder", help="Keep configuration, logs and alerts here. Default: scratch, deleted at the end."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The patients' random numbers: the same seed, the same hospital.")] = 7,
    as_json: Json = False,
) -> None:
    """Play a hospital whose readmission model fails in four ways. Under two minutes; needs no Kafka, Docker or root.

    Exit status 0 only if every failure was reported and nothing was reported before the first.
    """
    from rich.console import Console

    from leadline.demo.model import DemoMissing
    from leadline.demo.play import DemoFailed, play
    from leadline.demo.scenario import judge

    if folder is not None:
        make_folder(folder, "--folder")
    console = Console(stderr=as_json, highlight=False)
    try:
        with clean_errors():
            watched = console.is_terminal and not console.is_dumb_terminal
            state = _watched(console, play, folder, seed) if watched else play(_Narrator(console), folder, seed)
    except DemoMissing as error:
        fail(str(error))
    except DemoFailed as error:
        fail(str(error), FAILED)
    except KeyboardInterrupt:
        fail("stopped before the end", 130)
    outcomes, before = judge(state.acts, state.alerts)
    from leadline.demo.screen import ending

    good = ending(console, state, outcomes, before)
    if as_json:
        print_json(_told(state, outcomes, before, good))
    sys.stdout.flush()
    raise typer.Exit(0 if good else FAILED)


def _watched(console: Any, play: Any, folder: Path | None, seed: int) -> Any:
    from rich.live import Live

    from leadline.demo.screen import Screen

    screen = Screen(console)
    with Live(console=console, refresh_per_second=8, screen=False) as live:
        return play(lambda state: live.update(screen(state)), folder, seed)


class _Narrator:
    """Without a terminal: one line for each thing that happens, whole, however long."""

    def __init__(self, console: Any) -> None:
        self.console = console
        self.stage = ""
        self.alerts = 0
        self.begun: set[int] = set()

    def __call__(self, state: Any) -> None:
        if state.stage != self.stage:
            self.stage = state.stage
            self._say(f"{self.stage} …")
        now = state.began + state.elapsed_s
        for number, act in enumerate(state.acts):
            if number not in self.begun and now >= act.failure.start:
                self.begun.add(number)
                self._say(f"{act.failure.start - state.began:6.1f} s  injected: {act.failure.title}")
        for alert in state.alerts[self.alerts :]:
            self._say(f"{alert.raised_at - state.began:6.1f} s  {alert.life}: {alert.title}")
        self.alerts = len(state.alerts)

    def _say(self, line: str) -> None:
        self.console.print(line, markup=False, soft_wrap=True)


def _told(state: Any, outcomes: Any, before: Any, good: bool) -> dict[str, Any]:
    return {
        "passed": good,
        "published": state.published,
        "joined": state.joined,
        "failures": [
            {
                "failure": outcome.act.failure.title,
                "injected_at": outcome.act.failure.start,
                "alert_at": outcome.alert.raised_at if outcome.alert else None,
                "delay_s": outcome.delay_s,
                "alert": outcome.alert.title if outcome.alert else None,
            }
            for outcome in outcomes
        ],
        "alerts_before_first": [alert.title for alert in before],
    }
