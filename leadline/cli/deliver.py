"""`leadline deliver`: alerts from Kafka to people, in a process and a consumer group of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from leadline.cli.common import USAGE, Bootstrap, ConfigFile, RedisUrl, clean_errors, fail, load, set_up_logging

if TYPE_CHECKING:
    from leadline.config import Config
    from sinks.settings import DeliverSettings


def deliver(
    config: ConfigFile = None,
    bootstrap_servers: Bootstrap = None,
    redis_url: RedisUrl = None,
) -> None:
    """Deliver alerts to the configured sinks, at least once; without any sink, to this terminal. Ends on Ctrl-C."""
    settings = load(config, bootstrap_servers, redis_url)
    set_up_logging(settings)
    from sinks.deliver import run_deliver

    with clean_errors():
        told = deliver_settings(settings)
        _check_record(settings)
    raise typer.Exit(run_deliver(told))


def _check_record(config: Config) -> None:
    """A Redis that is away is no hindrance: the process remembers meanwhile. One that will never let us in is."""
    from streams.store.store import open_store
    from streams.store.tables import StoreUnavailable

    try:
        open_store(config.redis.url.get_secret_value()).close()
    except StoreUnavailable as error:
        typer.echo(f"leadline: {error}; alerts may be repeated until it is back", err=True)


def deliver_settings(config: Config) -> DeliverSettings:
    """The configuration in the delivery process's words. `SinkConfigError` says which sink is wrong, and where."""
    from pydantic import ValidationError

    from sinks.kafka import KafkaSettings
    from sinks.record import RedisRecordConfig
    from sinks.registry import parse_sinks
    from sinks.settings import DeliverSettings

    sinks = parse_sinks(config.sinks or ({"kind": "console"},))
    try:
        return DeliverSettings(
            kafka=KafkaSettings(
                bootstrap_servers=config.kafka.bootstrap_servers,
                topic=config.kafka.topics.alerts,
                group_id=f"{config.kafka.group}-deliver",
                client=config.kafka.security.librdkafka(),
            ),
            sinks=sinks,
            # In Redis, not in a file: another delivery process that takes over must know what was told.
            record=RedisRecordConfig(url=config.redis.url, prefix=config.redis.prefix),
        )
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_input=False)
        )
        fail(f"these settings cannot deliver: {faults}", USAGE)
