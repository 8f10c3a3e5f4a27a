"""What librdkafka says, in the words of leadline.yaml."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from leadline.kafka_refusals import explained, final, named


@dataclass(frozen=True)
class Said:
    code: str
    words: str

    def name(self) -> str:
        return self.code

    def str(self) -> str:
        return self.words


PASSWORD = Said(
    "_AUTHENTICATION",
    "sasl_ssl://kafka:9093/bootstrap: SASL authentication error: invalid credentials (after 309ms in state AUTH_REQ)",
)
AUTHORITY = Said("_SSL", "ssl://k:1/bootstrap: certificate verify failed: verify that ssl.ca.location is right")
HOST = Said("_SSL", "ssl://k:1/bootstrap: certificate verify failed: hostname mismatch")
PLAIN = Said("_SSL", "ssl://k:1/bootstrap: SSL handshake failed: wrong version number")
RIGHT = Said("TOPIC_AUTHORIZATION_FAILED", "Topic authorization failed.")
REFUSED = Said(
    "_TRANSPORT", "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: refused (after 0ms in state X)"
)


@pytest.mark.parametrize(
    ("error", "key"),
    [
        (PASSWORD, "kafka.security.password"),
        (AUTHORITY, "kafka.security.ca_location must hold"),
        (HOST, "kafka.bootstrap_servers"),
        (PLAIN, "kafka.security.protocol"),
        (RIGHT, "docs/operations.md"),
    ],
)
def test_a_refusal_names_the_key_to_look_at(error: Said, key: str) -> None:
    assert key in explained(error)
    assert final(error)


def test_addresses_and_times_go_and_the_words_stay() -> None:
    assert explained(PASSWORD).startswith("SASL authentication error: invalid credentials; look at")
    assert explained(REFUSED) == "Connect to ipv4#127.0.0.1:1 failed: refused"
    assert not final(REFUSED)


def test_options_are_called_as_in_the_configuration() -> None:
    assert named("ssl.ca.location failed") == "kafka.security.ca_location failed"
    assert named("No provider for sasl.mechanism or sasl.mechanisms") == (
        "No provider for kafka.security.mechanism or kafka.security.mechanism"
    )
