"""docker-compose.yml, read as data; its broker settings also start a real broker."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from leadline.config import load_config
from streams.embedded.embedded_redis import free_port
from tests.real.environment import CACHE
from tests.real.kafka import KafkaServer
from tests.real.maven import KAFKA_VERSION

ROOT = Path(__file__).resolve().parents[2]
OURS = ("topics", "worker", "deliver")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document


def published(ports: list[str]) -> list[str]:
    """Host addresses of a service's ports; "" for one that binds every interface."""
    return [port.split(":", 1)[0] if port.count(":") >= 2 and port[0].isdigit() else "" for port in ports]


def test_every_published_port_is_bound_to_loopback(compose: dict[str, Any]):
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert set(published(ports)) == {"127.0.0.1"}
    assert not any("network_mode" in service for service in compose["services"].values())


def test_a_port_on_every_interface_would_be_noticed():
    assert published(["9092:9092", "0.0.0.0:9092:9092", "127.0.0.1:9092:9092"]) == ["", "0.0.0.0", "127.0.0.1"]


def test_redis_is_durable_and_never_evicts(compose: dict[str, Any]):
    command = compose["services"]["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options == {
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        "--maxmemory-policy": "noeviction",
        "--maxmemory": "${LEADLINE_REDIS_MEMORY:-2gb}",
        "--save": "",
    }


def test_broker_and_redis_are_checked_and_keep_their_data_in_named_volumes(compose: dict[str, Any]):
    for name in ("kafka", "redis"):
        service = compose["services"][name]
        assert service["healthcheck"]["test"]
        assert [volume.split(":")[0] for volume in service["volumes"]] == [f"{name}-data"]
        assert f"{name}-data" in compose["volumes"]


def test_nothing_that_runs_for_long_can_fill_the_machine(compose: dict[str, Any]):
    for name, service in compose["services"].items():
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
        assert service["restart"] == ("no" if name == "topics" else "unless-stopped"), name
        bounded = "mem_limit" in service or "--maxmemory" in service["command"]
        assert bounded or name == "topics", name


def test_workers_start_after_the_topics_exist(compose: dict[str, Any]):
    for name in ("worker", "deliver"):
        needs = compose["services"][name]["depends_on"]
        assert needs["topics"] == {"condition": "service_completed_successfully"}
        assert needs["redis"] == {"condition": "service_healthy"}
    assert compose["services"]["topics"]["depends_on"]["kafka"] == {"condition": "service_healthy"}


def test_commands_find_the_configuration_by_themselves(compose: dict[str, Any]):
    for name in OURS:
        service = compose["services"][name]
        assert service["command"][0] == "leadline"
        assert service["environment"]["LEADLINE_CONFIG"].startswith(service["volumes"][0].split(":")[1])
    worker = compose["services"]["worker"]
    assert worker["healthcheck"]["test"] == ["CMD", "leadline", "health", worker["command"][-1]]
    assert worker["command"][:-1] == ["leadline", "run", "--health-file"]


def test_our_containers_can_write_nowhere_and_run_as_nobody(compose: dict[str, Any]):
    for name in OURS:
        assert compose["services"][name]["read_only"] is True
        assert compose["services"][name]["cap_drop"] == ["ALL"]
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    users = [index for index, line in enumerate(lines) if line.startswith("USER ")]
    assert users
    assert lines[users[-1]].split()[1] not in ("0", "root")
    assert not any(line.startswith("RUN") for line in lines[users[-1] :])


def test_the_mounted_configuration_is_valid_and_takes_the_addresses(
    compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    for name, value in compose["services"]["worker"]["environment"].items():
        monkeypatch.setenv(name, value)
    source, target, mode = compose["services"]["worker"]["volumes"][0].split(":")
    assert mode == "ro"
    path = Path(compose["services"]["worker"]["environment"]["LEADLINE_CONFIG"])
    config = load_config(ROOT / source / path.relative_to(target))
    assert config.kafka.bootstrap_servers == "kafka:19092"
    assert config.redis.url.get_secret_value() == "redis://redis:6379/0"


def test_libraries_are_a_layer_before_our_code_so_that_a_changed_line_is_built_in_seconds():
    lines = [line.strip() for line in (ROOT / "Dockerfile").read_text().splitlines()]
    packages = lines.index("COPY leadline leadline")
    assert any("pip install" in line and "--no-deps" not in line for line in lines[:packages])
    assert all("--no-deps" in line for line in lines[packages:] if "pip install" in line)
    copied = {
        line.split()[1]
        for line in lines
        if line.startswith("COPY ") and len(line.split()) == 3 and line.split()[1] == line.split()[2]
    }
    assert copied == {"leadline", "streams", "detectors", "sinks"}


def test_the_image_is_of_the_version_that_the_tests_run(compose: dict[str, Any]):
    assert compose["services"]["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


@pytest.mark.kafka
@pytest.mark.usefixtures("kafka")
def test_a_real_broker_starts_with_these_settings(compose: dict[str, Any], tmp_path: Path):
    ports = {name: str(free_port()) for name in ("19092", "9092", "9093")}
    properties: dict[str, str] = {}
    for name, value in compose["services"]["kafka"]["environment"].items():
        if name.startswith("KAFKA_"):  # the image's own rule: KAFKA_LOG_DIRS is log.dirs
            key = name.removeprefix("KAFKA_").lower().replace("_", ".")
            properties[key] = local(value, ports) if key != "log.dirs" else str(tmp_path / "data")
    broker = KafkaServer(tmp_path, CACHE, port=int(ports["9092"]), properties=properties)
    try:
        broker.start()
        assert broker.answers()
    finally:
        broker.stop()


def local(value: str, ports: dict[str, str]) -> str:
    """The same setting on this machine: loopback instead of container names and open listeners, free ports."""
    value = value.replace("${LEADLINE_KAFKA_PORT:-9092}", "9092").replace("://kafka:", "://127.0.0.1:")
    value = value.replace("@kafka:", "@127.0.0.1:").replace("://:", "://127.0.0.1:")
    for written, free in ports.items():
        value = value.replace(f":{written}", f":{free}")
    return value
