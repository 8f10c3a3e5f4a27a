"""What Kafka's refusals mean in leadline.yaml: librdkafka says what happened, people need to know which key to look at."""

from __future__ import annotations

import re
from typing import Protocol

OPTIONS = {
    "security.protocol": "kafka.security.protocol",
    "sasl.mechanisms": "kafka.security.mechanism",
    "sasl.mechanism": "kafka.security.mechanism",
    "sasl.username": "kafka.security.username",
    "sasl.password": "kafka.security.password",
    "ssl.ca.location": "kafka.security.ca_location",
    "ssl.certificate.location": "kafka.security.certificate_location",
    "ssl.key.location": "kafka.security.key_location",
    "ssl.key.password": "kafka.security.key_password",
    "bootstrap.servers": "kafka.bootstrap_servers",
}
RIGHTS = "the rights that each program needs stand in docs/operations.md, TLS, users, ACLs"
_OPTION = re.compile("|".join(map(re.escape, sorted(OPTIONS, key=len, reverse=True))))
_WHERE = re.compile(r"^(?:\w+://)?\S+?/\w+: ")
_WHEN = re.compile(r" \(after \d+ms in state \w+\)$")


class Refusal(Protocol):
    """`confluent_kafka.KafkaError`, as far as it is needed here."""

    def name(self) -> str: ...
    def str(self) -> str: ...


def final(error: Refusal) -> bool:
    """Whether the broker will say the same until somebody changes something."""
    return error.name() in ("_AUTHENTICATION", "_SSL") or "AUTHORIZATION_FAILED" in error.name()


def explained(error: Refusal) -> str:
    """The refusal in librdkafka's words without addresses and times, and which keys to look at. Holds no secret."""
    words = named(_WHEN.sub("", _WHERE.sub("", error.str()))).rstrip(".")
    remedy = _remedy(error)
    return f"{words}; {remedy}" if remedy else words


def named(text: str) -> str:
    """librdkafka's options by their keys in leadline.yaml."""
    return _OPTION.sub(lambda match: OPTIONS[match.group()], text)


def _remedy(error: Refusal) -> str | None:
    name, text = error.name(), error.str().lower()
    if name == "_AUTHENTICATION":
        return "look at kafka.security.username, kafka.security.password and kafka.security.mechanism"
    if name == "_SSL":
        if "hostname mismatch" in text or "ip address mismatch" in text or "does not match" in text:
            return "kafka.bootstrap_servers must name the broker as its certificate does"
        if "certificate" in text and "verif" in text:
            return "kafka.security.ca_location must hold the authority that signed the broker's certificate"
        return "does this listener speak TLS? Look at kafka.security.protocol and the port in kafka.bootstrap_servers"
    if name in ("TOPIC_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED"):
        return f"the user of kafka.security.username lacks an ACL; {RIGHTS}"
    return None
