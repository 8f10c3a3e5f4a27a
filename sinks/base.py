"""What a sink is: one method that delivers one alert, beside the configuration that declares it.

A sink does not route, retry, or remember what it delivered; `route`, `retry` and `record` stand around it. It answers
in three ways: `send` returns (delivered), raises `RetryLater` (try again, perhaps not before `after_s`), or raises
`Rejected` (this alert will never be taken: dead letter). Nothing else leaves `send` but cancellation.

The text of an error may be logged: it never carries an address, a token, or what the other side answered.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from leadline.alert import Alert, Life, Severity
from sinks.retry import RetryPolicy

RetryReason = Literal[
    "timeout", "unreachable", "rate_limited", "server_error", "unexpected_answer", "io_error", "closed", "fault"
]
RejectReason = Literal["refused", "redirected", "unauthorised", "unknown_destination", "bad_payload"]


class SinkError(Exception):
    """`reason` is one of few and may label a metric; `detail` says more, in words, without secrets."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class RetryLater(SinkError):
    """Not delivered, as far as known; the same alert may go through later. `after_s`: not before that many seconds."""

    def __init__(self, after_s: float | None, reason: RetryReason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.after_s = after_s


class Rejected(SinkError):
    """Not delivered, and trying again cannot help."""

    def __init__(self, reason: RejectReason, detail: str = "") -> None:
        super().__init__(reason, detail)


class Sink(Protocol):
    """A destination. One `send` at a time; `close` may come at any time and more than once."""

    name: str

    async def send(self, alert: Alert, /) -> None:
        """Deliver, or raise `RetryLater` or `Rejected`. A repeated delivery has the same `alert_id`."""

    async def close(self) -> None:
        """Let go of files and connections. A later `send` raises `RetryLater`."""


class Settings(BaseModel):
    """Frozen configuration that refuses misspelled keys, and whose errors do not quote what was written (it may be a
    secret).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class SinkConfig(Settings, ABC):
    """What every sink's configuration has: a name, and which alerts it wants (`sinks.route`)."""

    name: str = Field(default="", pattern=r"^([a-z0-9][a-z0-9._-]{0,63})?$", description="unique; default: the kind")
    channels: tuple[str, ...] = Field(default=("default",), description='"*" takes every channel')
    minimum_severity: Severity = "info"
    models: tuple[str, ...] = Field(default=("*",), description="globs of model ids")
    lives: tuple[Life, ...] = ("open", "worse", "better", "resolved")
    queue_size: int = Field(default=1000, ge=1, le=100_000, description="alerts that may wait for this sink")
    retry: RetryPolicy = RetryPolicy()

    @property
    @abstractmethod
    def default_name(self) -> str:
        """The kind of the sink."""

    @abstractmethod
    def build(self) -> Sink:
        """A new sink. Opens nothing yet: the first `send` does."""

    @property
    def label(self) -> str:
        """The name under which the sink is logged, counted and recorded."""
        return self.name or self.default_name
