"""`leadline request ID`: where one request stands."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from leadline.cli.common import (
    ConfigFile,
    Json,
    RedisUrl,
    clean_errors,
    console,
    fail,
    instant,
    load,
    number,
    print_json,
)


def request(
    request_id: Annotated[str, typer.Argument(help="The id that prediction and label share.")],
    config: ConfigFile = None,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    """Show one request: its join state, times, score, label, and the bin of each feature."""
    settings = load(config, None, redis_url)
    from leadline.durations import format_duration
    from streams.store.store import open_store
    from streams.worker.request_lookup import look_up

    with clean_errors(), open_store(settings.redis.url.get_secret_value()) as store:
        found = look_up(store, settings, request_id)
    if found is None:
        kept = settings.join.delay_window + settings.join.kept_past_window
        fail(
            f"nothing is known of {request_id!r}: it was never read, was rejected (look into {settings.kafka.topics.rejected}), "
            f"or is older than the {format_duration(kept)} that rows are kept"
        )
    if as_json:
        print_json(found)
    else:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    from rich.text import Text

    from leadline.cli.tables import Column, print_pairs, print_table

    out = console()
    pairs: list[tuple[str, str | Text]] = []
    for name, value in found.items():
        if name in ("request_id", "features") or value in (None, [], {}):
            continue
        if name in ("timestamp", "due_at", "watermark"):
            text = f"{instant(value)} UTC"
        elif isinstance(value, list):
            text = ", ".join(str(item) for item in value)
        elif isinstance(value, dict):
            text = ", ".join(f"{key}={number(item)}" for key, item in value.items())
        else:
            text = number(value, 6)
        pairs.append((name, text))
    out.print(Text(str(found["request_id"]), style="bold"))
    print_pairs(out, pairs)
    if found.get("features"):
        out.print()
        columns = (Column("feature", fold=True), Column("bin that it was counted in", fold=True))
        print_table(out, "", columns, list(found["features"].items()))
