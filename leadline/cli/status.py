"""`leadline status`: what Redis says of models, joins, incidents, signals and workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from leadline.cli.common import ConfigFile, Json, RedisUrl, clean_errors, fail, load, print_json

if TYPE_CHECKING:
    from streams.store.store import Store


def status(
    model: Annotated[str | None, typer.Argument(help="One model; without it, all.")] = None,
    config: ConfigFile = None,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    """Show models, join states, open incidents and the worst signals."""
    settings = load(config, None, redis_url)
    from streams.store.store import open_store

    with clean_errors(), open_store(settings.redis.url.get_secret_value()) as store:
        found = read(store, settings.redis.prefix)
    if model is not None:
        known = [row["model_id"] for row in found["models"]]
        found["models"] = [row for row in found["models"] if row["model_id"] == model]
        if not found["models"]:
            fail(f"no model {model!r} has been seen; known: {', '.join(known) or 'none yet'}")
    if as_json:
        print_json(found)
    else:
        from leadline.cli.status_tables import show

        show(found)


def read(store: Store, prefix: str) -> dict[str, Any]:
    """All views as plain values: models with their signals and incidents, join counters by partition, workers."""
    return {
        "models": [_model(store, f"{prefix}:model:", model_id) for model_id in _models(store, f"{prefix}:model:")],
        "joins": [
            {"partition": int(key.rpartition(":")[2]), **_numbers(store.fields(key))}
            for key in store.keys(f"{_literal(prefix)}:join:*")
        ],
        "workers": [
            {"worker_id": key.removeprefix(f"{prefix}:worker:"), **store.fields(key)}
            for key in store.keys(f"{_literal(prefix)}:worker:*")
        ],
    }


def _literal(prefix: str) -> str:
    """The prefix inside a glob pattern."""
    return "".join(f"\\{sign}" if sign in "*?[]\\" else sign for sign in prefix)


def _models(store: Store, start: str) -> list[str]:
    """Model ids: a model's own hash names its id, so an id may end in `:signals` and still be told from a view."""
    found = []
    for key in store.keys(f"{_literal(start)}*"):
        model_id = key.removeprefix(start)
        if store.kind(key) == "hash" and store.row(key, b"model_id") == model_id.encode():
            found.append(model_id)
    return found


def _model(store: Store, start: str, model_id: str) -> dict[str, Any]:
    import json

    fields = store.fields(f"{start}{model_id}")
    join = {name.removeprefix("join:"): int(fields.pop(name)) for name in list(fields) if name.startswith("join:")}
    signals = []
    for name, text in sorted(store.fields(f"{start}{model_id}:signals").items()):
        version, segment, signal, subject = _split(name)
        signals.append(
            {"model_version": version, "segment": segment, "signal": signal, "subject": subject, **json.loads(text)}
        )
    incidents = [json.loads(text) for text in store.fields(f"{start}{model_id}:incidents").values()]
    return {
        **_numbers(fields, ("clock", "reference_rows", "open_incidents")),
        "join": join,
        "incidents": sorted(incidents, key=lambda row: (row["opened_at"], row["id"])),
        "signals": signals,
    }


def _split(name: str) -> tuple[str | None, str | None, str, str | None]:
    """version|segment|signal|subject, `*` for all. Versions, segments and subjects are other people's names and may hold a bar."""
    parts = name.split("|")
    if len(parts) != 4:
        parts = [parts[0], "|".join(parts[1:-2]), *parts[-2:]]
    version, segment, signal, subject = (None if part == "*" else part for part in parts)
    return version, segment, signal or "", subject


def _numbers(fields: dict[str, str], names: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Texts that are numbers as numbers; infinities, which JSON lacks, as null."""
    import math

    found: dict[str, Any] = {}
    for name, text in fields.items():
        found[name] = text
        if names is not None and name not in names:
            continue
        try:
            value = float(text)
        except ValueError:
            continue
        found[name] = (int(value) if text.lstrip("-").isdigit() else value) if math.isfinite(value) else None
    return found
