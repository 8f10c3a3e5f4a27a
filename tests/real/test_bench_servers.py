"""What a benchmark runs on: named servers are looked at first, and why there are none is a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.servers import NoServers, servers

NOWHERE = "127.0.0.1:1"


def refusal(bootstrap: str | None, redis: str | None, folder: Path) -> str:
    with pytest.raises(NoServers) as error, servers(bootstrap, redis, folder, lambda _: None):
        pass
    return str(error.value)


def test_a_named_broker_that_is_not_there_is_told_before_anything_is_done(tmp_path: Path) -> None:
    assert "no broker answered at 127.0.0.1:1" in refusal(NOWHERE, "redis://127.0.0.1:1/0", tmp_path)


def test_one_address_alone_is_no_ground(tmp_path: Path) -> None:
    assert "both --bootstrap and --redis, or neither" in refusal(NOWHERE, None, tmp_path)
    assert "both --bootstrap and --redis, or neither" in refusal(None, "redis://127.0.0.1:1/0", tmp_path)


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no Kafka and Redis to run on: no redis-server" in refusal(None, None, tmp_path)
