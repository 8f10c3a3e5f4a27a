"""What `leadline backtest` prints: each model in a line, what became of every request, incidents."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from leadline.cli.common import console, instant, number
from leadline.cli.incident_cards import card
from leadline.cli.tables import Column, print_pairs, print_table

SHOWN = 20
STATES = ("joined", "late", "expired", "pending")
HEADLINE = {"binary": "auc", "regression": "mae", "multiclass": "accuracy"}  # the figure that is asked for first


def show(report: dict[str, Any]) -> None:
    """Everything on standard output."""
    out = console()
    _show_models(out, report)
    _show_counts(out, report)
    _show_incidents(out, report)


def _show_models(out: Console, report: dict[str, Any]) -> None:
    if not report["models"]:
        return
    whole = {
        (row["model_id"], row["signal"]): row
        for row in report["figures"]
        if row["axis"] == "cohort"
        and row["subject"] is None
        and all(row[name] is None for name in ("model_version", "segment", "window_start"))
        and row["stage"] == "live"
    }
    rows = []
    for model in report["models"][:SHOWN]:
        name = HEADLINE[model["task"]]
        figure = whole.get((model["model_id"], name), {})
        rows.append(
            (
                model["model_id"],
                f"{name} {number(figure.get('value'))}",
                number(figure.get("reference")),
                number(whole.get((model["model_id"], "rows"), {}).get("n", 0)),
                number(figure.get("n", 0)),
                _baseline(model),
                ", ".join(model["versions"]),
            )
        )
    columns = (
        Column("model", fold=True),
        Column("figure"),
        Column("reference", right=True),
        Column("predictions", right=True),
        Column("labelled", right=True),
        Column("baseline"),
        Column("versions", fold=True, rank=1),
    )
    print_table(out, f"models: {len(report['models'])}", columns, rows)
    if len(report["models"]) > SHOWN:
        out.print(f"and {len(report['models']) - SHOWN} more in the report")
    out.print()


def _baseline(model: dict[str, Any]) -> str:
    """What drift was judged against: without one, that nothing was found says little."""
    if model["baseline"] == "none":
        return "none: too few rows"
    return f"{'first' if model['baseline'] == 'learned' else 'reference,'} {model['reference_rows']:,} rows"


def _show_counts(out: Console, report: dict[str, Any]) -> None:
    """The states of all predictions, then what is counted beside them and is not 0; the report has the zeros too."""
    counts = report["counts"]
    out.print(Text("counts", style="bold"))
    states = ", ".join(f"{number(counts[name])} {name}" for name in STATES)
    pairs: list[tuple[str, str]] = [
        ("predictions", f"{number(counts['predictions'])}: {states}"),
        ("labels", f"{number(counts['labels'])}; requests without a prediction: {number(counts['orphan'])} orphan"),
    ]
    beside = [
        name for name in counts if name not in {"predictions", "labels", "orphan", "duplicates", "rejected", *STATES}
    ]
    pairs += [(name, number(counts[name])) for name in beside if counts[name]]
    reasons = ", ".join(f"{number(n)} {name}" for name, n in report["rejected"].items())
    pairs.append(("rejected", f"{number(counts['rejected'])}: {reasons}" if reasons else "0"))
    print_pairs(out, pairs)
    out.print()


def _show_incidents(out: Console, report: dict[str, Any]) -> None:
    incidents = report["incidents"]
    lasting = sum(row["resolved_at"] is None for row in incidents)
    words = f"incidents: {len(incidents)}" + (f", {lasting} open at the end" if lasting else "")
    out.print(Text(words if incidents else "incidents: none", style="bold"))
    for row in incidents[:SHOWN]:
        until = "open at the end" if row["resolved_at"] is None else f"to {instant(row['resolved_at'])}"
        out.print(card(row, f"{instant(row['opened_at'])} {until} (UTC)"))
    if len(incidents) > SHOWN:
        out.print(Text(f"and {len(incidents) - SHOWN} more in the report", style="dim"))
    out.print()
