"""Every kind of sink, and the union that a configuration's `sinks:` list is read with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Union, get_args

from pydantic import Field, TypeAdapter, ValidationError

from leadline.key_faults import words
from sinks.base import SinkConfig
from sinks.console import ConsoleConfig
from sinks.jsonl import JsonlConfig
from sinks.slack import SlackConfig
from sinks.webhook import WebhookConfig

AnySinkConfig = Annotated[
    Union[ConsoleConfig, JsonlConfig, SlackConfig, WebhookConfig],  # noqa: UP007 (get_args needs the union itself)
    Field(discriminator="kind"),
]
REGISTRY: dict[str, type[SinkConfig]] = {
    config.model_fields["kind"].default: config for config in get_args(get_args(AnySinkConfig)[0])
}
_adapter: TypeAdapter[tuple[AnySinkConfig, ...]] = TypeAdapter(tuple[AnySinkConfig, ...])


class SinkConfigError(ValueError):
    """The `sinks:` list is wrong: where and why, without what was written there."""


def parse_sinks(raw: Sequence[Any]) -> tuple[AnySinkConfig, ...]:
    """The configurations in `raw`, a list of mappings. `SinkConfigError` names each fault by its place."""
    faults: list[str] = []
    try:
        return check_names(_adapter.validate_python(raw))
    except ValidationError as error:
        # pydantic's own text quotes the input, and the input may be a token.
        faults = [
            f"{'.'.join(map(str, ('sinks', *each['loc'])))}: {words(each, _keys(each['loc']))}"
            for each in error.errors(include_input=False, include_url=False)
        ]
    raise SinkConfigError("; ".join(faults))


def _keys(location: tuple[int | str, ...]) -> Sequence[str]:
    """What stands beside the key at (number of the sink, its kind, key)."""
    kind = REGISTRY.get(str(location[1])) if len(location) == 3 else None
    return list(kind.model_fields) if kind is not None else ()


def check_names(sinks: tuple[AnySinkConfig, ...]) -> tuple[AnySinkConfig, ...]:
    """`SinkConfigError` where two sinks have one name: the delivery record could not tell them apart."""
    labels = [sink.label for sink in sinks]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise SinkConfigError(f"two sinks are named {', '.join(twice)}: give each a name of its own")
    return sinks
