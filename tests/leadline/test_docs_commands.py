"""Whoever types what a page says gets what it promises: commands, options, make targets, configuration keys, programs, files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from leadline.cli.app import app
from leadline.config import Model, Rules
from leadline.config_docs import keys

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").glob("*.md"),
        *(ROOT / "benchmarks").glob("*.md"),
    ]
)
TEXTS = [*PAGES, ROOT / "docker-compose.yml", *sorted((ROOT / "examples").glob("*.py")), ROOT / "Makefile"]
each_text = pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))


def code(path: Path) -> Iterator[str]:
    """Commands of a text: lines of its code blocks and what stands in backticks; of other files every line."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".md":
        yield from text.splitlines()
        return
    yield from (line for block in re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL) for line in block.splitlines())
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    yield from (line.strip() for line in text.splitlines() if line.startswith("    "))


def known_options() -> dict[str, set[str]]:
    """Each command, `topics create` as one of its own, to its options."""
    root = typer.main.get_command(app)
    found: dict[str, set[str]] = {"": options(root)}
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        children = getattr(command, "commands", {})
        found[name] = options(command)
        found |= {f"{name} {child}": options(part) for child, part in children.items()}
    return found


def options(command: object) -> set[str]:
    names = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}  # type: ignore[attr-defined]
    return names | {"-h", "--help"}


COMMANDS = known_options()


def spoken(line: str) -> Iterator[tuple[str, list[str]]]:
    """Calls of `leadline` in a line: the command and the options that it is given."""
    for call in re.findall(r"(?:^|(?<!from)[\s/])leadline ((?!import )(?:[a-z-]+|--[a-z]).*)$", line.split("  #")[0]):
        try:
            parts = shlex.split(re.split(r"[|;&)]| 2>", call)[0])
        except ValueError:
            continue
        name = parts[0] if not parts[0].startswith("-") else ""
        if len(parts) > 1 and f"{name} {parts[1]}" in COMMANDS:
            name = f"{name} {parts[1]}"
        yield name, [part.partition("=")[0] for part in parts if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", part)]


@each_text
def test_every_command_and_option_that_is_named_exists(path: Path) -> None:
    wrong = []
    for line in code(path):
        for name, given in spoken(line):
            if name not in COMMANDS:
                wrong.append(f"leadline {name}")
            else:
                wrong += [f"leadline {name} {option}" for option in given if option not in COMMANDS[name]]
    assert wrong == []


def test_every_command_is_shown_somewhere() -> None:
    shown = {name for path in PAGES for line in code(path) for name, _ in spoken(line)}
    assert {name for name in COMMANDS if name not in ("", "topics", "reference")} - shown == set()


def test_commands_are_found_in_what_is_written() -> None:
    assert list(spoken("leadline backtest --predictions p --bad=1")) == [("backtest", ["--predictions", "--bad"])]
    assert list(spoken("docker compose exec worker leadline status")) == [("status", [])]
    assert list(spoken("leadline topics create -c x.yaml  # --no")) == [("topics create", ["-c"])]
    assert sum(1 for path in TEXTS for line in code(path) for _ in spoken(line)) > 60
    assert "--embedded" in COMMANDS["run"]


@each_text
def test_every_make_target_that_is_named_exists(path: Path) -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        word
        for line in code(path)
        for call in re.findall(r"(?:^|\s)make ((?:[A-Z]+=(?:'[^']*'|\S+) )*)([a-z-]+)", line)
        for word in (call[1],)
    }
    if path.name != "Makefile":
        assert named - known == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_configuration_key_that_is_named_exists(path: Path) -> None:
    known = {name for name, _ in keys()}
    sections = {name.partition(".")[0] for name in known}
    known |= {name.rpartition(".")[0] for name in known}
    known |= {f"models.ID.{name}" for name in Model.model_fields} | {
        f"models.ID.rules.{name}" for name in Rules.model_fields
    }
    wrong = []
    for quoted in re.findall(r"`([^`\n]+)`", path.read_text(encoding="utf-8")):
        if (
            re.fullmatch(r"[a-z_]+(\.[A-Za-z_]+)+", quoted)
            and quoted.partition(".")[0] in sections
            and not (ROOT / quoted).exists()
        ):
            plain = re.sub(r"^models\.[A-Za-z_]+", "models.ID", quoted)
            if plain not in known and plain != "models.ID":
                wrong.append(quoted)
    assert wrong == []


FILE = r"(?<![\w/.-])((?:docs|benchmarks|tests|examples|deploy|streams|sinks|leadline|detectors)/[\w./-]*\w)"
MODULE = r"python3? -m ((?:leadline|tests|benchmarks)[\w.]*)"


@each_text
def test_every_program_and_file_that_is_named_exists(path: Path) -> None:
    lines = list(code(path))
    files = {name for line in lines for name in re.findall(FILE, line)}
    modules = {name for line in lines for name in re.findall(MODULE, line)}
    assert sorted(name for name in files if not (ROOT / name).exists() and not any(ROOT.glob(f"{name}*"))) == []
    assert sorted(name for name in modules if not runs(name)) == []


def runs(module: str) -> bool:
    place = ROOT.joinpath(*module.split("."))
    return place.with_suffix(".py").exists() or (place / "__main__.py").exists()
