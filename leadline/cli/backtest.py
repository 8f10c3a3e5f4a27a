"""`leadline backtest`: a recorded log through the same core, without a broker."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leadline.cli.common import USAGE, ConfigFile, Json, clean_errors, fail, load

if TYPE_CHECKING:
    from leadline.config import Config
    from streams.backtest.backtest import Backtest
    from streams.core.decoded import Fault

SHOWN = 20
HINTS = {
    "label_unusable": "; models.ID.positive_label names the positive class, models.ID.task the task",
    "timestamp_in_future": "; the clock is arrived_at, or --now",
    "timestamp_unreadable": " (a time without a zone says nothing; in pandas: .dt.tz_localize('UTC'))",
}


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
        _look(predictions, labels)
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
        from leadline.cli.backtest_tables import show

        show(built)
        _show_rejected(run)
        if report is not None:
            typer.echo(f"report: {report} ({len(encoded):,} bytes, {len(built['figures']):,} figures)")


def _look(predictions: Path, labels: Path) -> None:
    """What the first event of each file shows before all are read: files that were swapped, and fields that nobody reads."""
    import msgspec

    from leadline.events import Label, Prediction
    from streams.backtest.log_files import first_event

    def fields(path: Path) -> dict[str, Any]:
        line = first_event(path)
        try:
            found = msgspec.json.decode(line) if line is not None else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}  # it will be rejected with its reason
        return found if isinstance(found, dict) else {}

    answered, truth = fields(predictions), fields(labels)
    if "label" in answered and "model_id" not in answered and "model_id" in truth and "label" not in truth:
        fail(
            f"{predictions} holds labels and {labels} predictions: --predictions and --labels have each other's file",
            USAGE,
        )
    for path, found, kind in ((predictions, answered, Prediction), (labels, truth, Label)):
        unknown = sorted(found.keys() - set(kind.__struct_fields__) - {"arrived_at"})
        if not unknown:
            continue
        shown = ", ".join(unknown[:SHOWN]) + (", …" if len(unknown) > SHOWN else "")
        words = f"{path}: not read, because no {kind.__name__.lower()} has such fields: {shown}"
        lost = kind is Prediction and not found.get("features")
        typer.echo(f"leadline: {words}{'; features go into one object, `features`' if lost else ''}", err=True)


def _warn(run: Backtest, paths: dict[str, Path]) -> None:
    """A file without a single event is a mistake more often than not: a wrong file, a wrong option, a column that is named otherwise."""
    for source, taken in run.taken.items():
        path, event = paths[source], source.removesuffix("s")
        if not taken.lines:
            typer.echo(f"leadline: {path} holds no lines", err=True)
        elif taken.rejected == taken.lines:
            fault = next(iter(taken.first.values()))
            typer.echo(f"leadline: none of the {taken.lines:,} lines of {path} is a {event}: {_told(fault)}", err=True)


def _told(fault: Fault) -> str:
    return f"line {fault.record.offset + 1}: {fault.reason}: {fault.detail}{HINTS.get(fault.reason, '')}"


def _show_rejected(run: Backtest) -> None:
    """The first line of each reason: where to look."""
    for source, taken in run.taken.items():
        for fault in taken.first.values():
            typer.echo(f"first rejected of {source}, {_told(fault)}")


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
        return time.time()
    from streams.core.rfc3339 import parse_rfc3339

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
    """Bytes read of both files, on standard error: a bar on a terminal, and a line at the end."""

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
        console = Console(stderr=True)
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._began = time.monotonic()
        self._total = sum(path.stat().st_size for path in paths)

    def __enter__(self) -> Callable[[int], None]:
        self._progress.start()
        task = self._progress.add_task("backtest", total=self._total)
        return lambda read: self._progress.advance(task, read)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._progress.stop()
        if error is None:
            from leadline.durations import format_duration

            took = format_duration(round(time.monotonic() - self._began, 1))
            typer.echo(f"backtest: {self._total:,} bytes in {took}", err=True)
