"""One POST, and what became of it: the table from statuses and faults to "delivered", "later" and "never".

What leaves this module never carries the address, a header or the answer: an incoming webhook's address *is* its
secret. httpx writes the address of every request to its log at INFO; a filter drops those records while one of our
requests is under way.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache

import httpx

from sinks.base import Rejected, RejectReason, RetryLater, RetryReason

ANSWER_LIMIT = 64 * 1024
_ours: ContextVar[bool] = ContextVar("leadline_sink_request", default=False)


class _Quiet(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not _ours.get()


_quiet = _Quiet()
for _name in ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.http2", "httpcore.proxy"):
    logging.getLogger(_name).addFilter(_quiet)


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, body (cut at `ANSWER_LIMIT` bytes) and the seconds that `Retry-After` asks for."""

    status: int
    body: bytes
    retry_after_s: float | None


@cache
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()  # reading the bundle costs more than a request: once a process


class Poster:
    """The connection of one sink: made with its first request, closed with it."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._client: httpx.AsyncClient | None = None
        self._closed = False

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The answer, whatever its status. `RetryLater` where there was none in time, or the sink is closed."""
        if self._closed:
            raise RetryLater(None, "closed")
        if self._client is None:
            # Follows no redirect (it would carry the alert to where nobody sent it) and keeps its connection.
            self._client = httpx.AsyncClient(
                timeout=self._timeout_s,
                follow_redirects=False,
                verify=_certificates(),
                limits=httpx.Limits(max_connections=2, keepalive_expiry=30),
            )
        return await _post(self._client, url, body, headers, self._timeout_s)

    async def close(self) -> None:
        """For good: an alert that comes later is to be tried again by the next run."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


async def _post(
    client: httpx.AsyncClient, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float
) -> Answer:
    """One request within `timeout_s` seconds in all."""
    failure: tuple[RetryReason, str]
    token = _ours.set(True)
    try:
        async with asyncio.timeout(timeout_s):  # httpx times every read anew: a dripping answer would last for ever
            async with client.stream("POST", url, content=body, headers=dict(headers)) as response:
                received = bytearray()
                async for chunk in response.aiter_bytes():
                    received += chunk
                    if len(received) >= ANSWER_LIMIT:
                        break
                after_s = retry_after_s(response.headers.get("retry-after"), datetime.now(UTC))
                return Answer(response.status_code, bytes(received[:ANSWER_LIMIT]), after_s)
    except (TimeoutError, httpx.TimeoutException):
        failure = "timeout", f"no complete answer within {timeout_s:g} s"
    except (httpx.ConnectError, httpx.ProxyError) as error:
        failure = "unreachable", type(error).__name__
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
        failure = "unexpected_answer", type(error).__name__
    finally:
        _ours.reset(token)
    # Raised here, outside the handlers, so that no chained httpx exception (it holds the request) travels along.
    reason, detail = failure
    raise RetryLater(None, reason, detail)


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for: a number or an HTTP date (RFC 9110, 10.2.3). None where it is absent
    or odd.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.replace(".", "", 1).isdigit() and len(text) < 16:
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def refused(status: int) -> RejectReason:
    """The reason for a final refusal by status."""
    if 300 <= status < 400:
        return "redirected"
    if status in (401, 403, 407):
        return "unauthorised"
    if status in (404, 410):
        return "unknown_destination"
    if status in (400, 413, 415, 422):
        return "bad_payload"
    return "refused"


def judge(answer: Answer) -> None:
    """Return for 2xx; `RetryLater` for 408, 425, 429 and 5xx; `Rejected` for everything else."""
    status, after_s = answer.status, answer.retry_after_s
    if 200 <= status < 300:
        return
    if status == 429:
        raise RetryLater(after_s, "rate_limited", "status 429")
    if status in (408, 425):
        raise RetryLater(after_s, "timeout", f"status {status}")
    if status >= 500:
        raise RetryLater(after_s, "server_error", f"status {status}")
    raise Rejected(refused(status), f"status {status}")
