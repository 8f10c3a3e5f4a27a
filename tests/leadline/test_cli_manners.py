"""What the command line says when it is asked for nothing, for too much, or for what cannot be."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path

import pytest

import leadline as package
from leadline.cli.common import KNOWN, ago, set_up_logging
from leadline.config import Config
from tests.leadline.cli_log import leadline
from tests.leadline.test_cli import NOWHERE


def test_the_version_is_a_line(tmp_path: Path) -> None:
    done = leadline("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"leadline {package.__version__}\n")


@pytest.mark.parametrize("width", ["80", "120"])
@pytest.mark.parametrize(
    "command", [(), ("run",), ("backtest",), ("reference", "build"), ("deliver",), ("topics", "create")]
)
def test_help_is_whole_on_any_terminal(tmp_path: Path, command: tuple[str, ...], width: str) -> None:
    done = leadline(*command, "--help", cwd=tmp_path, COLUMNS=width)
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= int(width)
    assert not any(line.rstrip().endswith(("...", "…")) for line in done.stdout.splitlines()[1:])  # [ARGS]...


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("run", "--embedded", "--data", "file/inside"), "--data: file/inside cannot be made a folder"),
        (("demo", "--folder", "file"), "--folder: file cannot be made a folder"),
        (("run", "--data", "here"), "add --embedded"),
        (("status", "--redis-url", "nonsense"), "no address of Redis"),
        (("backtest", "--predictions", "p", "--labels", "l"), "--report"),
    ],
)
def test_wrong_use_is_a_line_and_status_2(tmp_path: Path, command: tuple[str, ...], words: str) -> None:
    (tmp_path / "file").write_text("")
    done = leadline(*command, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_errors_that_people_can_mend_are_where_the_command_line_looks_for_them() -> None:
    for (module, name), status in KNOWN.items():
        found = getattr(importlib.import_module(module), name)
        assert issubclass(found, Exception)
        assert found.__module__ == module  # else it is not loaded when it is raised
        assert status in (1, 2)


def test_who_has_no_broker_is_told_how_to_try_without(tmp_path: Path) -> None:
    (tmp_path / "leadline.yaml").write_text(f"kafka: {{bootstrap_servers: '{NOWHERE}'}}\n")
    done = leadline("run", cwd=tmp_path)
    assert done.returncode == 1
    assert "leadline run --embedded" in done.stderr


def test_the_comings_and_goings_of_fausts_services_are_no_news(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        set_up_logging(Config())
        log = logging.getLogger("streams.transport.transport")
        log.info("[^-Consumer]: Starting...")
        log.warning("[^-Consumer]: slow")
        log.info("worker w: group g")
    finally:
        logging.getLogger().handlers[:], logging.getLogger().level = before
    said = capsys.readouterr().err
    assert "Starting" not in said
    assert "slow" in said
    assert "group g" in said


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "now"), (12.4, "12 s ago"), (3700, "1 h 1 m ago"), (-30, "in 30 s"), (None, "–")]
)
def test_times_are_told_as_people_say_them(seconds: float | None, words: str) -> None:
    assert ago(None if seconds is None else 1000.0 - seconds, 1000.0) == words
