"""State in Redis is laid out by some settings: a bucket is an eighth of the window, a block so many panes. They may not change."""

from __future__ import annotations

from collections.abc import Mapping

from leadline.config import ConfigError


def require_same(owner: str, stored: Mapping[str, float], now: Mapping[str, float]) -> None:
    """Raises ConfigError where a setting is not what the stored state was written with. An empty `stored` is new state."""
    changed = [
        f"{name} was {stored[name]:g} s and is {now[name]:g} s"
        for name in now
        if name in stored and stored[name] != now[name]
    ]
    if changed:
        raise ConfigError(
            f"{owner}: the state in Redis was written with other settings: {'; '.join(changed)}. Set them back, "
            "or begin anew under another redis.prefix and kafka.group"
        )
