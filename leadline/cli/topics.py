"""`leadline topics create`: the topics that Leadline reads and writes."""

from __future__ import annotations

import typer

from leadline.cli.common import Bootstrap, ConfigFile, Json, clean_errors, load, print_json

WAIT_S = 15.0

app = typer.Typer(no_args_is_help=True, help="Create the Kafka topics that Leadline reads and writes.")


@app.callback()
def _group() -> None:
    """Keeps `create` a command of its own while it is the only one."""


@app.command("create")
def create(config: ConfigFile = None, bootstrap_servers: Bootstrap = None, as_json: Json = False) -> None:
    """Create the topics that are missing and check the partition counts of those that exist. Running it twice does no harm."""
    settings = load(config, bootstrap_servers)
    from streams.transport.configured_topics import topic_specs
    from streams.transport.topics import admin_client, ensure_topics

    specs = topic_specs(settings)
    with clean_errors():
        report = ensure_topics(
            admin_client(settings.kafka.bootstrap_servers, settings.kafka.security.librdkafka()),
            specs,
            timeout_s=WAIT_S,
        )
    if as_json:
        print_json({"created": report.created, "existing": report.existing})
        return
    for spec in specs:
        word = "created" if spec.name in report.created else "exists "
        typer.echo(f"{word} {spec.name} ({spec.partitions} partition{'s' if spec.partitions > 1 else ''})")
