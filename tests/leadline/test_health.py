"""The question of a liveness probe, with time as a value."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from leadline.cli.app import app
from leadline.health import STALE_S, Health, ailment, write_health

WELL = Health("w1", 7, "running", healthy=True, standing_s=0.0, at=1000.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "health"


def test_a_worker_that_renews_its_file_is_well(file: Path) -> None:
    write_health(file, WELL)
    assert ailment(file, 1000.0) is None
    assert ailment(file, 1000.0 + STALE_S) is None
    assert [path.name for path in file.parent.iterdir()] == ["health"]


@pytest.mark.parametrize(
    ("health", "now", "says"),
    [
        (WELL, 1031.0, r"worker w1 \(process 7, running\) has not renewed .* for 31 s"),
        (WELL, 12.0, "from before this machine's start"),
        (replace(WELL, healthy=False, standing_s=151.2), 1001.0, "has not moved for 151 s although there is something"),
    ],
)
def test_what_is_wrong_is_said(file: Path, health: Health, now: float, says: str) -> None:
    write_health(file, health)
    wrong = ailment(file, now)
    assert wrong is not None
    assert re.search(says, wrong), wrong


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"worker_id": "w1"}', json.dumps("x").encode()])
def test_a_file_that_is_none_is_told(file: Path, content: bytes) -> None:
    assert "there is no" in (ailment(file) or "")
    file.write_bytes(content)
    assert "is no health file" in (ailment(file) or "")


def test_the_command_ends_with_the_verdict(file: Path) -> None:
    missing = CliRunner().invoke(app, ["health", str(file)])
    assert missing.exit_code == 1
    write_health(file, replace(WELL, at=time.monotonic()))
    assert CliRunner().invoke(app, ["health"], env={"LEADLINE_HEALTH_FILE": str(file)}).exit_code == 0
    write_health(file, replace(WELL, at=time.monotonic(), healthy=False))
    assert CliRunner().invoke(app, ["health", str(file)]).exit_code == 1
