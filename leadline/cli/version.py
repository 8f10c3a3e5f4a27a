"""`leadline version`."""

from __future__ import annotations

import typer

import leadline
from leadline.cli.common import Json, print_json


def version(as_json: Json = False) -> None:
    """Which Leadline this is, and which libraries it runs with."""
    import platform
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    found = {"leadline": leadline.__version__, "python": platform.python_version()}
    for name in ("faust-streaming", "aiokafka", "confluent-kafka", "redis", "river", "numpy", "scipy"):
        try:
            found[name] = installed(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    if as_json:
        print_json(found)
    else:
        typer.echo("\n".join(f"{name} {value}" for name, value in found.items()))
