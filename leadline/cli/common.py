"""What every command shares: options, configuration, errors that say what to do, tables, JSON."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from leadline.config import Config

USAGE = 2
FAILED = 1
PLAIN_WIDTH = 140  # of what goes to a file or a pipe, unless COLUMNS says otherwise

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="LEADLINE_CONFIG",
        help="The configuration; without it leadline.yaml of this folder, or the defaults.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output, and nothing else there.")]
Bootstrap = Annotated[
    str | None,
    typer.Option(
        "--bootstrap-servers",
        envvar="LEADLINE_BOOTSTRAP_SERVERS",
        help="Kafka's addresses instead of the configured ones, such as those that `leadline run --embedded` prints.",
    ),
]
RedisUrl = Annotated[
    str | None,
    typer.Option("--redis-url", envvar="LEADLINE_REDIS_URL", help="Redis instead of the configured one."),
]

# Errors that carry their own remedy: (module, class) to exit status. By name, because no command loads them all.
KNOWN = {
    ("leadline.config", "ConfigError"): USAGE,
    ("streams.counting.features", "BadReference"): USAGE,
    ("streams.backtest.log_files", "LogError"): USAGE,
    ("sinks.registry", "SinkConfigError"): USAGE,
    ("streams.transport.topics", "TopicsError"): FAILED,
    ("streams.store.tables", "StoreError"): FAILED,
    ("streams.embedded.embedded_errors", "EmbeddedError"): FAILED,
}


def fail(message: str, status: int = FAILED) -> NoReturn:
    """Says what is wrong and ends the command."""
    typer.echo(f"leadline: {message}", err=True)
    raise typer.Exit(status)


@contextmanager
def clean_errors(hints: Mapping[str, str] | None = None) -> Iterator[None]:
    """Errors that people can mend come without a traceback, and with what a command has to add to a `reason`."""
    try:
        yield
    except Exception as error:
        for (module, name), status in KNOWN.items():
            loaded = sys.modules.get(module)
            if loaded is not None and isinstance(error, getattr(loaded, name)):
                fail(str(error) + (hints or {}).get(getattr(error, "reason", ""), ""), status)
        if isinstance(error, OSError) and error.filename is not None and error.strerror:
            fail(f"{_path(error.filename)}: {error.strerror}")  # a folder, a right, a full disk: not ours
        raise  # a fault of ours: its traceback is what a report needs


def _path(name: str | bytes) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def make_folder(path: Path, option: str) -> None:
    """The folder that an option names, with those above it; ends the command where it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"{option}: {path} cannot be made a folder: {error.strerror or error}; name another place", USAGE)


def load(path: Path | None, bootstrap: str | None = None, redis_url: str | None = None) -> Config:
    """The configuration with the addresses of the command line; ends the command where it cannot be used."""
    from leadline.config import load_config

    with clean_errors():
        return addressed(load_config(path), bootstrap, redis_url)


def addressed(config: Config, bootstrap: str | None, redis_url: str | None) -> Config:
    """The same configuration for another broker or another Redis."""
    from pydantic import SecretStr

    from leadline import redis_url as addresses

    if bootstrap:
        config = config.model_copy(update={"kafka": config.kafka.model_copy(update={"bootstrap_servers": bootstrap})})
    if redis_url:
        if words := addresses.fault(redis_url):
            fail(f"--redis-url or LEADLINE_REDIS_URL is {words}", USAGE)
        config = config.model_copy(update={"redis": config.redis.model_copy(update={"url": SecretStr(redis_url)})})
    return config


def set_up_logging(config: Config) -> None:
    """Logs to standard error, as text or a line of JSON each. What Faust says about itself is for its developers."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonLines()
        if config.logging.log_json
        else logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    logging.basicConfig(level=config.logging.log_level, handlers=[handler], force=True)
    handler.addFilter(_about_leadline)
    for name in ("faust", "mode", "aiokafka", "asyncio", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    logging.getLogger("mode.timers").setLevel(logging.ERROR)  # a long batch; what matters of it the watchdog says


def _about_leadline(record: logging.LogRecord) -> bool:
    """Without the comings and goings of Faust's services, which log by the loggers of our classes: `[^-Consumer]: Starting...`."""
    return record.levelno > logging.INFO or not str(record.msg).startswith("[^")


class JsonLines(logging.Formatter):
    """One object a record."""

    def format(self, record: logging.LogRecord) -> str:
        import json

        line = {
            "time": record.created,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def console() -> Console:
    """Standard output; as wide as the terminal (or COLUMNS), or wide enough to be read from a file."""
    import os

    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PLAIN_WIDTH)


def print_json(value: Mapping[str, Any], *, line: bool = False) -> None:
    """The value as JSON, on one line if a reader takes lines."""
    import json

    typer.echo(json.dumps(value, indent=None if line else 1, ensure_ascii=False))


def number(value: object, digits: int = 4) -> str:
    """A figure for people: no more digits than anybody reads."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}g}"


def ago(epoch_s: object, now: float) -> str:
    """How long before `now`, in the two largest units."""
    from leadline.durations import format_duration

    if not isinstance(epoch_s, int | float):
        return "–"
    past = now - epoch_s
    return (
        f"{format_duration(round(past))} ago"
        if past >= 0.5
        else "now"
        if past > -0.5
        else f"in {format_duration(round(-past))}"
    )


def instant(epoch_s: object) -> str:
    """Epoch seconds as UTC."""
    from datetime import UTC, datetime

    if not isinstance(epoch_s, int | float):
        return "–"
    try:
        return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "–"
