"""Writes `docs/configuration.md` from the models of `leadline.config`. `python -m leadline.config_docs [FILE]`.

A key's meaning is its field's description or, where the model has none, stands in `MEANINGS` here; a key with neither
is an error, so that no key can be added without saying what it does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from leadline.config import Config, Limits, Model
from leadline.durations import is_duration, short_duration

FILE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"

INTRODUCTION = """\
# Configuration: `leadline.yaml`

*Written by `python -m leadline.config_docs` from `leadline/config.py`; a test keeps it current. Not to be edited.*

Every key has a default: without a file Leadline runs on `127.0.0.1:9092` and `redis://127.0.0.1:6379/0`. A file is
given with `-c`; without `-c`, `leadline.yaml` of the working directory is read if there is one.
[`examples/leadline.yaml`](../examples/leadline.yaml) is a commented start.

- **Durations** are a number of seconds, or numbers with units: `250ms`, `10s`, `5m`, `1h30m`, `48h`, `30d`, `2w`.
- **`${NAME}`** in any text is taken from the environment, `${NAME:-default}` with a default. A variable that is not set
  and has no default is an error that names the key. Keep secrets there.
- **An unknown key is an error**, with the key that was probably meant. All faults of a file are reported at once, each
  with its path.
- **Paths** of references are relative to the file that names them.
- **Limits** (`psi`, `auc`, ...) are two numbers, `{warn: 0.1, critical: 0.2}`. A signal fires where its effect is past
  `warn` *and* past what noise alone could do within the false-alarm budget ([statistics](statistics/data.md)). A limit
  alone never raises an alert.
"""

LIMITS_NOTE = "Limits are written `warn / critical`, in the unit that is named."

MODELS_NOTE = """\
`models:` maps a model's id to the keys below; the entry `"*"` holds for every model without an entry of its own.
`rules:` in an entry overrides single keys of the global `rules:`; a limit is overridden as a whole
(`psi: {warn: 0.2, critical: 0.4}`)."""

SINKS_NOTE = """\
A list; each entry has a `kind` and the keys of that sink. They are described, with an example of each, in
[alerts.md](alerts.md#configuration)."""

MEANINGS: dict[str, str] = {
    "kafka.bootstrap_servers": "brokers to ask first, `host:port`, comma-separated",
    "kafka.group": "consumer group of the workers; offsets that it commits are for lag tools only",
    "kafka.replication_factor": "used when Leadline creates the topics",
    "kafka.session_timeout": "how long a dead worker keeps its partitions: a takeover after `kill -9` waits for it",
    "kafka.topics.predictions": "predictions, keyed by request id",
    "kafka.topics.labels": "labels, keyed by request id; as many partitions as predictions",
    "kafka.topics.changes": "deployments and other changes, keyed by model id",
    "kafka.topics.digests": "ours: what observers tell judges; as many partitions as changes",
    "kafka.topics.alerts": "ours: alerts, keyed by incident id",
    "kafka.topics.rejected": "ours: bad input with its reason",
    "kafka.security.protocol": "how brokers are spoken to",
    "kafka.security.mechanism": "with SASL",
    "kafka.security.username": "with SASL",
    "kafka.security.password": "with SASL",
    "kafka.security.ca_location": "PEM file of the authorities that signed the brokers' certificates",
    "kafka.security.certificate_location": "PEM file of the client's certificate, for mutual TLS",
    "kafka.security.key_location": "PEM file of the client's key",
    "kafka.security.key_password": "of the key file",
    "redis.url": "`redis://`, or `rediss://` for TLS, with user and password if any; a Cluster is recognised",
    "redis.prefix": "first part of every key",
    "rules.false_alarms_per_month": "the budget: incidents that noise alone may open in a month, for one model",
    "rules.resolve_after": "least quiet time before an incident resolves; default: as soon as clean spans show it",
    "rules.minimum_rows": "a span with fewer rows (of an outcome: fewer labelled rows) is not judged",
    "rules.minimum_per_class": "AUC needs so many of each class, the false negative rate so many positives",
    "rules.adwin": "whether ADWIN watches the score",
    "rules.disabled": "names of signals that never fire, for example `[ece, adwin]`",
    "rules.psi": "PSI of a feature, nats, debiased",
    "rules.score_psi": "PSI of the score, nats, debiased",
    "rules.null_rate": "change of the share of nulls, both ways",
    "rules.invalid_rate": "change of the share of values of a wrong type, both ways",
    "rules.new_category_rate": "share of categories that the reference does not know",
    "rules.mean_shift": "distance of a feature's mean from the reference's, in the reference's standard deviations",
    "rules.score_mean_shift": "the same for the score",
    "rules.out_of_distribution_rate": "rise of the share of rows with a feature beyond 3 standard deviations",
    "rules.output_collapse": "share of the most frequent score, where the reference has less than half of `warn`",
    "rules.ece": "expected calibration error, debiased, above the reference's",
    "rules.auc": "drop of the AUC below the reference's",
    "rules.accuracy": "drop of the accuracy below the reference's",
    "rules.false_negative_rate": "rise of the false negative rate over the reference's",
    "rules.mean_absolute_error": "growth of the mean absolute error over the reference's, as a share of it",
    "rules.label_rate": "change of the share of positive labels (of each class), both ways",
    "rules.precision": "drop of the precision below the reference's",
    "rules.recall": "drop of the recall below the reference's",
    "rules.f1": "drop of F1 below the reference's",
    "rules.average_precision": "drop of the average precision below the reference's at the live share of positives",
    "rules.log_loss": "rise of the log loss over the reference's, nats",
    "rules.brier": "rise of the Brier score over the reference's",
    "rules.macro_f1": "drop of macro F1 below the reference's, over classes that both hold often enough",
    "rules.root_mean_squared_error": "growth of the root mean square error over the reference's, as a share of it",
    "rules.r2": "drop of R2 below the reference's",
    "rules.realised_minus_estimated": "gap (share of rows) between positives and what the same scores had before",
    "rules.schema_rate": "share of rows that lack a feature of the reference, or bring one it does not know",
    "models.task": (
        "`auto`: from the reference; without one, from the scores "
        "(a map: multiclass, a number in [0, 1]: binary, any other: regression)"
    ),
    "models.positive_label": "the label that counts as positive; default: 1, true, yes, positive",
    "models.latency_slo_ms": "an incident opens where more than 1 % of requests are slower",
    "logging.log_level": "least severe messages that are written",
    "logging.log_json": "one JSON object a line",
    "accept_new_state": (
        "start although Redis is empty and the group has committed offsets: the log is counted from its beginning"
    ),
    "rejected_original_bytes": "how much of a rejected message is kept beside its reason",
    "sinks": "where alerts go",
}

WORDS = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Path: "path",
    SecretStr: "secret text",
    dict: "mapping",
}


def configuration_page() -> str:
    """The whole page."""
    parts = [
        INTRODUCTION,
        "## Top level\n\n" + _table(Config, "", skip=(*_sections(Config), "models", "sinks", "rules")),
    ]
    for path, part in _walk(Config, ""):
        title = "models.ID" if path == "models" else path
        notes = {"models": MODELS_NOTE, "rules": LIMITS_NOTE}.get(path)
        parts.append(f"## `{title}`\n\n" + (f"{notes}\n\n" if notes else "") + _table(part, path, skip=_sections(part)))
    parts.append(f"## `sinks`\n\n{SINKS_NOTE}\n")
    return "\n".join(parts)


def _walk(part: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in part.model_fields.items():
        below = f"{path}.{name}" if path else name
        if name == "models" and part is Config:
            yield below, Model
        elif _is_section(field):
            assert isinstance(field.annotation, type)
            yield below, field.annotation
            yield from _walk(field.annotation, below)


def _is_section(field: FieldInfo) -> bool:
    found = field.annotation
    return isinstance(found, type) and issubclass(found, BaseModel) and not issubclass(found, Limits)


def _sections(part: type[BaseModel]) -> tuple[str, ...]:
    return tuple(name for name, field in part.model_fields.items() if _is_section(field))


def keys() -> list[tuple[str, FieldInfo]]:
    """Every key with its path, `models.*` for a model's; sections themselves are left out."""
    found = [
        (name, field) for name, field in Config.model_fields.items() if not _is_section(field) and name != "models"
    ]
    for path, part in _walk(Config, ""):
        found += [(f"{path}.{name}", field) for name, field in part.model_fields.items() if not _is_section(field)]
    return found


def meaning(path: str, field: FieldInfo) -> str:
    """`KeyError` for a key that nobody has explained."""
    return MEANINGS[path] if path in MEANINGS else _described(path, field)


def _described(path: str, field: FieldInfo) -> str:
    if not field.description:
        raise KeyError(f"{path}: give the field a description, or an entry in leadline.config_docs.MEANINGS")
    return field.description


def _table(part: type[BaseModel], path: str, skip: tuple[str, ...]) -> str:
    lines = ["| key | default | values | |", "|---|---|---|---|"]
    for name, field in part.model_fields.items():
        if name not in skip:
            below = f"{path}.{name}" if path else name
            cells = (f"`{name}`", _default(field), _values(field), meaning(below, field))
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return ""
    if isinstance(value, Limits):
        return f"{value.warn:g} / {value.critical:g}"
    if isinstance(value, SecretStr):
        return f"`{value.get_secret_value()}`"  # the default is no secret
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float) and is_duration(field):
        return f"`{short_duration(value)}`"
    if value in ((), {}):
        return "empty"
    if isinstance(value, dict) and all(isinstance(limits, Limits) for limits in value.values()):
        return ", ".join(f"{name}: {limits.warn:g} / {limits.critical:g}" for name, limits in value.items())
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _values(field: FieldInfo) -> str:
    timed = is_duration(field)
    bounds = ["duration" if timed else _kinds(field.annotation)]
    for mark in field.metadata:
        for attribute, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤")):
            limit = getattr(mark, attribute, None)
            if limit is not None:
                bounds.append(f"{sign} {short_duration(limit) if limit and timed else limit}")
    return ", ".join(bounds)


def _kinds(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if origin in (Union, UnionType):
        return " or ".join(_kinds(part) for part in get_args(annotation) if part is not NoneType)
    if origin is tuple:
        first = get_args(annotation)[0]
        return "list of mappings" if get_origin(first) is dict else f"list of {_kinds(first)}s"
    if origin is dict:
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, Limits):
        return "limits"
    return WORDS[annotation]


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    target.write_text(configuration_page(), encoding="utf-8")
    print(target)
