import stat
from pathlib import Path

import pytest

from streams.embedded.embedded_errors import EmbeddedStartFailed, EmbeddedUnavailable, FolderTooNew
from streams.embedded.embedded_redis import RedisServer, configuration, quoted
from streams.embedded.redis_binary import RedisBinary, find_redis_binary, probe


def program(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_redis_and_valkey_tell_their_versions(tmp_path: Path):
    redis = program(tmp_path / "redis-server", "echo 'Redis server v=7.2.4 sha=00000000:0 malloc=libc bits=64'")
    valkey = program(tmp_path / "valkey-server", "echo 'Valkey server v=8.0.1 sha=00000000:0 malloc=libc bits=64'")
    assert probe(redis) == RedisBinary(redis, (7, 2, 4))
    assert probe(valkey) == RedisBinary(valkey, (8, 0, 1), valkey=True)


def test_a_binary_that_does_not_run_here_is_passed_over(tmp_path: Path):
    broken = program(tmp_path / "broken", "exit 127")
    not_a_server = program(tmp_path / "other", "echo hello")
    works = program(tmp_path / "works", "echo 'Redis server v=6.2.14 sha=0'")
    assert find_redis_binary(iter([tmp_path / "absent", broken, not_a_server, works])).path == works


def test_without_any_server_the_error_says_how_to_mend_it(tmp_path: Path):
    with pytest.raises(EmbeddedUnavailable, match=r"absent does not run.*pip install 'leadline\[embedded\]'"):
        find_redis_binary(iter([tmp_path / "absent"]))


def test_the_configuration_is_durable_never_evicts_and_stays_on_loopback(tmp_path: Path):
    lines = configuration(tmp_path, 7777, {"bind": "0.0.0.0", "databases": "64"}).splitlines()
    assert {"appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction", "databases 64"} <= set(lines)
    assert [line for line in lines if line.startswith("bind")] == ["bind 127.0.0.1"]
    assert f'dir "{tmp_path}"' in lines


def test_a_folder_name_cannot_smuggle_in_a_directive():
    assert quoted(Path('/data/my "own" folder')) == r'"/data/my \"own\" folder"'
    with pytest.raises(EmbeddedStartFailed, match="line break"):
        quoted(Path("/data\nbind 0.0.0.0"))


def test_data_of_a_newer_redis_are_refused_not_taken_for_an_empty_folder(tmp_path: Path):
    (tmp_path / "appendonlydir").mkdir()
    with pytest.raises(FolderTooNew, match=r"is 6\.2 and would start empty"):
        RedisServer(tmp_path, binary=RedisBinary(Path("redis-server"), (6, 2, 14)))
