"""The demo on a terminal of 80 by 24 or more: traffic, signals and alerts as they change, and the table at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from leadline.alert import Alert
from leadline.cli.tables import Column, print_table
from leadline.demo.play import State
from leadline.demo.scenario import Outcome

COLOURS = {"ok": "green", "warn": "yellow", "critical": "bold red", "insufficient_data": "dim"}
LEVELS = "▁▂▃▄▅▆▇█"
SHOWN = {
    "PSI of age": "*|*|psi|age",
    "PSI of sodium, 3.0.0": "3.0.0|*|psi|sodium",
    "PSI of sodium, 3.1.0": "3.1.0|*|psi|sodium",
    "null rate of creatinine": "*|*|null_rate|creatinine",
    "PSI of score": "*|*|psi|score",
    "AUC": "*|*|auc|*",
    "realised minus estimated": "*|*|realised_minus_estimated|label",
}
AROUND = 19  # lines of a screen that are no alerts, and one for the prompt
FIGURES = 60  # cells of a line that are no course
LEAST_ALERTS, SHORTEST, LONGEST = 4, 8, 60


class Look(NamedTuple):
    """One figure at one moment: how far it was from its reference, what noise alone could do, and the verdict."""

    at_s: float
    away: float
    floor: float
    verdict: str


class Screen:
    """Renders a state; remembers the course of each figure since the beginning."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: object = None
        self._course: dict[str, list[Look]] = {}

    def __call__(self, state: State) -> Group:
        self._remember(state)
        return Group(*_traffic(state), "", self._signals(state), "", *self._alerts(state))

    def _remember(self, state: State) -> None:
        if state.signals is self._seen:
            return
        self._seen = state.signals
        for name in SHOWN.values():
            row = state.signals.get(name)
            if row is not None:
                away = abs(_float(row["value"]) - _float(row["reference"]))
                look = Look(state.elapsed_s, away, _float(row["noise_floor"]), str(row["verdict"]))
                self._course.setdefault(name, []).append(look)

    def _signals(self, state: State) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("signals, as in Redis", width=24, no_wrap=True)
        table.add_column("value", justify="right", width=7)
        table.add_column("normal", justify="right", width=7)
        table.add_column("verdict", width=8)
        table.add_column("since the start", no_wrap=True)
        for label, name in SHOWN.items():
            row = state.signals.get(name)
            if row is None:
                table.add_row(label, "…", style="dim")
                continue
            verdict = str(row["verdict"])
            word = Text("–" if verdict == "insufficient_data" else verdict, style=COLOURS.get(verdict, ""))
            table.add_row(label, _number(row["value"]), _number(row["reference"]), word, self._line(state, name))
        return table

    def _line(self, state: State, name: str) -> Text:
        """Each sign is the farthest of its share of the time; full height is the farthest so far, but never what noise alone could do."""
        width = min(max(self._console.width - FIGURES, SHORTEST), LONGEST)
        looks = self._course[name]
        top = max(max(2 * look.floor for look in looks), max(look.away for look in looks), 1e-9)
        farthest: dict[int, Look] = {}
        for look in looks:
            at = min(int(look.at_s / state.length_s * width), width - 1)
            if at not in farthest or look.away >= farthest[at].away:
                farthest[at] = look
        line = Text()
        for at in range(max(farthest) + 1):
            if at in farthest:
                look = farthest[at]
                line.append(
                    LEVELS[min(int(look.away / top * len(LEVELS)), len(LEVELS) - 1)], COLOURS.get(look.verdict, "")
                )
            else:
                line.append(" ")
        return line

    def _alerts(self, state: State) -> Sequence[RenderableType]:
        room = max(self._console.height - AROUND, LEAST_ALERTS)
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False, expand=True)
        table.add_column(justify="right", width=7, no_wrap=True)
        table.add_column(width=8, no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for alert in state.alerts[-room:]:
            table.add_row(
                f"{alert.raised_at - state.began:.1f} s", Text(alert.life, style=_colour(alert)), Text(alert.title)
            )
        for _ in range(room - len(state.alerts)):
            table.add_row("")  # so that nothing below jumps
        return Text("alerts, as delivered", style="dim"), table


def _traffic(state: State) -> Sequence[RenderableType]:
    elapsed = min(state.elapsed_s, state.length_s)
    now = state.began + elapsed
    failing = next((act.failure.title for act in state.acts if act.failure.start <= now < act.failure.stop), None)
    if not state.began:
        what = Text(f"{state.stage} …", "cyan")
    elif failing:
        what = Text(f"injected: {failing}", "bold red")
    else:
        what = Text("all is well in the hospital", "green")
    head = Table.grid(expand=True)
    head.add_column()
    head.add_column(justify="right")
    head.add_row(
        Text("A hospital's readmission model", style="bold"),
        f"{elapsed:.0f} of {state.length_s:.0f} s" if state.began else "",
    )
    counts = f"{state.published:,} predictions and {state.labels:,} labels published, {state.joined:,} joined"
    bar = Padding(ProgressBar(total=state.length_s or 1.0, completed=elapsed), 0)  # which ends the line
    return head, bar, what, Text(counts)


def _colour(alert: Alert) -> str:
    if alert.life == "resolved":
        return "green"
    return "bold red" if alert.severity == "critical" else "yellow"


def ending(console: Console, state: State, outcomes: Sequence[Outcome], before: Sequence[Alert]) -> bool:
    """The closing table. True if every failure was reported and nothing before the first."""
    columns = (
        Column("failure, and what was said", fold=True),
        *(Column(name, right=True) for name in ("injected", "alert", "after")),
    )
    rows = []
    for outcome in outcomes:
        failure, alert = outcome.act.failure, outcome.alert
        said = Text(failure.title)
        injected = f"{failure.start - state.began:.1f} s"
        if alert is None:
            rows.append((said, injected, "–", Text("not reported", style="bold red")))
            continue
        said.append(f"\n→ {alert.title}", "dim")
        rows.append(
            (
                said,
                injected,
                f"{alert.raised_at - state.began:.1f} s",
                Text(f"{outcome.delay_s:.1f} s", style="bold green"),
            )
        )
    console.print()
    print_table(console, "", columns, rows)
    console.print()
    problems = []
    if before:
        problems.append(
            f"{len(before)} alert(s) before the first failure: {'; '.join(alert.title for alert in before)}"
        )
    if state.dropped:
        problems.append(f"{state.dropped} events were dropped by the publisher")
    missing = sum(outcome.alert is None for outcome in outcomes)
    if missing:
        problems.append(f"{missing} of {len(outcomes)} failures were not reported")
    for problem in problems:
        console.print(Text(problem, style="bold red"))
    if not problems:
        console.print(Text("Every failure was reported, and nothing before the first.", style="bold green"))
        console.print(Text("Next, with a service of your own: leadline run --embedded", style="dim"))
    return not problems


def _float(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "–"


__all__ = ["Screen", "ending"]
