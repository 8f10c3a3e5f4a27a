"""`kafka.security` and `redis.url`: half a login is refused, files are found, and no error shows a password."""

from __future__ import annotations

from pathlib import Path

import pytest

from leadline.config import ConfigError, load_config, parse_config

LOGIN = "mechanism: PLAIN, username: u, password: hunter2"


@pytest.mark.parametrize(
    ("security", "words"),
    [
        ("protocol: SASL_SSL, username: u", "SASL_SSL needs mechanism, password"),
        ("protocol: SASL_PLAINTEXT", "needs mechanism, username, password"),
        (LOGIN, "protocol is PLAINTEXT; set protocol: SASL_SSL"),
        (f"protocol: SSL, {LOGIN}", "protocol is SSL; set protocol: SASL_SSL"),
    ],
)
def test_half_a_login_is_no_login(security: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        parse_config(f"kafka: {{security: {{{security}}}}}")
    assert "kafka.security" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_files_are_relative_to_the_configuration_and_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "leadline.yaml").write_text("kafka: {security: {protocol: SSL, ca_location: ca.pem}}")
    config = load_config(tmp_path / "leadline.yaml")
    with pytest.raises(ConfigError, match=r"kafka\.security\.ca_location: .*ca\.pem"):
        config.kafka.security.librdkafka()
    (tmp_path / "ca.pem").write_text("")
    assert config.kafka.security.librdkafka() == {
        "security.protocol": "SSL",
        "ssl.ca.location": str(tmp_path / "ca.pem"),
    }


def test_a_password_may_be_the_name_of_a_protocol() -> None:
    security = parse_config(
        "kafka: {security: {protocol: SASL_SSL, mechanism: PLAIN, username: u, password: PLAINTEXT}}"
    ).kafka.security
    assert security.librdkafka()["sasl.password"] == "PLAINTEXT"
    assert parse_config("").kafka.security.librdkafka() == {}


@pytest.mark.parametrize(
    "url", ["localhost:6379", "redis://u:hun#ter2@h:1/0", "http://:hunter2@h", "redis://:hunter2@h/zero"]
)
def test_what_is_no_address_of_redis_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigError, match=r"redis\.url: .*redis://HOST:PORT/0") as refused:
        parse_config(f"redis: {{url: '{url}'}}")
    assert "ter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kafka:\n  security: {username: u,\n    password: hunter2\n", "line 4, column 1"),
        ("kafka:\n  security:\n    password: *hunter2\n", "line 3, column 15.*begins with . or !"),
        ("kafka:\n  security:\n    password: !hunter2\n", "line 3, column 15.*begins with . or !"),
    ],
)
def test_a_fault_of_yaml_is_placed_without_showing_the_line(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        parse_config(text)
    assert "hunter2" not in str(refused.value)


def test_a_variable_in_braces_needs_quotation_marks_and_is_told_so() -> None:
    with pytest.raises(ConfigError, match=r'write "\$\{NAME\}" with quotation marks'):
        parse_config("kafka: {security: {password: ${KAFKA_PASSWORD}}}")
