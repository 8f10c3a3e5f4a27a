"""`leadline backtest`: a recorded log through the same core, without a broker."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leadline.cli.common import USAGE, ConfigFile, Json, clean_errors, console, fail, instant, load, number

if TYPE_CHECKING:
    from leadline.config import Config
    from streams.backtest.backtest import Backtest
    from streams.core.decoded import Fault

SHOWN = 20


def backtest(
    predictions: Annotated[
        Path, typer.Option(help="Predictions in order of arrival: JSON Lines (.jsonl, .jsonl.gz) or Parquet.")
    ],
    labels: Annotated[Path, typer.Option(help="Labels in order of arrival, in the same formats.")],
    report: Annotated[Path | None, typer.Option(help="Where the report goes, as JSON.")] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="Training rows (.csv, .csv.gz, .parquet) or the JSON of `leadline reference build`, for every model without one."
        ),
    ] = None,
    delay_window: Annotated[
        str | None,
        typer.Option(
            help="How long after its prediction a label counts, such as 48h or 30d. Default: the configuration's, 48h."
        ),
    ] = None,
    early_tolerance: Annotated[
        str | None,
        typer.Option(
            help="How much earlier than its prediction a label may be stamped. Default: the configuration's, 5m."
        ),
    ] = None,
    now: Annotated[
        str | None,
        typer.Option(
            help="The clock that stamps are held against where no arrived_at stands: epoch seconds or RFC 3339. Default: the time of day."
        ),
    ] = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Replay a recorded log in event time, as fast as it goes. The same log gives the same report, byte for byte."""
    if report is None and not as_json:
        fail("say where the report goes: --report report.json, or --json for standard output", USAGE)
    settings = _settings(load(config), reference, delay_window, early_tolerance)
    clock = _clock(now)
    for path in (predictions, labels):
        if not path.is_file():
            fail(f"{path} does not exist or is no file; give JSON Lines (.jsonl, .jsonl.gz) or Parquet", USAGE)
    if report is not None and not report.parent.is_dir():
        fail(f"{report.parent} is no folder; create it, or name another place with --report", USAGE)
    from streams.backtest.backtest import Backtest
    from streams.backtest.report import build_report, encode_report

    with clean_errors():
        run = Backtest(settings)
        with _Bar(predictions, labels) as progress:
            run.run(predictions, labels, clock, progress)
        built = build_report(run)
    encoded = encode_report(built)
    _warn(run, {"predictions": predictions, "labels": labels})
    if report is not None:
        _write(report, encoded)
    if as_json:
        sys.stdout.buffer.write(encoded + b"\n")
    else:
        _show(built)
        _show_rejected(run)
        typer.echo(f"\nreport: {report}")


def _warn(run: Backtest, paths: dict[str, Path]) -> None:
    """A file without a single event is a mistake more often than not: a wrong file, a wrong option, a column that is named otherwise."""
    for source, taken in run.taken.items():
        path, event = paths[source], source.removesuffix("s")
        if not taken.lines:
            typer.echo(f"leadline: {path} holds no lines", err=True)
        elif taken.rejected == taken.lines:
            fault = next(iter(taken.first.values()))
            typer.echo(f"leadline: none of the {taken.lines:,} lines of {path} is a {event}: {_told(fault)}", err=True)
    if all(taken.lines and taken.rejected == taken.lines for taken in run.taken.values()):
        typer.echo("leadline: have --predictions and --labels been given each other's file?", err=True)


def _told(fault: Fault) -> str:
    return f"line {fault.record.offset + 1}: {fault.reason}: {fault.detail}"


def _show_rejected(run: Backtest) -> None:
    """The first line of each reason: where to look."""
    for source, taken in run.taken.items():
        for fault in taken.first.values():
            typer.echo(f"rejected first, {source}, {_told(fault)}")


def _settings(config: Config, reference: Path | None, delay_window: str | None, early_tolerance: str | None) -> Config:
    from leadline.config import Join, Model

    join: dict[str, float] = {}
    for name, text in (("delay_window", delay_window), ("early_tolerance", early_tolerance)):
        if text is not None:
            join[name] = _duration(f"--{name.replace('_', '-')}", text)
    if join:
        try:
            checked = Join.model_validate({**config.join.model_dump(), **join})
        except ValueError as error:
            fail(f"--delay-window or --early-tolerance: {_first(error)}", USAGE)
        config = config.model_copy(update={"join": checked})
    if reference is not None:
        shared = config.models.get("*", Model()).model_copy(update={"reference": reference})
        config = config.model_copy(update={"models": {**config.models, "*": shared}})
    return config


def _duration(option: str, text: str) -> float:
    from leadline.durations import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        fail(f"{option}: {error}", USAGE)


def _first(error: ValueError) -> str:
    from pydantic import ValidationError

    return str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else str(error)


def _clock(now: str | None) -> float:
    if now is None:
        import time

        return time.time()
    from streams.core.decode import parse_rfc3339

    try:
        return float(now)
    except ValueError:
        parsed = parse_rfc3339(now)
    if parsed is None:
        fail(f"--now: {now!r} is neither epoch seconds nor RFC 3339 such as 2026-01-31T12:00:00Z", USAGE)
    return parsed


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all: a report that was cut short would still look like JSON to a careless reader."""
    import os

    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        fail(f"{path} cannot be written: {error.strerror or error}", USAGE)


class _Bar:
    """Bytes read of both files, on standard error."""

    def __init__(self, *paths: Path) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (TextColumn("backtest"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._total = sum(path.stat().st_size for path in paths)

    def __enter__(self) -> Callable[[int], None]:
        self._progress.start()
        task = self._progress.add_task("backtest", total=self._total)
        self._task = task
        return lambda read: self._progress.advance(task, read)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            self._progress.update(self._task, completed=self._total)
        self._progress.stop()


def _show(report: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    counts = Table("count", "n", title="counts", title_justify="left")
    for name, n in report["counts"].items():
        counts.add_row(name, number(n))
    for name, n in report["rejected"].items():
        counts.add_row(f"  rejected: {name}", number(n))
    out.print(counts)
    incidents = report["incidents"]
    table = Table(title=f"incidents: {len(incidents)}", title_justify="left")
    for name in ("opened (UTC)", "severity", "incident", "value", "reference", "n", "resolved (UTC)"):
        table.add_column(name, no_wrap=name != "incident")
    for row in incidents[:SHOWN]:
        table.add_row(
            instant(row["opened_at"]),
            row["severity"],
            Text(row["title"]),  # names are other people's: text, never markup
            number(row["value"]),
            number(row["reference"]),
            number(row["n"]),
            instant(row["resolved_at"]),
        )
    out.print(table)
    if len(incidents) > SHOWN:
        out.print(f"and {len(incidents) - SHOWN} more in the report")
