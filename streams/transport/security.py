"""The same security for both Kafka clients: librdkafka's options, and what Faust and aiokafka make of them."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from faust.auth import Credentials, SASLCredentials, SSLCredentials

MECHANISMS = frozenset({"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"})


class SecurityUnsupported(ValueError):
    """An option that the second client has no word for; `reason` is the metric label."""

    reason = "security_unsupported"


def _context(options: Mapping[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get("ssl.ca.location"), cadata=options.get("ssl.ca.pem"))
    if certificate := options.get("ssl.certificate.location"):
        context.load_cert_chain(certificate, options.get("ssl.key.location"), options.get("ssl.key.password"))
    if str(options.get("ssl.endpoint.identification.algorithm", "https")).lower() == "none":
        context.check_hostname = False
    if str(options.get("enable.ssl.certificate.verification", "true")).lower() == "false":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def credentials(options: Mapping[str, Any]) -> Credentials | None:
    """Faust's credentials for librdkafka's `security.protocol`, `sasl.*` and `ssl.*`; None for plaintext."""
    protocol = str(options.get("security.protocol", "plaintext")).upper()
    if protocol == "PLAINTEXT":
        return None
    if protocol == "SSL":
        return SSLCredentials(_context(options))
    if protocol not in {"SASL_PLAINTEXT", "SASL_SSL"}:
        raise SecurityUnsupported(f"security.protocol {protocol}")
    mechanism = str(options.get("sasl.mechanism", options.get("sasl.mechanisms", "PLAIN"))).upper()
    if mechanism not in MECHANISMS:
        raise SecurityUnsupported(f"sasl.mechanism {mechanism}: use one of {', '.join(sorted(MECHANISMS))}")
    return SASLCredentials(
        username=options.get("sasl.username"),
        password=options.get("sasl.password"),
        mechanism=mechanism,
        ssl_context=_context(options) if protocol == "SASL_SSL" else None,
    )
