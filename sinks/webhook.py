"""Alerts as JSON to any HTTP endpoint, with a key against double processing and, if wanted, a signature.

The body is the alert as it is on the topic (`docs/schemas/alert.json`). With a `signing_secret`, `Leadline-Signature`
is `t=<epoch seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>">`: the receiver computes the same over the raw body, compares
in constant time, and refuses old `t`, so that a recorded request cannot be played again.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Literal
from urllib.parse import quote

from pydantic import Field, SecretStr, field_validator

from leadline.alert import Alert
from sinks.base import Sink, SinkConfig
from sinks.http import Poster, judge
from sinks.secrets import Secret, SecretHeader, SecretUrl

SIGNATURE_HEADER = "Leadline-Signature"
IDEMPOTENCY_HEADER = "Idempotency-Key"
RESERVED = frozenset({"content-type", "content-length", "host", SIGNATURE_HEADER.lower(), IDEMPOTENCY_HEADER.lower()})
TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class WebhookConfig(SinkConfig):
    """`kind: webhook`."""

    kind: Literal["webhook"] = "webhook"
    url: SecretUrl
    headers: dict[str, SecretHeader] = Field(default={}, description="added to every request; values may be secrets")
    signing_secret: Secret | None = None
    timeout_s: float = Field(default=10.0, gt=0, le=300)

    @field_validator("headers")
    @classmethod
    def _names(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name in headers:
            if not name or not set(name) <= TOKEN or name.lower() in RESERVED:
                raise ValueError("a header's name is not a valid one, or is set by the sink itself")
        return headers

    @property
    def default_name(self) -> str:
        return self.kind

    def build(self) -> Sink:
        return WebhookSink(self)


def signature(secret: str, body: bytes, at: int) -> str:
    """The value of `Leadline-Signature` for `body` signed at `at`, epoch seconds."""
    digest = hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


class WebhookSink:
    """POSTs the alert; any 2xx is a delivery."""

    def __init__(self, config: WebhookConfig, now: Callable[[], float] = time.time) -> None:
        self.name = config.label
        self._config = config
        self._now = now
        self._poster = Poster(config.timeout_s)

    async def send(self, alert: Alert, /) -> None:
        body = alert.model_dump_json().encode()
        url = self._config.url.get_secret_value()
        judge(await self._poster.post(url, body, self._headers(alert, body)))

    async def close(self) -> None:
        await self._poster.close()

    def _headers(self, alert: Alert, body: bytes) -> dict[str, str]:
        headers = {name: value.get_secret_value() for name, value in self._config.headers.items()}
        headers["Content-Type"] = "application/json"
        # Quoted: an id is anybody's text, and a header takes neither line breaks nor UTF-8.
        headers[IDEMPOTENCY_HEADER] = quote(alert.alert_id, safe=":/@+,=")
        if self._config.signing_secret is not None:
            secret = self._config.signing_secret.get_secret_value()
            headers[SIGNATURE_HEADER] = signature(secret, body, int(self._now()))
        return headers
