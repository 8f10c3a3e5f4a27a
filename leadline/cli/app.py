"""The commands by name. To add one: write its file, register it here."""

from __future__ import annotations

import typer

from leadline.cli import backtest, deliver, demo, doctor, health, reference, request, run, status, topics, version

app = typer.Typer(
    name="leadline",
    help="Streaming monitoring for machine-learning models: tells within seconds, with evidence, that a model has become wrong.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks show locals, and locals hold secrets
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("run")(run.run)
app.command("deliver")(deliver.deliver)
app.command("status")(status.status)
app.command("request")(request.request)
app.command("doctor")(doctor.doctor)
app.command("health")(health.health)
app.command("backtest")(backtest.backtest)
app.add_typer(topics.app, name="topics")
app.add_typer(reference.app, name="reference")
app.command("version")(version.version)
