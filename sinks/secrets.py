"""Secrets in configuration: `${NAME}` and `${NAME:-default}` are read from the environment, the result is a `SecretStr`
that no log prints.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, SecretStr

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def expand(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Replace each `${NAME}` by the environment's value, or by the default in `${NAME:-default}`.

    `ValueError` (with the name, never a value) where a variable is missing or empty and has no default: an empty token
    would fail later and more darkly. Text without references stays as it is, so expanding twice does no harm.
    """
    known = os.environ if environment is None else environment

    def one(found: re.Match[str]) -> str:
        name, default = found.group(1), found.group(2)
        value = known.get(name) or default
        if not value:
            raise ValueError(f"environment variable {name} is not set")
        return value

    return _REFERENCE.sub(one, text)


def _expanded(value: Any) -> Any:
    return expand(value) if isinstance(value, str) else value


def _http(value: SecretStr) -> SecretStr:
    address = value.get_secret_value()
    if not re.match(r"https?://[^/\s]+", address) or any(ord(sign) <= 32 or ord(sign) == 127 for sign in address):
        raise ValueError("must be an http or https address")
    return value


def _header(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.isascii() or not text.isprintable():
        raise ValueError("must be printable ASCII: it becomes a header")
    return value


Secret = Annotated[SecretStr, BeforeValidator(_expanded)]
SecretUrl = Annotated[SecretStr, AfterValidator(_http), BeforeValidator(_expanded)]
SecretHeader = Annotated[SecretStr, AfterValidator(_header), BeforeValidator(_expanded)]
