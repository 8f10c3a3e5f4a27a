"""What is said of a wrong key: its whole path, what would be right, and no jargon of the library that found it."""

from __future__ import annotations

import pytest

from leadline.config import ConfigError, parse_config
from sinks.registry import SinkConfigError, parse_sinks


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kafka: {partitions: many}", "kafka.partitions: a whole number is wanted (got 'many')"),
        ("rules: {psi: 0.1}", "rules.psi: a mapping is wanted, with warn, critical (got 0.1)"),
        ("models: {m: {rules: {psi: 0.1}}}", "models.m.rules.psi: a mapping is wanted, with warn, critical (got 0.1)"),
        ("models: {m: {rules: {psii: {warn: 1}}}}", "models.m.rules.psii: no such key; did you mean `psi`?"),
        ("models: {m: {referense: x}}", "models.m.referense: no such key; did you mean `reference`?"),
        ("join: {delay_window: 90d}", "join.delay_window: at most 31d (got 90d)"),
        ("panes: {pane: 0s}", "panes.pane: at least 100ms (got 0s)"),
        ("accept_new_state: maybe", "accept_new_state: true or false is wanted (got 'maybe')"),
        ("kafka: {security: {protocol: ssl}}", "kafka.security.protocol: one of 'PLAINTEXT', 'SSL'"),
        ("sinks: {kind: console}", "sinks: a list is wanted"),
        ("models: {m: {threshold: 7}}", "models.m.threshold: at most 1 (got 7)"),
    ],
)
def test_a_wrong_key_is_told_with_its_path_and_what_would_be_right(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(text)
    assert words in str(error.value)
    assert not any(
        jargon in str(error.value) for jargon in ("Input should", "Value error", "instance of", "(top level)")
    )


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        parse_config("kafka: {partitions: 0}\njoin: {delay_window: soon}\nmodels: {m: {rules: {auc: 1}}}\n")
    assert [part in str(error.value) for part in ("kafka.partitions", "join.delay_window", "models.m.rules.auc")][
        :2
    ] == [True, True]


def test_a_secret_is_not_quoted() -> None:
    with pytest.raises(ConfigError) as error:
        parse_config("redis: {url: [hunter2]}\nkafka: {security: {password: [hunter2]}}\n")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("sink", "words"),
    [
        ({"kind": "slak"}, "sinks.0: no such kind; there are 'console', 'jsonl', 'slack', 'webhook'"),
        ({"name": "x"}, "sinks.0: kind is missing"),
        ({"kind": "slack"}, "sinks.0.slack: give either webhook_url or token"),
        ({"kind": "jsonl"}, "sinks.0.jsonl.path: is missing"),
        ({"kind": "console", "chanels": ["a"]}, "sinks.0.console.chanels: no such key; did you mean `channels`?"),
        ({"kind": "webhook", "url": "http://x", "queue_size": 0}, "sinks.0.webhook.queue_size: at least 1"),
    ],
)
def test_a_wrong_sink_is_told_likewise(sink: dict[str, object], words: str) -> None:
    with pytest.raises(SinkConfigError) as error:
        parse_sinks([sink])
    assert str(error.value) == words
