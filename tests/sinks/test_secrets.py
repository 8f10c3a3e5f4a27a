"""Configuration: `${NAME}` from the environment, and no error that quotes a secret."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sinks.registry import SinkConfigError, parse_sinks
from sinks.secrets import expand
from sinks.settings import DeliverSettings
from sinks.slack import SlackConfig
from sinks.webhook import WebhookConfig

HOOK = "https://hooks.example/services/hunter2"


def test_a_reference_is_replaced_wherever_it_stands() -> None:
    known = {"HOST": "h", "TOKEN": "t$0{x}"}
    assert expand("https://${HOST}/${TOKEN}/a$b", known) == "https://h/t$0{x}/a$b"


def test_a_default_stands_in_for_a_missing_variable() -> None:
    assert expand("${NO:-yes}", {}) == "yes"
    assert expand("${NO:-yes}", {"NO": "no"}) == "no"


@pytest.mark.parametrize("known", [{}, {"TOKEN": ""}])
def test_a_missing_or_empty_variable_is_an_error_that_names_it(known: dict[str, str]) -> None:
    for text in ("x${TOKEN}", "x${TOKEN:-}"):
        with pytest.raises(ValueError, match="TOKEN is not set"):
            expand(text, known)


def test_a_sink_takes_its_address_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_HOOK", HOOK)
    [sink] = parse_sinks([{"kind": "slack", "webhook_url": "${SLACK_HOOK}"}])
    assert isinstance(sink, SlackConfig)
    assert sink.webhook_url is not None
    assert sink.webhook_url.get_secret_value() == HOOK


WRONG: list[tuple[Any, str]] = [
    ([{"kind": "slack", "webhook_url": "hunter2"}], "webhook_url: must be an http"),
    ([{"kind": "slack", "webhook_url": "https://hunter2 x/"}], "must be an http"),
    ([{"kind": "slack"}], "give either webhook_url or token"),
    ([{"kind": "slack", "webhook_url": HOOK, "token": "hunter2", "channel": "c"}], "give either"),
    ([{"kind": "slack", "token": "hunter2"}], "channel goes with token"),
    ([{"kind": "slack", "token": "hunter2\n", "channel": "c"}], "printable ASCII"),
    ([{"kind": "slack", "webhook_url": ["hunter2"]}], "webhook_url"),
    ([{"kind": "webhook", "url": HOOK, "headers": {"Content-Type": "hunter2"}}], "set by the sink itself"),
    ([{"kind": "webhook", "url": HOOK, "headers": {"a b": "hunter2"}}], "not a valid one"),
    ([{"kind": "webhook", "url": HOOK, "timeout": "hunter2"}], "timeout: no such key"),
    ([{"kind": "webhook"}], "url: is missing"),
    ([{"kind": "pigeon"}], "sinks.0"),
    ([{"kind": "console", "name": "Not A Label"}], "name"),
    ([{"kind": "console"}, {"kind": "console"}], "two sinks are named console"),
    ("hunter2", "sinks: a list is wanted"),
]


@pytest.mark.parametrize(("raw", "words"), WRONG)
def test_a_wrong_configuration_is_explained_without_quoting_it(raw: Any, words: str) -> None:
    with pytest.raises(SinkConfigError) as error:
        parse_sinks(raw)
    assert words in str(error.value)
    assert "hunter2" not in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__context__ is None


@pytest.mark.parametrize(("raw", "words"), WRONG)
def test_the_whole_settings_keep_the_secret_too(raw: Any, words: str) -> None:
    with pytest.raises(ValidationError) as error:
        DeliverSettings.model_validate({"kafka": {"bootstrap_servers": "b"}, "sinks": raw})
    assert "hunter2" not in str(error.value)


def test_a_process_without_sinks_would_swallow_alerts_and_is_refused() -> None:
    with pytest.raises(ValidationError):
        DeliverSettings.model_validate({"kafka": {"bootstrap_servers": "b"}, "sinks": []})


def test_no_setting_prints_a_secret() -> None:
    settings = DeliverSettings.model_validate(
        {
            "kafka": {"bootstrap_servers": "b", "client": {"sasl.password": "hunter2", "socket.timeout.ms": 5}},
            "sinks": [{"kind": "webhook", "url": HOOK, "signing_secret": "hunter2", "headers": {"X": "hunter2"}}],
            "record": {"kind": "redis", "url": "redis://:hunter2@127.0.0.1"},
        }
    )
    assert "hunter2" not in repr(settings) + settings.model_dump_json() + str(settings.model_dump())
    assert settings.kafka.common()["sasl.password"] == "hunter2"
    assert settings.kafka.common()["socket.timeout.ms"] == 5
    assert settings.kafka.dead_letters == "leadline.alerts.undelivered"


def test_header_values_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "t")
    config = WebhookConfig.model_validate({"url": HOOK, "headers": {"Authorization": "Bearer ${TOKEN}"}})
    assert config.headers["Authorization"].get_secret_value() == "Bearer t"
