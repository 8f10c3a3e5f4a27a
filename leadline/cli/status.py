"""`leadline status`: what Redis says of models, joins, incidents, signals and workers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leadline.cli.common import ConfigFile, Json, RedisUrl, clean_errors, fail, load, print_json

if TYPE_CHECKING:
    from streams.store.store import Store


SHOWN = 10  # model ids in a message
WORKER_NUMBERS = (
    "pid",
    "events",
    "events_per_second",
    "lag",
    "commits",
    "commits_refused",
    "claims",
    "rewinds",
    "data_gaps",
    "misplaced_keys",
    "outbox_waiting",
    "outbox_sent",
)


def status(
    model: Annotated[str | None, typer.Argument(help="One model; without it, all.")] = None,
    config: ConfigFile = None,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    """Show models, open incidents, join states and workers; of one model, or where there is only one, the worst signals too."""
    settings = load(config, None, redis_url)
    from streams.store.store import open_store

    with clean_errors(), open_store(settings.redis.url.get_secret_value()) as store:
        found = read(store, settings.redis.prefix, model, signals=as_json or model is not None)
        if model is not None and not found["models"]:
            fail(_unknown(model, _models(store, f"{settings.redis.prefix}:model:")))
        if len(found["models"]) == 1 and "signals" not in found["models"][0]:
            found["models"] = read(store, settings.redis.prefix, found["models"][0]["model_id"])["models"]
    if as_json:
        print_json(found)
    else:
        from leadline.cli.status_tables import show

        show(found, named=model is not None)


def _unknown(model: str, known: list[str]) -> str:
    import difflib

    if not known:
        return f"no model {model!r} has been seen; known: none yet"
    near = difflib.get_close_matches(model, known, n=1)
    if near:
        return f"no model {model!r} has been seen; did you mean {near[0]!r}?"
    rest = f" and {len(known) - SHOWN} more (leadline status)" if len(known) > SHOWN else ""
    return f"no model {model!r} has been seen; known: {', '.join(known[:SHOWN])}{rest}"


def read(store: Store, prefix: str, model: str | None = None, *, signals: bool = True) -> dict[str, Any]:
    """All views as plain values: models (or one) with their incidents and signals, join counters by partition, workers."""
    start = f"{prefix}:model:"
    return {
        "models": [
            _model(store, start, model_id, signals)
            for model_id in _models(store, start)
            if model is None or model_id == model
        ],
        "joins": [
            {"partition": int(key.rpartition(":")[2]), **_numbers(store.fields(key))}
            for key in sorted(store.keys(f"{_literal(prefix)}:join:*"), key=lambda key: int(key.rpartition(":")[2]))
        ],
        "workers": [
            {"worker_id": key.removeprefix(f"{prefix}:worker:"), **_numbers(store.fields(key), WORKER_NUMBERS)}
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


def _model(store: Store, start: str, model_id: str, with_signals: bool) -> dict[str, Any]:
    import json

    fields = store.fields(f"{start}{model_id}")
    join = {name.removeprefix("join:"): int(fields.pop(name)) for name in list(fields) if name.startswith("join:")}
    incidents = [json.loads(text) for text in store.fields(f"{start}{model_id}:incidents").values()]
    found = {
        **_numbers(fields, ("clock", "reference_rows", "open_incidents")),
        "join": join,
        "incidents": sorted(incidents, key=lambda row: (row["opened_at"], row["id"])),
    }
    if not with_signals:
        return found
    signals = []
    rows = store.fields(f"{start}{model_id}:signals")
    whole = "*|*|"  # all versions, all traffic: every signal is there
    names = {name.removeprefix(whole).partition("|")[0] for name in rows if name.startswith(whole)}
    versions = sorted(["*", *str(found.get("versions", "")).split(",")], key=len, reverse=True)
    for name, text in sorted(rows.items()):
        version, segment, signal, subject = split(name, versions, names)
        signals.append(
            {"model_version": version, "segment": segment, "signal": signal, "subject": subject, **json.loads(text)}
        )
    return {**found, "signals": signals}


def split(
    name: str, versions: Sequence[str], signals: Collection[str]
) -> tuple[str | None, str | None, str, str | None]:
    """version|segment|signal|subject, `*` for all. Of these only the signal is a name of ours: all others may hold bars.

    `versions` are the model's, `signals` those that its rows of all traffic name.
    """
    version = next((known for known in versions if name.startswith(f"{known}|")), name.partition("|")[0])
    rest = name[len(version) + 1 :]
    if rest.startswith("*|"):
        segment, (signal, _, subject) = "*", rest[2:].partition("|")
    else:
        parts = rest.split("|")
        at = next((at for at, part in enumerate(parts) if at and part in signals), len(parts) - 2)
        segment, signal, subject = "|".join(parts[:at]), parts[at], "|".join(parts[at + 1 :])
    return _all(version), _all(segment), signal, _all(subject)


def _all(part: str) -> str | None:
    return None if part == "*" else part


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
