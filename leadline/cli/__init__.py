"""The command line: `leadline --help`. One file a command; what is heavy is imported when a command runs."""

from __future__ import annotations


def main() -> None:
    """The entry point of the `leadline` script."""
    from leadline.cli.app import app

    app(prog_name="leadline")
