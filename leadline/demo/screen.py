"""The demo on a terminal: traffic, signals and incidents as they change, and the table at the end."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from leadline.alert import Alert
from leadline.demo.play import State
from leadline.demo.scenario import Outcome

COLOURS = {"ok": "green", "warn": "yellow", "critical": "red", "insufficient_data": "dim"}
SHOWN = (
    ("*", "*", "psi", "age"),
    ("*", "*", "null_rate", "creatinine"),
    ("3.0.0", "*", "psi", "sodium"),
    ("3.1.0", "*", "psi", "sodium"),
    ("*", "*", "psi", "score"),
    ("*", "*", "auc", "*"),
    ("*", "*", "realised_minus_estimated", "label"),
    ("*", "*", "label_coverage", "*"),
)


def render(state: State) -> Group:
    """The whole screen for one moment."""
    return Group(_traffic(state), _signals(state), _incidents(state))


def _traffic(state: State) -> Panel:
    elapsed = min(state.elapsed_s, state.length_s)
    now = state.began + elapsed
    failing = next((act.failure.title for act in state.acts if act.failure.start <= now < act.failure.stop), None)
    text = Text.assemble(
        f"{state.published:,} predictions, {state.labels:,} labels published, {state.joined:,} joined   ",
        ("injected now: " + failing, "bold red")
        if failing
        else ("all is well in the hospital", "green")
        if state.began
        else (state.stage + " …", "cyan"),
    )
    parts: list[Text | ProgressBar] = [text]
    if state.length_s:
        parts.append(ProgressBar(total=state.length_s, completed=elapsed))
    return Panel(Group(*parts), title="hospital readmission model", title_align="left")


def _signals(state: State) -> Table:
    table = Table(title="Signals, as in Redis", title_justify="left", expand=True)
    for name, justify in (
        ("signal", "left"),
        ("version", "left"),
        ("value", "right"),
        ("reference", "right"),
        ("rows", "right"),
        ("verdict", "left"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for version, segment, signal, subject in SHOWN:
        row = state.signals.get("|".join((version, segment, signal, subject)))
        label = signal if subject == "*" else f"{signal} of {subject}"
        if row is None:
            table.add_row(label, "all" if version == "*" else version, "…", "", "", "", style="dim")
            continue
        verdict = str(row["verdict"])
        table.add_row(
            label,
            "all" if version == "*" else version,
            _number(row["value"]),
            _number(row["reference"]),
            f"{row['n']:,}",
            Text(verdict, style=COLOURS.get(verdict, "")),
        )
    return table


def _incidents(state: State) -> Table:
    table = Table(title="Alerts, as delivered", title_justify="left", expand=True)
    for name in ("at", "life", "incident", "since"):
        table.add_column(name)
    for alert in state.alerts[-8:]:
        style = (
            "red"
            if alert.severity == "critical" and alert.life != "resolved"
            else "green"
            if alert.life == "resolved"
            else "yellow"
        )
        table.add_row(
            f"{alert.raised_at - state.began:5.1f} s",
            Text(alert.life, style=style),
            alert.title,
            f"{alert.onset_at - state.began:5.1f} s",
        )
    return table


def ending(console: Console, state: State, outcomes: Sequence[Outcome], before: Sequence[Alert]) -> bool:
    """The closing table. True if every failure was reported and nothing before the first."""
    table = Table(title="What was injected, and what Leadline said")
    for name, justify in (
        ("failure", "left"),
        ("injected", "right"),
        ("alert", "right"),
        ("after", "right"),
        ("what it said", "left"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for outcome in outcomes:
        failure, alert = outcome.act.failure, outcome.alert
        if alert is None:
            table.add_row(
                failure.title, f"{failure.start - state.began:.1f} s", "-", Text("not reported", style="bold red"), ""
            )
            continue
        table.add_row(
            failure.title,
            f"{failure.start - state.began:.1f} s",
            f"{alert.raised_at - state.began:.1f} s",
            Text(f"{outcome.delay_s:.1f} s", style="bold green"),
            alert.title,
        )
    console.print(table)
    if before:
        console.print(
            f"[bold red]{len(before)} alert(s) before the first failure:[/] "
            + "; ".join(alert.title for alert in before)
        )
    if state.dropped:
        console.print(f"[bold red]{state.dropped} events were dropped by the publisher[/]")
    told = all(outcome.alert is not None for outcome in outcomes)
    good = told and not before and not state.dropped
    console.print(
        "[bold green]Every failure was reported, and nothing before the first.[/]"
        if good
        else "[bold red]The demo failed: see above.[/]"
    )
    return good


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "-"
