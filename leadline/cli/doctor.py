"""`leadline doctor`: what is wrong with an installation, and how to mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from leadline.cli.common import FAILED, Bootstrap, ConfigFile, Json, RedisUrl, addressed, console, print_json

if TYPE_CHECKING:
    from leadline.cli.doctor_checks import Finding


def doctor(
    config: ConfigFile = None, bootstrap_servers: Bootstrap = None, redis_url: RedisUrl = None, as_json: Json = False
) -> None:
    """Check configuration, references, sinks, broker, topics, Redis and workers. Exit status 1 when anything fails."""
    from leadline.cli.doctor_checks import Finding, examine
    from leadline.config import ConfigError, load_config

    try:
        settings = addressed(load_config(config), bootstrap_servers, redis_url)
    except ConfigError as error:
        findings = [Finding("configuration", "fail", str(error), "mend the keys that are named")]
    else:
        findings = examine(settings)
    failed = any(finding.verdict == "fail" for finding in findings)
    if as_json:
        print_json({"healthy": not failed, "findings": [finding.row() for finding in findings]})
    else:
        _show(findings)
    raise typer.Exit(FAILED if failed else 0)


def _show(findings: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    style = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for finding in findings:
        words = Text.assemble((f"{finding.name}: ", "dim"), finding.detail)
        if finding.mend:
            words.append(f"\n→ {finding.mend}", style="bold")
        table.add_row(Text(finding.verdict, style=style[finding.verdict]), words)
    out = console()
    out.print(table)
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in ("fail", "warn")}
    if counts["fail"]:
        out.print(Text(f"\n{counts['fail']} failed: mend the first one first", style="bold red"))
    else:
        warned = f"; {counts['warn']} to look at" if counts["warn"] else ""
        out.print(Text(f"\nnothing fails{warned}", style="bold green"))
