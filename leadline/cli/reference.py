"""`leadline reference build`: training rows to a readable JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from leadline.cli.common import USAGE, Json, clean_errors, console, fail, number, print_json

if TYPE_CHECKING:
    from streams.counting.references import Reference

app = typer.Typer(
    no_args_is_help=True, help="References: what a model's features, score and outcomes looked like in training."
)


@app.callback()
def _group() -> None:
    """Keeps `build` a command of its own while it is the only one."""


@app.command("build")
def build(
    rows: Annotated[
        Path,
        typer.Argument(
            help="Training or hold-out rows: .csv, .csv.gz or .parquet. Columns: features, score, label, segment__NAME, and what else "
            "docs/operations.md lists."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the reference goes.")] = Path("reference.json"),
    task: Annotated[
        Literal["auto", "binary", "regression", "multiclass"], typer.Option(help="What the model answers.")
    ] = "auto",
    positive_label: Annotated[
        str | None, typer.Option(help="The label that counts as positive, where it is not 1, true or yes.")
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Score from which a row counts as predicted positive.")
    ] = 0.5,
    business: Annotated[
        list[str] | None, typer.Option(help="Business value to keep, a column value__NAME; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build a reference from rows that the model was not fitted on. Name the result under models.ID.reference."""
    from streams.baselines.reference_files import build_reference
    from streams.baselines.stored_reference import dump_reference
    from streams.baselines.training_tables import DESCRIBING, read_table
    from streams.counting.features import BadReference

    if not rows.is_file():
        fail(f"{rows} does not exist or is no file; give CSV (.csv, .csv.gz) or Parquet of training rows", USAGE)
    with clean_errors():
        if ".json" in rows.suffixes:
            raise BadReference(f"{rows} is JSON; give the training rows themselves, as CSV or Parquet")
        table = read_table(rows)
        built = build_reference(
            table,
            task=task,
            positive_label=_label(positive_label),
            threshold=threshold,
            business=business or (),
            source=rows.name,
        )
    try:
        output.write_bytes(dump_reference(built))
    except OSError as error:
        fail(f"{output} cannot be written: {error.strerror or error}", USAGE)
    unused = sorted(DESCRIBING & table.keys())
    if as_json:
        print_json({"reference": str(output), **summary(built), "unused_columns": unused})
    else:
        _show(built, output, unused)


def _label(text: str | None) -> float | str | None:
    """A label as rows hold it: a number where it is one."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return text


def summary(reference: Reference) -> dict[str, Any]:
    """What the reference holds, as plain values."""
    everything = reference.cell(None)
    layout = reference.layout
    features = []
    for feature in reference.features:
        counts = layout.part(everything, f"feature:{feature.name}") if everything is not None else None
        total = float(counts.sum()) if counts is not None else 0.0
        missing = next((at for at, label in enumerate(feature.bins.labels) if label == "missing"), None)
        features.append(
            {
                "name": feature.name,
                "kind": feature.kind,
                "bins": feature.group_count,
                "mean": feature.center if feature.kind == "numeric" else None,
                "standard_deviation": feature.scale if feature.kind == "numeric" else None,
                "null_rate": float(counts[missing]) / total
                if counts is not None and missing is not None and total
                else None,
            }
        )
    return {
        "task": reference.task,
        "rows": reference.rows,
        "labelled_rows": int(layout.one(everything, "outcomes")) if everything is not None else 0,
        "score": reference.score is not None,
        "segments": sorted(segment for segment in reference.cells if segment),
        "classes": list(reference.classes),
        "fingerprint": reference.fingerprint,
        "features": features,
    }


def _show(reference: Reference, output: Path, unused: Sequence[str]) -> None:
    from rich.text import Text

    from leadline.cli.tables import Column, print_table

    told, out = summary(reference), console()
    columns = (
        Column("feature", fold=True),
        Column("kind"),
        Column("bins", right=True),
        Column("mean", right=True),
        Column("deviation", right=True),
        Column("null rate", right=True),
    )
    rows = [
        (
            row["name"],
            row["kind"],
            number(row["bins"]),
            number(row["mean"]),
            number(row["standard_deviation"]),
            number(row["null_rate"], 3),
        )
        for row in told["features"]
    ]
    title = f"{output}: {told['task']}, {told['rows']:,} rows, {told['labelled_rows']:,} with a label"
    print_table(out, title, columns, rows)
    notes = []
    if told["segments"]:
        notes.append(f"segments: {', '.join(told['segments'])}")
    if not told["score"]:
        notes.append("no column `score`: drift of the score will have no baseline")
    if not told["labelled_rows"]:
        notes.append("no column `label`: performance will have no baseline")
    if unused:
        words = f"{', '.join(unused)}: named as fields of events are, so no features"
        notes.append(f"{words} (for a feature of that name: feature__{unused[0]})")
    for note in notes:
        out.print(Text(note))
