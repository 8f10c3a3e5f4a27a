"""librdkafka's words for security, and what the second client gets of them."""

from __future__ import annotations

import ssl

import pytest
from faust.auth import SASLCredentials, SSLCredentials
from faust.types.auth import AuthProtocol, SASLMechanism

from streams.transport.security import SecurityUnsupported, credentials


def test_plaintext_needs_no_credentials() -> None:
    assert credentials({}) is None
    assert credentials({"security.protocol": "plaintext"}) is None


def test_a_password_goes_to_both_clients() -> None:
    made = credentials(
        {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "u",
            "sasl.password": "p",
        }
    )
    assert isinstance(made, SASLCredentials)
    assert (made.username, made.password, made.mechanism) == ("u", "p", SASLMechanism.SCRAM_SHA_512)
    assert made.protocol == AuthProtocol.SASL_PLAINTEXT


def test_tls_checks_names_and_certificates_unless_told_otherwise() -> None:
    made = credentials({"security.protocol": "ssl"})
    assert isinstance(made, SSLCredentials)
    assert made.context.check_hostname
    assert made.context.verify_mode == ssl.CERT_REQUIRED
    lax = credentials({"security.protocol": "SSL", "ssl.endpoint.identification.algorithm": "none"})
    assert isinstance(lax, SSLCredentials)
    assert not lax.context.check_hostname
    assert lax.context.verify_mode == ssl.CERT_REQUIRED


def test_sasl_over_tls_has_both() -> None:
    made = credentials({"security.protocol": "sasl_ssl", "sasl.username": "u", "sasl.password": "p"})
    assert isinstance(made, SASLCredentials)
    assert made.protocol == AuthProtocol.SASL_SSL
    assert made.ssl_context is not None


@pytest.mark.parametrize(
    "options",
    [
        {"security.protocol": "QUANTUM"},
        {"security.protocol": "SASL_SSL", "sasl.mechanism": "GSSAPI"},
        {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanisms": "OAUTHBEARER"},
    ],
)
def test_what_one_client_cannot_do_is_refused_aloud(options: dict[str, str]) -> None:
    with pytest.raises(SecurityUnsupported):
        credentials(options)
