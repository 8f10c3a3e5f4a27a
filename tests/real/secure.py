"""Apache Kafka with SASL/SCRAM over TLS and ACLs, and Redis with TLS and users, as docs/operations.md says to set them up.

The rights are not written here: they are read from the document, so what people copy is what the tests run with.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.real.kafka import HOST, KafkaServer
from tests.real.redis_server import RealRedis, Tls
from tests.real.tls import Authority

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
ADMIN = "admin"
# Signs that mean something to YAML, to URLs, to JAAS or to a shell.
PASSWORDS = {
    "leadline-worker": "w0rker:#/s3cret%41",
    "leadline-deliver": "d3liver&s3cret @me",
    "leadline-operator": "0perator-s3cret",
    "service": "serv1ce-s3cret",
    "labeller": "label-s3cret",
    "stranger": "str4nger-s3cret",
    "leadline-reader": "re4der-s3cret",
    ADMIN: "adm1n-s3cret",
}


@dataclass(frozen=True)
class Right:
    """One row of the document's table: who may do what to which topic or group (a name, or a prefix that ends in `*`)."""

    user: str
    kind: str
    name: str
    operations: tuple[str, ...]

    def bindings(self, kind: type[Any] = AclBinding) -> Iterator[Any]:
        prefixed = self.name.endswith("*")
        for operation in self.operations:
            yield kind(
                ResourceType[self.kind.upper()],
                self.name.removesuffix("*"),
                ResourcePatternType.PREFIXED if prefixed else ResourcePatternType.LITERAL,
                f"User:{self.user}",
                "*",
                AclOperation[_words(operation)],
                AclPermissionType.ALLOW,
            )


def _words(operation: str) -> str:
    """`DescribeConfigs` as DESCRIBE_CONFIGS."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).upper()


def documented_rights() -> list[Right]:
    """The table of Kafka ACLs."""
    row = re.compile(r"^\| `([\w-]+)` \| (topic|group) `([\w.*-]+)` \| ([\w, ]+) \|", re.MULTILINE)
    return [
        Right(user, kind, name, tuple(operations.split(", ")))
        for user, kind, name, operations in row.findall(DOCUMENT.read_text())
    ]


def documented_redis_users() -> dict[str, str]:
    """The ACL file: user to his rules, without a password."""
    row = re.compile(r"^user ([\w-]+) on >\S+ (.+)$", re.MULTILINE)
    return dict(row.findall(DOCUMENT.read_text()))


class SecureKafka:
    """One node that clients reach by SASL_SSL alone. `admin` may do everything; all others what the document grants them."""

    def __init__(self, folder: Path, cache: Path, authority: Authority) -> None:
        self.authority = authority
        shown = authority.sign("kafka")
        self.server = KafkaServer(folder, cache, scram=PASSWORDS, client=self.options(ADMIN), heap_mb=512)
        port, controller = self.server.port, self.server.properties()["controller.quorum.voters"].partition("@")[2]
        jaas = "org.apache.kafka.common.security.scram.ScramLoginModule required"
        self.server.override(
            {
                "listeners": f"CLIENTS://{HOST}:{port},CONTROLLER://{controller}",
                "advertised.listeners": f"CLIENTS://{HOST}:{port}",
                "inter.broker.listener.name": "CLIENTS",
                "listener.security.protocol.map": "CLIENTS:SASL_SSL,CONTROLLER:PLAINTEXT",
                "sasl.enabled.mechanisms": "SCRAM-SHA-512",
                "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
                "listener.name.clients.scram-sha-512.sasl.jaas.config": (
                    f'{jaas} username="{ADMIN}" password="{PASSWORDS[ADMIN]}";'
                ),
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": str(shown.both),
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": str(authority.certificate),
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                # The controller's port is this process' own business; nobody else is told of it.
                "super.users": f"User:{ADMIN};User:ANONYMOUS",
                "allow.everyone.if.no.acl.found": "false",
            }
        )

    def options(self, user: str) -> dict[str, str]:
        """librdkafka's, for a client of this user."""
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": PASSWORDS[user],
            "ssl.ca.location": str(self.authority.certificate),
        }

    @cached_property
    def admin(self) -> AdminClient:
        where = {"bootstrap.servers": self.server.bootstrap_servers, "log_level": 0}
        return AdminClient({**where, **self.options(ADMIN)})

    def grant(self, rights: list[Right]) -> None:
        bindings = [binding for right in rights for binding in right.bindings()]
        for future in self.admin.create_acls(bindings).values():
            future.result(20)

    def revoke(self, rights: list[Right]) -> None:
        bindings = [binding for right in rights for binding in right.bindings(AclBindingFilter)]
        for future in self.admin.delete_acls(bindings).values():
            future.result(20)


def secure_redis(folder: Path, authority: Authority, settings: Mapping[str, str] | None = None) -> RealRedis:
    """A server with TLS alone and the document's users; without a name nobody gets in."""
    shown = authority.sign("redis")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "users.acl"
    users = {ADMIN: "~* &* +@all", **documented_redis_users()}
    lines = [
        f"user {name} on #{hashlib.sha256(PASSWORDS[name].encode()).hexdigest()} {rules}"
        for name, rules in users.items()
    ]
    file.write_text("\n".join(["user default off", *lines, ""]))
    client: dict[str, Any] = {"username": ADMIN, "password": PASSWORDS[ADMIN]}
    tls = Tls(authority.certificate, shown.certificate, shown.key)
    return RealRedis(folder, settings={"aclfile": str(file), **(settings or {})}, tls=tls, client=client)
