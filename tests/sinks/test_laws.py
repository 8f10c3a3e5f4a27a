"""The laws that every sink keeps. A kind that is registered and has no harness here fails the suite."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sinks.base import Rejected, RetryLater, Sink, SinkConfig
from sinks.console import ConsoleConfig
from sinks.jsonl import JsonlConfig
from sinks.registry import REGISTRY
from sinks.slack import SlackConfig
from sinks.webhook import WebhookConfig
from tests.sinks.samples import alert
from tests.sinks.server import Handler, Request, Server, response

SECRET = "T0SECRET-hunter2"

Make = Callable[[str, Path], SinkConfig]
LOCAL: dict[str, Make] = {
    "console": lambda url, folder: ConsoleConfig(),
    "jsonl": lambda url, folder: JsonlConfig(path=folder / "alerts.jsonl"),
}
REMOTE: dict[str, Make] = {
    "slack": lambda url, folder: SlackConfig.model_validate({"webhook_url": f"{url}/services/{SECRET}"}),
    "slack token": lambda url, folder: SlackConfig.model_validate(
        {"token": SECRET, "channel": "C1", "api_url": f"{url}/api"}
    ),
    "webhook": lambda url, folder: WebhookConfig.model_validate(
        {"url": f"{url}/hook/{SECRET}", "headers": {"Authorization": f"Bearer {SECRET}"}, "signing_secret": SECRET}
    ),
}
YES = {"slack": b"ok", "slack token": b'{"ok": true}', "webhook": b""}

remote = pytest.mark.parametrize("kind", REMOTE)
every = pytest.mark.parametrize("kind", [*LOCAL, *REMOTE])


@contextlib.asynccontextmanager
async def running(kind: str, folder: Path, handler: Handler | None = None) -> AsyncIterator[tuple[Sink, Server]]:
    yes = response(200, YES.get(kind, b""))
    async with Server(handler or (lambda request: yes)) as server:
        sink = {**LOCAL, **REMOTE}[kind](server.url, folder).build()
        try:
            yield sink, server
        finally:
            await sink.close()


async def outcome(sink: Sink) -> RetryLater | Rejected | None:
    """What `send` said; anything but the two errors of the contract passes through and fails the test."""
    try:
        await sink.send(alert())
    except (RetryLater, Rejected) as error:
        assert_no_secret(error)
        return error
    return None


def assert_no_secret(error: BaseException) -> None:
    seen = [str(error), repr(error), *traceback.format_exception(error)]
    chain: BaseException | None = error
    while chain is not None:
        seen += [str(chain), repr(chain), repr(getattr(chain, "request", "") if chain is not error else "")]
        chain = chain.__cause__ or chain.__context__
    assert not any(SECRET in text for text in seen)


def test_every_registered_kind_keeps_these_laws() -> None:
    assert {kind.partition(" ")[0] for kind in {**LOCAL, **REMOTE}} == set(REGISTRY)


@every
def test_a_delivery_returns_nothing_and_closing_twice_is_fine(kind: str, tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(kind, tmp_path) as (sink, _):
            assert await outcome(sink) is None
            await sink.close()
            await sink.close()

    asyncio.run(scene())


@every
def test_a_closed_sink_asks_to_come_later(kind: str, tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(kind, tmp_path) as (sink, _):
            await sink.close()
            error = await outcome(sink)
            assert isinstance(error, RetryLater)
            assert error.reason == "closed"

    asyncio.run(scene())


@every
def test_a_sink_is_called_by_its_configured_name(kind: str, tmp_path: Path) -> None:
    config = {**LOCAL, **REMOTE}[kind]("http://127.0.0.1:9", tmp_path)
    assert config.build().name == config.default_name
    assert config.model_copy(update={"name": "night"}).build().name == "night"


@every
def test_a_configuration_prints_no_secret(kind: str, tmp_path: Path) -> None:
    config = {**LOCAL, **REMOTE}[kind]("http://127.0.0.1:9", tmp_path)
    assert SECRET not in repr(config) + str(config) + config.model_dump_json() + str(config.model_dump())


STATUSES = {
    **dict.fromkeys((300, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405, 407, 409, 410), Rejected),
    **dict.fromkeys((411, 413, 414, 415, 418, 422, 451, 499), Rejected),
    **dict.fromkeys((101, 408, 425, 429, 500, 501, 502, 503, 504, 507, 511, 520, 599), RetryLater),
}


@remote
@pytest.mark.parametrize(("status", "expected"), STATUSES.items())
def test_the_status_table(kind: str, status: int, expected: type[Exception], tmp_path: Path) -> None:
    def handler(request: Request) -> bytes:
        return response(status, Location=f"http://127.0.0.1:9/{SECRET}")

    async def scene() -> None:
        async with running(kind, tmp_path, handler) as (sink, server):
            assert type(await outcome(sink)) is expected
            assert len(server.requests) == 1  # a redirect is not followed, a failure not repeated by the sink itself

    asyncio.run(scene())


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
def test_any_2xx_is_a_delivery_for_a_webhook(status: int, tmp_path: Path) -> None:
    async def scene() -> None:
        async with running("webhook", tmp_path, lambda request: response(status)) as (sink, _):
            assert await outcome(sink) is None

    asyncio.run(scene())


@remote
def test_informational_answers_come_before_the_real_one(kind: str, tmp_path: Path) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"

    async def scene() -> None:
        async with running(kind, tmp_path, lambda request: early + response(200, YES[kind])) as (sink, _):
            assert await outcome(sink) is None

    asyncio.run(scene())


@remote
@pytest.mark.parametrize(
    ("header", "expected"), [("7", 7.0), ("0", 0.0), ("1.5", 1.5), ("soon", None), ("-3", None), ("", None)]
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(kind: str, status: int, header: str, expected: float | None, tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(kind, tmp_path, lambda request: response(status, Retry_After=header)) as (sink, _):
            error = await outcome(sink)
            assert isinstance(error, RetryLater)
            assert error.after_s == expected

    asyncio.run(scene())


GARBAGE = {
    "not HTTP": b"SSH-2.0-OpenSSH_9.9\r\n",
    "a torn body": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok",
    "a torn chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    "a broken encoding": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok",
}


@remote
@pytest.mark.parametrize("what", GARBAGE)
def test_a_garbled_answer_means_later(kind: str, what: str, tmp_path: Path) -> None:
    rest = iter([GARBAGE[what]])

    async def scene() -> None:
        # The second read of the same connection closes it.
        async with running(kind, tmp_path, lambda request: next(rest, None)) as (sink, server):
            server.handler = closing(server, GARBAGE[what])
            assert isinstance(await outcome(sink), RetryLater)

    asyncio.run(scene())


def closing(server: Server, answer: bytes) -> Handler:
    """Answer, then end the connection."""

    async def handler(request: Request) -> bytes:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(0.05, task.cancel)
        return answer

    return handler


@remote
def test_a_connection_closed_without_a_word_means_later(kind: str, tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(kind, tmp_path, lambda request: None) as (sink, _):
            assert isinstance(await outcome(sink), RetryLater)

    asyncio.run(scene())


@remote
def test_a_refused_connection_means_unreachable(kind: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"

        async def scene() -> None:
            sink = REMOTE[kind](url, tmp_path).build()
            error = await outcome(sink)
            await sink.close()
            assert isinstance(error, RetryLater)
            assert error.reason == "unreachable"

        asyncio.run(scene())


@remote
@pytest.mark.parametrize("drip", [False, True], ids=["silence", "a byte now and then"])
def test_an_answer_that_does_not_end_times_out(kind: str, drip: bool, tmp_path: Path) -> None:
    async def handler(request: Request) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def scene() -> None:
        async with running(kind, tmp_path, dripping if drip else handler) as (_, server):
            config = REMOTE[kind](server.url, tmp_path).model_copy(update={"timeout_s": 0.2})
            sink = config.build()
            error = await outcome(sink)
            await sink.close()
            assert isinstance(error, RetryLater)
            assert error.reason == "timeout"

    asyncio.run(scene())


async def dripping(request: Request) -> AsyncIterator[bytes]:
    """A body of which a byte comes before each timeout for reading, and never the last."""
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    while True:
        yield b"o"
        await asyncio.sleep(0.02)


@remote
def test_an_endless_body_is_cut_and_judged(kind: str, tmp_path: Path) -> None:
    async def scene() -> None:
        huge = response(500, b"x" * (1 << 20))
        async with running(kind, tmp_path, lambda request: huge) as (sink, _):
            error = await outcome(sink)
            assert isinstance(error, RetryLater)
            assert error.reason == "server_error"

    asyncio.run(scene())


@remote
def test_a_cancelled_send_leaves_the_sink_usable(kind: str, tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def hang(request: Request) -> bytes:
        asked.set()
        await asyncio.Event().wait()
        return b""

    async def scene() -> None:
        async with running(kind, tmp_path, hang) as (sink, server):
            task = asyncio.create_task(sink.send(alert()))
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            server.handler = lambda request: response(200, YES[kind])
            assert await outcome(sink) is None

    asyncio.run(scene())


@remote
@pytest.mark.parametrize("status", [200, 302, 404, 500])
def test_no_log_line_of_any_library_carries_a_secret(
    kind: str, status: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def scene() -> None:
        async with running(kind, tmp_path, lambda request: response(status, SECRET.encode())) as (sink, server):
            await outcome(sink)
            await server.stop()
            await outcome(sink)

    asyncio.run(scene())
    assert SECRET not in caplog.text
    assert not any(SECRET in repr(record.__dict__) for record in caplog.records)


@remote
def test_an_id_with_strange_characters_is_sent_all_the_same(kind: str, tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(kind, tmp_path) as (sink, server):
            await sink.send(alert(alert_id="vögel\r\nX-Evil: 1 <&> 鳥", title="a\x1b[31m\u202e<b>"))
            assert "x-evil" not in server.requests[0].headers

    asyncio.run(scene())
