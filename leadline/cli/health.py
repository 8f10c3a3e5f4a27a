"""`leadline health`: the liveness probe of one worker, for Kubernetes, systemd and compose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from leadline.cli.common import fail
from leadline.health import ailment


def health(
    file: Annotated[
        Path, typer.Argument(envvar="LEADLINE_HEALTH_FILE", help="What `leadline run --health-file` writes.")
    ],
) -> None:
    """Exit status 0 if the worker that writes FILE moves, else 1 and what is wrong. Asks neither Kafka nor Redis."""
    if (wrong := ailment(file)) is not None:
        fail(wrong)
