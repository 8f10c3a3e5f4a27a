"""Alerts to Slack, through an incoming webhook or with a bot token (`chat.postMessage`).

Slack says no in several ways: by status, by a word in the body of a webhook's answer, and by `{"ok": false, "error":
WORD}` under a status of 200. Servers that speak Slack's webhook (Mattermost, Rocket.Chat) answer `ok` or JSON with
`success`. An answer that is none of these came from something in between, a proxy's page for example: not delivered,
try again.
"""

from __future__ import annotations

import json
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, model_validator

from leadline.alert import Alert
from sinks.base import Rejected, RejectReason, RetryLater, RetryReason, Sink, SinkConfig
from sinks.http import Answer, Poster, judge
from sinks.secrets import SecretHeader, SecretUrl
from sinks.slack_blocks import message

LATER: dict[str, RetryReason] = {
    "ratelimited": "rate_limited",
    "rate_limited": "rate_limited",
    "message_limit_exceeded": "rate_limited",
    "fatal_error": "server_error",
    "internal_error": "server_error",
    "rollup_error": "server_error",
    "service_unavailable": "server_error",
    "team_added_to_org": "server_error",
    "request_timeout": "timeout",
}
NEVER: dict[str, RejectReason] = {
    "invalid_payload": "bad_payload",
    "invalid_blocks": "bad_payload",
    "invalid_blocks_format": "bad_payload",
    "no_text": "bad_payload",
    "msg_too_long": "bad_payload",
    "channel_not_found": "unknown_destination",
    "channel_is_archived": "unknown_destination",
    "is_archived": "unknown_destination",
    "not_in_channel": "unknown_destination",
    "no_service": "unknown_destination",
    "no_team": "unknown_destination",
    "user_not_found": "unknown_destination",
    "action_prohibited": "unauthorised",
    "invalid_auth": "unauthorised",
    "invalid_token": "unauthorised",
    "not_authed": "unauthorised",
    "account_inactive": "unauthorised",
    "token_expired": "unauthorised",
    "token_revoked": "unauthorised",
    "missing_scope": "unauthorised",
    "restricted_action": "unauthorised",
    "no_permission": "unauthorised",
}


class SlackConfig(SinkConfig):
    """`kind: slack`: either `webhook_url`, or `token` and `channel`."""

    kind: Literal["slack"] = "slack"
    webhook_url: SecretUrl | None = None
    token: SecretHeader | None = None
    channel: str | None = Field(default=None, min_length=1, description="id or name; with a token only")
    api_url: SecretUrl = SecretStr("https://slack.com/api/chat.postMessage")
    timeout_s: float = Field(default=10.0, gt=0, le=300)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.webhook_url is None) == (self.token is None):
            raise ValueError("give either webhook_url or token")
        if (self.token is None) != (self.channel is None):
            raise ValueError("channel goes with token: a webhook's channel is fixed by Slack")
        return self

    @property
    def default_name(self) -> str:
        return self.kind

    def build(self) -> Sink:
        return SlackSink(self)


class SlackSink:
    """One message an alert."""

    def __init__(self, config: SlackConfig) -> None:
        self.name = config.label
        self._config = config
        self._poster = Poster(config.timeout_s)

    async def send(self, alert: Alert, /) -> None:
        body = message(alert)
        headers = {"Content-Type": "application/json; charset=utf-8"}
        url = self._config.webhook_url or self._config.api_url
        if self._config.token is not None:
            body["channel"] = self._config.channel
            headers["Authorization"] = f"Bearer {self._config.token.get_secret_value()}"
        raw = json.dumps(body, ensure_ascii=False).encode()
        answer = await self._poster.post(url.get_secret_value(), raw, headers)
        understand(answer, plain_ok=self._config.token is None)

    async def close(self) -> None:
        await self._poster.close()


def understand(answer: Answer, *, plain_ok: bool) -> None:
    """Return if Slack took the message. `plain_ok`: a body of `ok` means yes (incoming webhooks; the API answers in
    JSON).
    """
    text = answer.body.decode("utf-8", "replace").strip()
    parsed = _object(text)
    if 200 <= answer.status < 300:
        if (plain_ok and text == "ok") or (parsed is not None and (parsed.get("ok") or parsed.get("success")) is True):
            return
        _by_word(_word(text, parsed), answer.retry_after_s)
        raise RetryLater(answer.retry_after_s, "unexpected_answer", f"status {answer.status} without Slack's ok")
    if 400 <= answer.status < 500 and answer.status != 429:
        _by_word(_word(text, parsed), answer.retry_after_s)  # the word says more than the status does
    judge(answer)


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _word(text: str, parsed: dict[str, Any] | None) -> str | None:
    """Slack's error word, or None. In an `ok: false`, a word that we do not know is "unknown"; elsewhere it is no
    answer of Slack's.
    """
    if parsed is not None:
        error = parsed.get("error")
        if isinstance(error, str) and error in LATER | NEVER:
            return error
        return "unknown" if parsed.get("ok") is False or parsed.get("success") is False else None
    return text if text in LATER | NEVER else None


def _by_word(word: str | None, after_s: float | None) -> None:
    if word is None:
        return
    if word in LATER:
        raise RetryLater(after_s, LATER[word], f"Slack says {word}")
    raise Rejected(NEVER.get(word, "refused"), f"Slack says {word}")
