"""TLS, users and least rights against real servers: Kafka with SASL/SCRAM over TLS and ACLs, Redis with TLS and an ACL file.

Who may do what is read from docs/operations.md (`tests.real.secure`). No output and no log may show a password.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

from leadline.publisher import Publisher
from streams.store.redis_client import connect
from streams.store.store import open_store
from streams.store.tables import StoreError
from tests.leadline.cli_log import ROOT, leadline
from tests.real.environment import CACHE
from tests.real.process import PartMissing
from tests.real.redis_server import RealRedis
from tests.real.secure import ADMIN, PASSWORDS, Right, SecureKafka, documented_rights, secure_redis
from tests.real.tls import Authority
from tests.streams.fleet import until

ROWS = 400


@dataclass
class Servers:
    """Both servers, and commands run by one user or another."""

    folder: Path
    kafka: SecureKafka
    store: RealRedis
    printed: list[str] = field(default_factory=list)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def config(self, user: str, redis_user: str | None = None, **changed: str) -> Path:
        """A file with `user` on Kafka; `changed`: ca, password, protocol, redis_ca, redis_password. Passwords come by environment."""
        redis_user = redis_user or user
        where = f"127.0.0.1:{self.store.port}/0"
        ca = str(self.kafka.authority.certificate)
        password = "${REDIS_PASSWORD}"
        text = f"""
kafka:
  bootstrap_servers: {self.kafka.server.bootstrap_servers}
  partitions: 2
  session_timeout: 6s
  security:
    protocol: {changed.get("protocol", "SASL_SSL")}
    mechanism: SCRAM-SHA-512
    username: {user}
    password: ${{KAFKA_PASSWORD}}
    ca_location: {changed.get("ca", ca)}
redis: {{url: "rediss://{redis_user}:{password}@{where}?ssl_ca_certs={changed.get("redis_ca", ca)}"}}
join: {{delay_window: 1h}}
panes: {{pane: 1s}}
models: {{m: {{reference: {self.folder / "reference.csv"}}}}}
sinks: [{{kind: jsonl, path: {self.folder / "alerts.jsonl"}}}]
"""
        path = self.folder / f"{user}-{len(list(self.folder.glob('*.yaml')))}.yaml"
        path.write_text(text)
        path.with_suffix(".env").write_text(
            json.dumps(
                {
                    "KAFKA_PASSWORD": changed.get("password", PASSWORDS[user]),
                    "REDIS_PASSWORD": quote(changed.get("redis_password", PASSWORDS[redis_user]), safe=""),
                }
            )
        )
        return path

    def run(self, *arguments: object, config: Path) -> subprocess.CompletedProcess[str]:
        environment = json.loads(config.with_suffix(".env").read_text())
        done = leadline(*arguments, "-c", config, cwd=self.folder, **environment)
        self.printed.append(done.stdout + done.stderr)
        return done

    def start(self, command: str, config: Path) -> subprocess.Popen[bytes]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LEADLINE_")}
        environment = {**clean, "PYTHONPATH": str(ROOT), **json.loads(config.with_suffix(".env").read_text())}
        with (self.folder / f"{command}-{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "leadline.cli", command, "-c", str(config)],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process

    def told(self) -> str:
        """All that was ever printed or logged."""
        return "\n".join([*self.printed, *(path.read_text() for path in sorted(self.folder.glob("*.log")))])

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(10)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("secure")
    try:
        authority = Authority(folder / "authority")
        kafka = SecureKafka(folder / "kafka", CACHE, authority)
        store = secure_redis(folder / "redis", authority)
    except PartMissing as missing:
        absent(missing)
    work = folder / "work"
    work.mkdir()
    write_reference(work / "reference.csv")
    made = Servers(work, kafka, store)
    try:
        store.start()
        kafka.server.start()
        kafka.grant(documented_rights())
        yield made
        spoken = made.told()
        for password in PASSWORDS.values():
            assert password not in spoken
            assert quote(password, safe="") not in spoken
    except PartMissing as missing:
        absent(missing)
    finally:
        made.close()
        kafka.server.stop()
        store.stop()


def absent(missing: PartMissing) -> None:
    """As the fixture `kafka` has it: a failure in CI, a skip elsewhere."""
    if os.environ.get("CI"):
        pytest.fail(f"no secured Kafka and Redis in CI: {missing}")
    pytest.skip(f"no secured Kafka and Redis here: {missing}")


def publisher(servers: Servers, user: str) -> Publisher:
    options = servers.kafka.options(user)
    return Publisher(
        servers.kafka.server.bootstrap_servers,
        security_protocol="sasl_ssl",
        sasl_mechanism=options["sasl.mechanism"],
        sasl_username=user,
        sasl_password=options["sasl.password"],
        ssl_ca_location=options["ssl.ca.location"],
        strict=True,
    )


def write_reference(path: Path) -> None:
    draw = random.Random(1)
    rows = ["age,score,label"]
    for _ in range(1000):
        score = draw.random()
        rows.append(f"{draw.gauss(60, 10):.3f},{score:.4f},{int(draw.random() < score)}")
    path.write_text("\n".join(rows) + "\n")


@pytest.mark.kafka
@pytest.mark.slow
def test_the_whole_way_works_with_the_documented_rights_and_no_more(servers: Servers) -> None:
    created = servers.run("topics", "create", "--json", config=servers.config("leadline-operator", "leadline-reader"))
    assert created.returncode == 0, created.stderr
    assert len(json.loads(created.stdout)["created"]) == 7

    config = servers.config("leadline-worker")
    worker = servers.start("run", config)
    deliverer = servers.start("deliver", servers.config("leadline-deliver"))
    draw, now = random.Random(2), time.time() - 600
    with publisher(servers, "service") as service, publisher(servers, "labeller") as labeller:
        for number in range(ROWS):
            score = draw.random()
            at = now + number
            features = {"age": draw.gauss(95, 10)}  # thirty years older than the reference
            assert service.predict(
                request_id=f"r{number}", model_id="m", model_version="1", score=score, features=features, timestamp=at
            )
            assert labeller.label(request_id=f"r{number}", label=int(draw.random() < score), timestamp=at + 5)
        assert service.flush(30) == 0
        assert labeller.flush(30) == 0
        assert (service.stats.delivered, labeller.stats.delivered) == (ROWS, ROWS)

    reader = servers.config("leadline-worker", "leadline-reader")

    def model() -> dict[str, Any]:
        done = servers.run("status", "--json", config=reader)
        assert done.returncode == 0, done.stderr + servers.told()
        models = json.loads(done.stdout)["models"]
        return dict(models[0]) if models else {"join": {}}

    until(lambda: model()["join"].get("joined") == ROWS, 60, servers.told)
    alerts = servers.folder / "alerts.jsonl"
    until(lambda: alerts.exists() and '"subject":"age"' in alerts.read_text().replace(" ", ""), 60, servers.told)

    one = servers.run("request", "r7", "--json", config=reader)
    assert json.loads(one.stdout)["state"] == "joined"
    healthy = servers.run("doctor", "--json", config=config)
    findings = {row["name"]: row["verdict"] for row in json.loads(healthy.stdout)["findings"]}
    assert set(findings.values()) == {"ok"}, healthy.stdout
    with redis.Redis.from_url(
        servers.store.redis_url, username=ADMIN, password=PASSWORDS[ADMIN], decode_responses=True
    ) as admin:
        until(lambda: any(admin.scan_iter("leadline:delivered:*")), 20, servers.told)
        refused = [entry for entry in admin.acl_log() if entry["reason"] != "auth"]
        assert [entry["object"] for entry in refused if not entry["object"].startswith("client|")] == []
    for process in (worker, deliverer):
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0, servers.told()
    assert "not available" not in servers.told()


def other_authority(servers: Servers) -> str:
    return str(Authority(servers.folder / "other").certificate)


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.parametrize("command", [("run",), ("topics", "create"), ("deliver",)], ids=lambda words: words[0])
def test_a_wrong_password_of_kafka_names_its_keys(servers: Servers, command: tuple[str, ...]) -> None:
    done = servers.run(*command, config=servers.config("leadline-worker", password="wr0ng-s3cret"))
    assert done.returncode == 1
    assert "kafka.security.password" in done.stderr
    assert "Traceback" not in done.stderr
    assert "wr0ng-s3cret" not in done.stderr


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.parametrize("command", [("run",), ("topics", "create"), ("deliver",)], ids=lambda words: words[0])
def test_a_wrong_authority_of_kafka_names_its_key(servers: Servers, command: tuple[str, ...]) -> None:
    done = servers.run(*command, config=servers.config("leadline-worker", ca=other_authority(servers)))
    assert done.returncode == 1
    assert "kafka.security.ca_location" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.kafka
@pytest.mark.slow
def test_another_protocol_than_the_listeners_is_suspected(servers: Servers) -> None:
    done = servers.run("topics", "create", config=servers.config("leadline-worker", protocol="SASL_PLAINTEXT"))
    assert done.returncode == 1
    assert "kafka.security.protocol" in done.stderr
    doctor = servers.run("doctor", "--json", config=servers.config("leadline-worker", protocol="SASL_PLAINTEXT"))
    (broker,) = [row for row in json.loads(doctor.stdout)["findings"] if row["name"] == "broker"]
    assert "kafka.security.protocol" in broker["detail"]
    assert "SASL_PLAINTEXT" in broker["mend"]


@pytest.mark.kafka
@pytest.mark.slow
def test_a_user_without_any_right_is_told_of_rights_not_of_missing_topics_alone(servers: Servers) -> None:
    stranger = servers.config("stranger", "leadline-worker")
    for command in (("run",), ("topics", "create"), ("deliver",)):
        done = servers.run(*command, config=stranger)
        assert done.returncode == 1
        assert "docs/operations.md" in done.stderr, command
        assert "Traceback" not in done.stderr
    doctor = json.loads(servers.run("doctor", "--json", config=stranger).stdout)
    (topics,) = [row for row in doctor["findings"] if row["name"] == "topics"]
    assert "ACL" in topics["mend"]


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "named"),
    [
        (Right("leadline-worker", "group", "leadline", ("Read",)), "group"),
        (Right("leadline-worker", "topic", "leadline.labels", ("Read",)), "leadline.labels"),
        (Right("leadline-worker", "topic", "leadline.digests", ("Write",)), "leadline.digests"),
    ],
    ids=["group", "read", "write"],
)
def test_a_worker_that_lacks_one_right_ends_and_names_it(servers: Servers, missing: Right, named: str) -> None:
    created = servers.run("topics", "create", config=servers.config("leadline-operator", "leadline-reader"))
    assert created.returncode == 0, created.stderr
    servers.kafka.revoke([missing])
    if missing.operations == ("Read",) and missing.kind == "topic":  # Describe alone: seen, but not read
        servers.kafka.grant([Right(missing.user, "topic", missing.name, ("Describe",))])
    try:
        worker = servers.start("run", servers.config("leadline-worker"))
        with publisher(servers, "service") as service:
            for number in range(50):
                service.predict(request_id=f"x{time.time()}{number}", model_id="m", model_version="1", score=0.5)
        assert worker.wait(60) == 1, servers.told()
    finally:
        servers.kafka.grant([missing])
    last = sorted(servers.folder.glob("run-*.log"), key=lambda path: path.stat().st_mtime)[-1].read_text()
    (ending,) = [line for line in last.splitlines() if "CRITICAL" in line]
    assert named in ending
    assert "docs/operations.md" in ending


@pytest.mark.kafka
def test_refusals_of_redis_name_the_part_of_the_address_and_never_the_password(tmp_path: Path) -> None:
    """On Redis alone, so that the short suite has TLS, users and rights in it."""
    try:
        authority, other = Authority(tmp_path / "authority"), Authority(tmp_path / "other")
        store = secure_redis(tmp_path / "redis", authority)
        store.start()
    except PartMissing as missing:
        absent(missing)
    try:
        user, password = "leadline-reader", PASSWORDS["leadline-reader"]
        where, ca = f"127.0.0.1:{store.port}/0", authority.certificate

        (tmp_path / "leadline.yaml").write_text(
            f"redis: {{url: 'rediss://{user}:{password}@{where}?ssl_ca_certs={ca}'}}\n"
        )
        shown = leadline("status", cwd=tmp_path)
        assert shown.returncode == 0, shown.stderr
        other_user = f"leadline-deliver:{quote(PASSWORDS['leadline-deliver'], safe='')}"
        with (
            open_store(f"rediss://{other_user}@{where}?ssl_ca_certs={ca}") as opened,
            pytest.raises(StoreError, match=r"docs/operations\.md"),
        ):
            opened.keys("leadline:*")
        expected = {
            f"rediss://{user}:wr0ng@{where}?ssl_ca_certs={ca}": "look at user and password in redis.url",
            f"rediss://{where}?ssl_ca_certs={ca}": "asks for a user",
            f"rediss://{user}:{password}@{where}?ssl_ca_certs={other.certificate}": "ssl_ca_certs in redis.url",
            f"rediss://{user}:{password}@{where}?ssl_ca_certs=/none.pem": "A file that redis.url names is not there",
            f"rediss://{user}:{password}@{where}?ssl_ca_cert={ca}": "after the question mark",
            f"redis://{user}:{password}@{where}": "redis.url begins with rediss://",
            f"rediss://{user}:{password}@{where}?socket_timeout=soon": "after the question mark",
            f"redis://{user}:wr0ng#{password}@{where}": "written as %23",
        }
        for url, words in expected.items():
            with pytest.raises(StoreError, match=re.escape(words)) as refused:
                open_store(url)
            with pytest.raises(StoreError, match=re.escape(words)) as worker_refused:
                asyncio.run(connect(url))
            for told in (str(refused.value), str(worker_refused.value)):
                assert password not in told
                assert "wr0ng" not in told
    finally:
        store.stop()
