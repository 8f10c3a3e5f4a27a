"""Slack: its ways of saying no, and messages within its limits."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.alert import Alert, ChangeNote, Evidence
from sinks.base import Rejected, RetryLater, SinkError
from sinks.http import Answer
from sinks.slack import LATER, NEVER, SlackConfig, understand
from sinks.slack_blocks import BLOCKS_LIMIT, FIELD_LIMIT, FIELDS_LIMIT, TEXT_LIMIT, escape, message
from tests.sinks.samples import alert, full_alert
from tests.sinks.server import Server, response


def said(status: int, body: str, *, plain_ok: bool = True, after_s: float | None = None) -> SinkError | None:
    try:
        understand(Answer(status, body.encode(), after_s), plain_ok=plain_ok)
    except (RetryLater, Rejected) as error:
        return error
    return None


@pytest.mark.parametrize("body", ["ok", "ok\n", '{"ok": true}', '{"ok":true,"ts":"1.2"}', '{"success": true}'])
def test_a_webhook_says_yes(body: str) -> None:
    assert said(200, body) is None


def test_a_plain_ok_is_no_answer_of_the_api() -> None:
    error = said(200, "ok", plain_ok=False)
    assert isinstance(error, RetryLater)
    assert error.reason == "unexpected_answer"


@pytest.mark.parametrize("word", LATER)
@pytest.mark.parametrize("form", ["{}", '{{"ok": false, "error": "{}"}}'])
def test_words_that_pass_mean_later(word: str, form: str) -> None:
    error = said(200, form.format(word), after_s=12.0)
    assert isinstance(error, RetryLater)
    assert (error.reason, error.after_s) == (LATER[word], 12.0)


@pytest.mark.parametrize("word", NEVER)
@pytest.mark.parametrize("form", ["{}", '{{"ok": false, "error": "{}"}}'])
@pytest.mark.parametrize("status", [200, 400, 403, 404, 410])
def test_words_that_stay_mean_never(word: str, form: str, status: int) -> None:
    error = said(status, form.format(word))
    assert isinstance(error, Rejected)
    assert error.reason == NEVER[word]


@pytest.mark.parametrize(
    "body", ['{"ok": false}', '{"ok": false, "error": "brand_new"}', '{"ok": false, "error": 7}', '{"success": false}']
)
def test_a_no_without_a_known_word_is_a_no(body: str) -> None:
    error = said(200, body)
    assert isinstance(error, Rejected)
    assert error.reason == "refused"
    assert "brand_new" not in str(error)


@pytest.mark.parametrize(
    "body",
    ["", "<html>Sign in to the guest network</html>", "no_such_word", "[]", '{"ok": "true"}', '{"ok": 1}', "\xff"],
)
def test_an_answer_that_is_not_slacks_means_later(body: str) -> None:
    error = said(200, body)
    assert isinstance(error, RetryLater)
    assert error.reason == "unexpected_answer"


def test_a_server_error_means_later_whatever_the_body_says() -> None:
    assert isinstance(said(500, "invalid_payload"), RetryLater)


def test_a_rate_limit_means_later_whatever_the_body_says() -> None:
    error = said(429, '{"ok": false, "error": "invalid_auth"}', after_s=30.0)
    assert isinstance(error, RetryLater)
    assert (error.reason, error.after_s) == ("rate_limited", 30.0)


def test_the_webhook_gets_a_message_and_no_token() -> None:
    async def scene() -> None:
        async with Server() as server:
            sink = SlackConfig.model_validate({"webhook_url": f"{server.url}/services/x"}).build()
            await sink.send(alert())
            await sink.close()
            [request] = server.requests
            assert request.line == "POST /services/x HTTP/1.1"
            assert "authorization" not in request.headers
            assert json.loads(request.body) == message(alert())

    asyncio.run(scene())


def test_a_bot_token_posts_to_its_channel() -> None:
    async def scene() -> None:
        async with Server(lambda request: response(200, b'{"ok": true, "ts": "1.2"}')) as server:
            api = f"{server.url}/api/chat.postMessage"
            sink = SlackConfig.model_validate({"token": "xoxb-1", "channel": "C042", "api_url": api}).build()
            await sink.send(alert())
            await sink.close()
            [request] = server.requests
            assert request.headers["authorization"] == "Bearer xoxb-1"
            assert json.loads(request.body) == {**message(alert()), "channel": "C042"}

    asyncio.run(scene())


def texts(what: Any) -> list[str]:
    """Every text of a message."""
    if isinstance(what, dict):
        own = [what["text"]] if isinstance(what.get("text"), str) else []
        return own + [text for value in what.values() for text in texts(value)]
    if isinstance(what, list):
        return [text for each in what for text in texts(each)]
    return []


def assert_within_limits(told: dict[str, Any]) -> None:
    assert len(told["blocks"]) <= BLOCKS_LIMIT
    for block in told["blocks"]:
        assert block["type"] in ("section", "context")
        assert len(block.get("fields", [])) <= FIELDS_LIMIT
        for field in block.get("fields", []):
            assert 0 < len(field["text"]) <= FIELD_LIMIT
        for element in (*block.get("elements", []), *([block["text"]] if "text" in block else [])):
            assert 0 < len(element["text"]) <= TEXT_LIMIT
            assert element["verbatim"] is True
    assert 0 < len(told["text"]) <= TEXT_LIMIT


def test_a_message_says_what_a_tired_person_needs() -> None:
    whole = "\n".join(texts(message(full_alert())))
    for words in (
        "WARN",
        "Resolved",
        "age has drifted",
        "readmission",
        "version 3, site=north (25.0% of traffic)",
        "0.3123 against 0.1 (n = 4,200; noise alone reaches 0.012)",
        "UTC, 1 min 30 s before this message",
        "deploy 3",
        "2 min before the onset",
        "Compare the scaler",
        "inc-1:1",
        "learned from",
    ):
        assert words in whole, words


NASTY = "<!channel> & <http://x|y> @here `code` *bold* \u202e\x00\n"


def test_what_other_people_named_is_escaped_and_mentions_nobody() -> None:
    note = ChangeNote(kind="deploy", timestamp=0.0, version=NASTY, note=NASTY)
    evidence = Evidence(signal="psi", subject=NASTY, layer="data", value=1, reference=1, n=1, span_s=1, detail=NASTY)
    told = message(
        alert(
            title=NASTY,
            summary=NASTY,
            model_id=NASTY,
            subject=NASTY,
            evidence=(evidence,),
            changes_before=(note,),
            advice=(NASTY,),
            incident_id=NASTY,
            false_alarm_budget=NASTY,
        )
    )
    assert_within_limits(told)
    for text in texts(told):
        assert "<" not in text
        assert ">" not in text
        assert "\x00" not in text
        assert "\u202e" not in text


def many(size: int) -> Alert:
    text = "<&>" * size
    evidence = Evidence(
        signal=text, subject=text, layer="data", value=1e300, reference=-1e-300, n=10**18, span_s=1e12, detail=text
    )
    return alert(
        title=text,
        summary=text,
        model_id=text,
        subject=text,
        evidence=(evidence,) * 60,
        advice=(text,) * 60,
        changes_before=(ChangeNote(kind=text, timestamp=1e300, note=text),) * 60,
        alert_id=text,
        incident_id=text,
    )


@pytest.mark.parametrize("size", [1, 300, 2000])
def test_an_alert_of_any_size_stays_within_the_limits(size: int) -> None:
    assert_within_limits(message(many(size)))


def test_an_alert_without_words_is_still_a_message() -> None:
    assert_within_limits(message(alert(title="", summary="", model_id="", signal="", subject=None, value=None)))


@given(st.text(alphabet="a&<>", max_size=60), st.integers(6, 40))
def test_escaping_never_cuts_an_entity(text: str, limit: int) -> None:
    escaped = escape(text, limit)
    assert len(escaped) <= limit
    back = escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert back == text or text.startswith(back.removesuffix("…"))
    rest = escaped.replace("&lt;", "").replace("&gt;", "").replace("&amp;", "")
    assert not set(rest) & set("&<>")
