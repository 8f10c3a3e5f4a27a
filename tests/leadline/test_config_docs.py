"""`docs/configuration.md` and the example files against the code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leadline.alert import Alert
from leadline.config import Config, load_config, parse_config
from leadline.config_docs import FILE, MEANINGS, configuration_page, keys, meaning
from sinks.registry import parse_sinks
from sinks.slack_blocks import message

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
MEND = "run `python -m leadline.config_docs` and look at the difference"
SECRETS = {"SLACK_WEBHOOK_URL": "https://hooks.slack.example/T/B/X", "PAGER_TOKEN": "token", "REDIS_PASSWORD": "word"}


def test_the_page_is_what_the_code_says() -> None:
    assert FILE.read_text(encoding="utf-8") == configuration_page(), MEND


def test_every_key_is_explained_and_nothing_else_is() -> None:
    known = dict(keys())
    assert all(meaning(path, field).strip() for path, field in known.items())
    assert MEANINGS.keys() <= known.keys()


def test_a_key_without_a_meaning_is_an_error() -> None:
    _, undescribed = next((path, field) for path, field in keys() if not field.description)
    with pytest.raises(KeyError, match=r"join\.novel"):
        meaning("join.novel", undescribed)


def test_the_defaults_of_the_page_give_the_default_configuration() -> None:
    """Durations are written so that they can be copied into a file."""
    rows = [line.split("|") for line in configuration_page().splitlines() if line.startswith("| `")]
    found = {cells[1].strip(" `"): cells[2].strip(" `") for cells in rows}
    durations = ("delay_window", "early_tolerance", "max_jump", "max_future")
    text = "join: {" + ", ".join(f"{name}: {found[name]}" for name in durations) + "}"
    assert parse_config(f"{text}\npanes: {{pane: {found['pane']}, idle_after: {found['idle_after']}}}") == Config()


def test_the_commented_example_is_valid_and_names_only_what_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    config = load_config(EXAMPLES / "leadline.yaml")
    assert set(config.models) >= {"readmission", "*"}
    assert [sink.label for sink in parse_sinks(config.sinks)] == ["console", "jsonl", "slack-oncall", "pager"]
    reference = config.models["readmission"].reference
    assert reference is not None
    assert reference.parent == EXAMPLES / "references"


def test_the_example_of_a_slack_message_is_what_the_sink_sends() -> None:
    example = json.loads((EXAMPLES / "slack-alert.json").read_text(encoding="utf-8"))
    alert = Alert.model_validate(example["alert"])
    assert message(alert) == example["message"]
