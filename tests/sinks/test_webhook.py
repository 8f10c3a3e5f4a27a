"""The generic webhook: the alert as it is, a key against double processing, a signature that can be checked."""

from __future__ import annotations

import asyncio
import hashlib
import hmac

from leadline.alert import Alert
from sinks.webhook import WebhookConfig, WebhookSink, signature
from tests.sinks.samples import full_alert
from tests.sinks.server import Request, Server


def sent(config: dict[str, object]) -> Request:
    async def scene() -> Request:
        async with Server() as server:
            sink = WebhookSink(WebhookConfig.model_validate({"url": f"{server.url}/hook?a=1", **config}), lambda: 1e9)
            await sink.send(full_alert())
            await sink.close()
            return server.requests[0]

    return asyncio.run(scene())


def test_the_body_is_the_alert() -> None:
    request = sent({})
    assert request.line == "POST /hook?a=1 HTTP/1.1"
    assert request.headers["content-type"] == "application/json"
    assert Alert.model_validate_json(request.body) == full_alert()


def test_a_repetition_carries_the_same_key() -> None:
    assert sent({}).headers["idempotency-key"] == sent({}).headers["idempotency-key"] == full_alert().alert_id


def test_the_signature_can_be_checked_from_the_raw_body() -> None:
    request = sent({"signing_secret": "s3cret"})
    stamp, _, digest = request.headers["leadline-signature"].partition(",v1=")
    expected = hmac.new(b"s3cret", stamp.removeprefix("t=").encode() + b"." + request.body, hashlib.sha256).hexdigest()
    assert (stamp, digest) == ("t=1000000000", expected)


def test_without_a_secret_nothing_is_signed() -> None:
    assert "leadline-signature" not in sent({}).headers


def test_the_signature_of_a_known_message() -> None:
    # printf '1700000000.{}' | openssl dgst -sha256 -hmac key
    assert signature("key", b"{}", 1_700_000_000) == "t=1700000000,v1=" + KNOWN


def test_headers_of_the_configuration_are_sent() -> None:
    assert sent({"headers": {"Authorization": "Bearer t"}}).headers["authorization"] == "Bearer t"


KNOWN = "9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae"
