"""`leadline run`: a worker, on real parts or on embedded ones."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leadline.cli.common import (
    USAGE,
    Bootstrap,
    ConfigFile,
    RedisUrl,
    clean_errors,
    fail,
    load,
    make_folder,
    print_json,
    set_up_logging,
)

if TYPE_CHECKING:
    from leadline.config import Config
    from streams.embedded.run_embedded import Addresses


def run(
    config: ConfigFile = None,
    bootstrap_servers: Bootstrap = None,
    redis_url: RedisUrl = None,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Bring a broker and a Redis along: no Docker, no root, loopback only.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="With --embedded: the folder of the Redis data. Default: scratch, deleted at the end."),
    ] = None,
    deliver: Annotated[
        bool,
        typer.Option(
            "--deliver/--no-deliver", help="With --embedded: deliver alerts too; without sinks, to this terminal."
        ),
    ] = True,
    worker_id: Annotated[
        str | None, typer.Option(help="Name of this worker in `leadline status`. Default: host and process id.")
    ] = None,
    instance_id: Annotated[
        str | None,
        typer.Option(help="Static group membership: one name per replica, so that a quick restart moves no partition."),
    ] = None,
    accept_new_state: Annotated[
        bool,
        typer.Option(
            "--accept-new-state",
            help="For this start: count the log from its beginning where Redis came back empty or a topic was made anew.",
        ),
    ] = False,
    health_file: Annotated[
        Path | None,
        typer.Option(
            envvar="LEADLINE_HEALTH_FILE",
            help="Renewed every second while this worker moves; `leadline health` reads it.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --embedded: the addresses as one line of JSON on standard output.")
    ] = False,
) -> None:
    """Run a worker: join predictions with labels, keep the statistics, raise alerts. Ends on Ctrl-C."""
    settings = load(config, bootstrap_servers, redis_url)
    if data is not None and not embedded:
        fail("--data is the folder of the embedded Redis; add --embedded, or leave it out", USAGE)
    if accept_new_state:
        settings = settings.model_copy(update={"accept_new_state": True})
    set_up_logging(settings)
    if embedded:
        _run_embedded(settings, config, data, deliver, as_json, health_file)
    from streams.worker.run import run as run_worker

    with clean_errors(EMBEDDED_INSTEAD):
        raise typer.Exit(run_worker(settings, worker_id=worker_id, instance_id=instance_id, health_file=health_file))


def _run_embedded(
    settings: Config, config: Path | None, data: Path | None, deliver: bool, as_json: bool, health_file: Path | None
) -> None:
    from streams.embedded.run_embedded import run_embedded

    if data is not None:
        make_folder(data, "--data")
    if not as_json:  # where each partition begins is of use to who runs several workers
        logging.getLogger("streams.worker.owner").setLevel(max(logging.WARNING, logging.getLogger().level))
    if deliver:
        from leadline.cli.deliver import deliver_settings

        with clean_errors():
            deliver_settings(settings)  # a faulty sink is told now, not by the child

    def announce(addresses: Addresses) -> None:
        told = {
            "bootstrap_servers": addresses.bootstrap_servers,
            "redis_url": addresses.redis_url,
            "topics": settings.kafka.topics.model_dump(),
        }
        if as_json:
            print_json(told, line=True)
        else:
            typer.echo(
                READY.format(**told, predictions=settings.kafka.topics.predictions, labels=settings.kafka.topics.labels)
            )
        sys.stdout.flush()

    def command(addresses: Addresses) -> Sequence[str]:
        chosen = ["--config", str(config)] if config is not None else []
        where = ["--bootstrap-servers", addresses.bootstrap_servers, "--redis-url", addresses.redis_url]
        return [sys.executable, "-m", "leadline.cli", "deliver", *chosen, *where]

    with clean_errors():
        status = run_embedded(
            settings, data=data, announce=announce, deliver=command if deliver else None, health_file=health_file
        )
    if not as_json:
        kept = "" if data is None else f" Counts and incidents are kept in {data}: start again with the same --data."
        typer.echo(f"ended; broker and Redis are gone.{kept}")
    raise typer.Exit(status)


TRY_EMBEDDED = "; to try Leadline out without either: leadline run --embedded"
EMBEDDED_INSTEAD = {"broker_unreachable": TRY_EMBEDDED, "store_unavailable": TRY_EMBEDDED}
READY = """\
ready. Publish to
  topics             {predictions}, {labels}
  bootstrap servers  {bootstrap_servers}
  Redis              {redis_url}
In another terminal:
  export LEADLINE_BOOTSTRAP_SERVERS={bootstrap_servers}
  export LEADLINE_REDIS_URL={redis_url}
  leadline status
Ctrl-C ends everything."""
