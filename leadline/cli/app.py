"""The commands by name. To add one: write its file, register it here with a line for the list of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from leadline.cli import backtest, deliver, demo, doctor, health, reference, request, run, status, topics, version

app = typer.Typer(
    name="leadline",
    no_args_is_help=True,
    rich_markup_mode=None,  # frames leave half of 80 columns for the words
    pretty_exceptions_enable=False,  # its tracebacks show locals, and locals hold secrets
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        import leadline

        typer.echo(f"leadline {leadline.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Streaming monitoring for machine-learning models: tells within seconds, with evidence, that a model has become wrong."""


app.command("demo", short_help="A hospital's model fails in four ways, live, in two minutes.")(demo.demo)
app.command("run", short_help="A worker; with --embedded, broker and Redis along.")(run.run)
app.command("deliver", short_help="Bring alerts to Slack, webhooks, files, the console.")(deliver.deliver)
app.command("status", short_help="Models, open incidents, signals, joins, workers.")(status.status)
app.command("request", short_help="Where one request stands: state, score, label, bins.")(request.request)
app.command("doctor", short_help="What is wrong with an installation, and how to mend it.")(doctor.doctor)
app.command("health", short_help="Whether one worker moves: a probe for supervisors.")(health.health)
app.command("backtest", short_help="A recorded log through the same core, without a broker.")(backtest.backtest)
app.add_typer(reference.app, name="reference", short_help="`reference build`: training rows to a reference.")
app.add_typer(topics.app, name="topics", short_help="`topics create`: the Kafka topics of an installation.")
app.command("version", short_help="This Leadline, and the libraries that it runs with.")(version.version)
