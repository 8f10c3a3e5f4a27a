"""The commands that ask a broker and a Redis, and the manners of the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from leadline.cli.common import addressed
from leadline.cli.status import read, split
from leadline.config import Config, parse_config
from streams.store.store import open_store
from streams.transport.configured_topics import topic_specs
from streams.transport.topic_plan import partition_counts
from tests.leadline.cli_log import ROOT, leadline
from tests.real.backend import Backend, Fresh

NOWHERE = "127.0.0.1:1"


def write_config(folder: Path, backend: Backend, fresh: Fresh, partitions: int = 2) -> Config:
    """A configuration of this test's own topics and keys, as leadline.yaml of the folder."""
    names = fresh.names
    roles = ("predictions", "labels", "changes", "digests", "alerts", "rejected")
    text = f"""
kafka:
  bootstrap_servers: {backend.bootstrap_servers}
  group: {fresh.redis_prefix}
  partitions: {partitions}
  topics: {{{", ".join(f"{role}: {getattr(names, role)}" for role in roles)}}}
redis: {{url: "{fresh.redis_url}", prefix: {fresh.redis_prefix}}}
"""
    (folder / "leadline.yaml").write_text(text)
    return parse_config(text)


def test_help_loads_nothing_heavy() -> None:
    heavy = ("numpy", "scipy", "river", "faust", "confluent_kafka", "redis", "pydantic", "httpx", "streams", "sinks")
    script = f"import sys; import leadline.cli.app; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_command_explains_itself(tmp_path: Path) -> None:
    done = leadline("--help", cwd=tmp_path)
    for name in ("run", "deliver", "status", "request", "doctor", "backtest", "topics", "reference", "version"):
        assert name in done.stdout


def test_topics_are_created_once_and_found_the_second_time(tmp_path: Path, backend: Backend) -> None:
    if backend.name == "embedded":  # answers no CreateTopics
        fresh = backend.fresh()
        backend.create_topics(partition_counts(topic_specs(write_config(tmp_path, backend, fresh))))
    else:
        fresh = backend.fresh()
        write_config(tmp_path, backend, fresh)
    first = leadline("topics", "create", "--json", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    second = leadline("topics", "create", "--json", cwd=tmp_path)
    assert json.loads(second.stdout)["created"] == []
    assert len(json.loads(second.stdout)["existing"]) == 7


def test_doctor_finds_nothing_wrong_with_a_fresh_installation(tmp_path: Path, backend: Backend) -> None:
    config = write_config(tmp_path, backend, backend.fresh())
    backend.create_topics(partition_counts(topic_specs(config)))
    done = leadline("doctor", "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert done.returncode == 0, told
    assert told["healthy"] is True
    assert {finding["name"] for finding in told["findings"] if finding["verdict"] == "ok"} >= {
        "broker",
        "topics",
        "Redis",
    }


def test_doctor_says_how_to_mend_what_is_missing(tmp_path: Path, embedded: Backend) -> None:
    fresh = embedded.fresh()
    write_config(tmp_path, embedded, fresh)
    embedded.create_topics({fresh.names.predictions: 2, fresh.names.labels: 3})
    done = leadline("doctor", "--json", cwd=tmp_path)
    assert done.returncode == 1
    failed = {row["name"]: row["mend"] for row in json.loads(done.stdout)["findings"] if row["verdict"] == "fail"}
    assert failed["topics"] == "leadline topics create"
    assert any(name.startswith("partitions of") for name in failed)


def test_doctor_without_broker_and_redis_fails_quickly_and_prints_no_password(tmp_path: Path) -> None:
    (tmp_path / "leadline.yaml").write_text(
        f"kafka: {{bootstrap_servers: '{NOWHERE}'}}\nredis: {{url: 'redis://:hunter2@{NOWHERE}/0'}}\n"
    )
    for options in ((), ("--json",)):
        done = leadline("doctor", *options, cwd=tmp_path)
        assert done.returncode == 1
        assert "hunter2" not in done.stdout + done.stderr
    failed = [row["name"] for row in json.loads(done.stdout)["findings"] if row["verdict"] == "fail"]
    assert failed == ["broker", "Redis"]


def test_doctor_tells_of_a_wrong_configuration_a_gone_reference_and_a_wrong_sink(tmp_path: Path) -> None:
    (tmp_path / "leadline.yaml").write_text("kafak: {}\n")
    wrong = leadline("doctor", "--json", cwd=tmp_path)
    assert wrong.returncode == 1
    assert "did you mean" in json.loads(wrong.stdout)["findings"][0]["detail"]
    (tmp_path / "leadline.yaml").write_text(
        f"kafka: {{bootstrap_servers: '{NOWHERE}'}}\nredis: {{url: 'redis://{NOWHERE}/0'}}\n"
        "models: {m: {reference: gone.json}}\nsinks: [{kind: pigeon}]\n"
    )
    done = leadline("doctor", "--json", cwd=tmp_path)
    failed = {row["name"] for row in json.loads(done.stdout)["findings"] if row["verdict"] == "fail"}
    assert failed == {"reference of m", "sinks", "broker", "Redis"}


@pytest.mark.parametrize("command", [("status",), ("request", "r1"), ("run",), ("topics", "create")])
def test_a_command_without_its_servers_says_so_in_a_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "leadline.yaml").write_text(
        f"kafka: {{bootstrap_servers: '{NOWHERE}'}}\nredis: {{url: 'redis://:hunter2@{NOWHERE}/0'}}\n"
    )
    done = leadline(*command, cwd=tmp_path)
    assert done.returncode == 1
    assert "leadline: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def test_a_url_that_is_none_is_told_without_its_password(tmp_path: Path) -> None:
    (tmp_path / "leadline.yaml").write_text("redis: {url: 'redis://:hun#ter2@somewhere/0'}\n")
    done = leadline("status", cwd=tmp_path)
    assert done.returncode == 2
    assert "redis.url" in done.stderr
    assert "hun" not in done.stderr


def test_deliver_refuses_a_wrong_sink_without_quoting_it(tmp_path: Path) -> None:
    (tmp_path / "leadline.yaml").write_text("sinks: [{kind: slack, webhook_url: 'xoxb-secret'}]\n")
    done = leadline("deliver", cwd=tmp_path)
    assert done.returncode == 2
    assert "sinks" in done.stderr
    assert "xoxb-secret" not in done.stdout + done.stderr


def test_status_reads_the_views_and_tells_ids_from_suffixes(embedded: Backend) -> None:
    fresh = embedded.fresh()
    prefix = fresh.redis_prefix
    signal = {"value": 0.5, "reference": 0.0, "n": 100, "noise_floor": 0.1, "verdict": "critical"}
    incident = {"id": "i", "opened_at": 1.0, "resolved_at": None}
    with redis.Redis.from_url(fresh.redis_url) as client:
        for name in ("m", "n:signals"):  # a model may be called like a view
            client.hset(f"{prefix}:model:{name}", mapping={"model_id": name, "clock": "-inf", "join:joined": "7"})
        client.hset(f"{prefix}:model:m:incidents", mapping={"i": json.dumps(incident)})
        client.hset(f"{prefix}:model:n:signals:signals", mapping={"*|a=b|psi|age": json.dumps(signal)})
        client.set(f"{prefix}:model:m:reference", "{}")
        client.hset(f"{prefix}:join:0", mapping={"watermark": "12.5", "joined": "7"})
    with open_store(fresh.redis_url) as store:
        found = read(store, prefix)
    one, other = found["models"]
    assert (one["model_id"], one["clock"], one["join"], one["incidents"]) == ("m", None, {"joined": 7}, [incident])
    assert other["model_id"] == "n:signals"
    assert other["signals"] == [{"model_version": None, "segment": "a=b", "signal": "psi", "subject": "age", **signal}]
    assert found["joins"] == [{"partition": 0, "watermark": 12.5, "joined": 7}]
    assert found["workers"] == []


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("*|*|psi|age", (None, None, "psi", "age")),
        ("1|site=a|b|psi|age", ("1", "site=a|b", "psi", "age")),
        ("2.0|x|*|auc|*", ("2.0|x", None, "auc", None)),
        ("2.0|x|site=a|b|psi|p|q", ("2.0|x", "site=a|b", "psi", "p|q")),
        ("*|*|null_rate|p|q", (None, None, "null_rate", "p|q")),
        ("3|=leer|auc|*", ("3", "=leer", "auc", None)),
    ],
)
def test_a_bar_in_a_version_a_segment_or_a_feature_stays_where_it_is(name: str, parts: tuple[str | None, ...]) -> None:
    assert split(name, ["2.0|x", "1", "2", "*"], {"psi", "auc", "null_rate"}) == parts


def test_addresses_of_the_command_line_go_before_the_configuration() -> None:
    config = addressed(Config(), "broker:1", "redis://store:2/3")
    assert config.kafka.bootstrap_servers == "broker:1"
    assert config.redis.url.get_secret_value() == "redis://store:2/3"
    assert addressed(config, None, None) is config
