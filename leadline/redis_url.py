"""Whether a text is an address of Redis, told without quoting it: a misplaced sign may have made a password its port."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

SCHEMES = ("redis", "rediss", "unix")
_DATABASE = re.compile(r"/?\d*")


def fault(url: str) -> str | None:
    """What is wrong with it, and what to write; None for a good one."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in SCHEMES and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        return (
            "no address of Redis: write redis://HOST:PORT/0, or rediss:// for TLS, with signs such as # or / in a password "
            "written as %23 or %2F"
        )
    if parts.scheme != "unix" and not _DATABASE.fullmatch(parts.path):
        return "what follows the host is no number of a database: write redis://HOST:PORT/0"
    return None
