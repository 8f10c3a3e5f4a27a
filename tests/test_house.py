"""The house's laws, read from the source: which folder may import which, and what must not stand anywhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("leadline", "detectors", "streams", "sinks")
KAFKA = ("faust", "mode", "aiokafka", "kafka", "confluent_kafka")
CLOCKS_AND_IO = ("time", "datetime", "logging", "asyncio", "threading", "socket", "subprocess", "httpx", "requests")
FORBIDDEN = {
    "leadline": ("tests", "benchmarks"),
    "detectors": (*KAFKA, "redis", *CLOCKS_AND_IO, "leadline", "streams", "sinks", "tests", "benchmarks"),
    "streams": ("sinks", "tests", "benchmarks"),
    "sinks": ("faust", "mode", "aiokafka", "streams", "detectors", "tests", "benchmarks"),
}
# The alert, and the words for what a broker refuses, which are those of leadline.yaml for all programs.
ONLY_OF_LEADLINE = {"sinks": ("leadline.alert", "leadline.kafka_refusals", "leadline.key_faults")}
# The rooms of streams/, each with those that it may know. The pure ones know no Kafka, no Redis and no Faust.
PURE_ROOMS = {
    "core": (),
    "counting": ("core",),
    "baselines": ("core", "counting"),
    "observe": ("core", "counting", "baselines"),
    "figures": ("core", "counting"),
    "rules": ("core", "counting", "figures"),
    "judge": ("core", "counting", "baselines", "figures", "rules"),
    "backtest": ("core", "counting", "baselines", "observe", "figures", "judge"),
}
SHELL_ROOMS = {
    "store": ("core",),
    "transport": ("core", "store"),
    "worker": ("core", "counting", "baselines", "observe", "judge", "store", "transport"),
    "embedded": ("core", "store", "transport", "worker"),
}
ROOMS = PURE_ROOMS | SHELL_ROOMS
PICKLERS = ("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle")


@dataclass(frozen=True)
class Import:
    """One import statement, or a call of `import_module` with a literal name."""

    module: str
    line: int
    at_import_time: bool


@cache
def sources(folder: str) -> dict[str, Path]:
    """Module name to file."""
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def imports(path: Path) -> tuple[Import, ...]:
    return tuple(_imports(tree(path).body, _package(path), True))


def _package(path: Path) -> list[str]:
    return list(path.relative_to(ROOT).parent.parts)


def _imports(body: list[ast.stmt], package: list[str], at_import_time: bool) -> Iterator[Import]:
    for node in body:
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(name.name, node.lineno, at_import_time)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield Import(module, node.lineno, at_import_time)
            for name in node.names:  # `from streams import join` imports a module too
                yield Import(f"{module}.{name.name}", node.lineno, at_import_time)
        else:
            yield from _named_in_calls(node)
            inner = at_import_time and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for part in ("body", "orelse", "finalbody"):
                block = getattr(node, part, [])
                typing_only = isinstance(node, ast.If) and part == "body" and "TYPE_CHECKING" in ast.unparse(node.test)
                yield from _imports(block if isinstance(block, list) else [], package, inner and not typing_only)
            for each in (*getattr(node, "handlers", []), *getattr(node, "cases", [])):
                yield from _imports(each.body, package, inner)


def _named_in_calls(node: ast.stmt) -> Iterator[Import]:
    """`import_module("x")` and `__import__("x")`, directly in this statement."""
    if hasattr(node, "body"):
        return  # its own statements come one by one
    for call in ast.walk(node):
        if not isinstance(call, ast.Call) or not call.args:
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        first = call.args[0]
        if name in ("import_module", "__import__") and isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield Import(first.value, call.lineno, False)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_arrow_runs_the_wrong_way(folder: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{each.line} imports {each.module}"
        for path in sources(folder).values()
        for each in imports(path)
        if any(within(each.module, package) for package in FORBIDDEN[folder])
    ]
    assert wrong == []


def test_every_module_of_the_pipeline_is_in_a_room() -> None:
    assert {path.name for path in (ROOT / "streams").glob("*.py")} == {"__init__.py"}
    assert {path.name for path in (ROOT / "streams").iterdir() if (path / "__init__.py").exists()} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_of_the_pipeline_know_only_those_before_them(room: str) -> None:
    known = (room, *ROOMS[room])
    strangers = (*KAFKA, "redis") if room in PURE_ROOMS else ()
    wrong = [
        f"{path.relative_to(ROOT)}:{each.line} imports {each.module}"
        for path in sources(f"streams/{room}").values()
        for each in imports(path)
        if any(within(each.module, package) for package in strangers)
        or (within(each.module, "streams") and each.module.split(".")[1:2] not in [[name] for name in known])
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", ONLY_OF_LEADLINE)
def test_sinks_know_the_alert_contract_and_nothing_else_of_the_front_door(folder: str) -> None:
    allowed = ONLY_OF_LEADLINE[folder]
    wrong = [
        f"{path.relative_to(ROOT)}:{each.line} imports {each.module}"
        for path in sources(folder).values()
        for each in imports(path)
        if within(each.module, "leadline") and not any(within(each.module, module) for module in allowed)
    ]
    assert wrong == []


def way_to_faust(module: str, on_the_way: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The chain of imports that run when `module` is imported and end in faust; empty if there is none."""
    if within(module, "faust"):
        return (*on_the_way, module)
    known = {name: path for folder in FOLDERS for name, path in sources(folder).items()}
    if module not in known or module in on_the_way:
        return ()
    # Importing a.b.c runs a and a.b too.
    parents = [module.rpartition(".")[0]] if "." in module else []
    for each in [*parents, *(each.module for each in imports(known[module]) if each.at_import_time)]:
        if (way := way_to_faust(each, (*on_the_way, module))) != ():
            return way
    return ()


def test_no_module_of_the_front_door_imports_faust_when_it_is_imported() -> None:
    ways = {module: " -> ".join(way) for module in sources("leadline") if (way := way_to_faust(module))}
    assert ways == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_is_pickled(folder: str) -> None:
    wrong = []
    for path in sources(folder).values():
        where = path.relative_to(ROOT)
        wrong += [
            f"{where}:{each.line} imports {each.module}"
            for each in imports(path)
            if any(within(each.module, pickler) for pickler in PICKLERS)
        ]
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                    wrong.append(f"{where}:{node.value.lineno} allows pickles")
            elif isinstance(node, ast.FunctionDef) and node.name in ("__reduce__", "__reduce_ex__", "__getstate__"):
                wrong.append(f"{where}:{node.lineno} prepares for pickling")
    assert wrong == []


def own_paths() -> list[str]:
    """Paths that exist on this machine alone: the checkout, the folder around it, the interpreter's."""
    here = {str(ROOT), str(ROOT.parent), str(Path.home()), sys.prefix}
    every_machine = {"/tmp", "/usr", "/opt", "/srv", "/mnt", "/home", "/var/tmp", "/usr/local", "/usr/src"}
    return sorted(path for path in here - every_machine if path.count("/") > 1 or len(path) > 3)


def texts() -> list[Path]:
    """Every text file under version control or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        names = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:  # an unpacked archive
        names = [path for path in ROOT.rglob("*") if path.is_file() and ".git" not in path.parts]
    kinds = {".py", ".md", ".toml", ".yml", ".yaml", ".json", ".lua", ".sh", ".txt", ".cfg", ".ini", ""}
    return [path for path in names if path.suffix in kinds and path.is_file() and path.stat().st_size < 1 << 20]


def test_no_file_names_a_path_of_this_machine() -> None:
    own = "|".join(re.escape(path) for path in own_paths())
    pattern = re.compile(rf"(?<![\w./~-])(?:{own})(?=[/\s\"'`)\]:;,]|$)|(?<!\w)/(?:home|Users)/[a-z]\w*/", re.MULTILINE)
    wrong = []
    for path in texts():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        wrong += [
            f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, found.start()) + 1} has {found.group()}"
            for found in pattern.finditer(text)
        ]
    assert wrong == []


@pytest.mark.parametrize("statement", ["import leadline", "from leadline import Publisher"])
def test_a_service_that_publishes_loads_no_heavy_library(statement: str) -> None:
    heavy = ("faust", "numpy", "pydantic", "scipy", "river", "rich", "redis", "httpx", "streams", "detectors", "sinks")
    script = f"import sys; {statement}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_laws_can_be_broken(tmp_path: Path) -> None:
    """The reader of imports sees each way in which one can be written."""
    source = """
import streams.join
from sinks import base as b
if True:
    import pickle
def f():
    from faust import App
    import_module("redis")
try:
    import a
except ImportError:
    import c
"""
    found = {each.module: each.at_import_time for each in _imports(ast.parse(source).body, ["leadline"], True)}
    assert found == {
        "streams.join": True,
        "sinks": True,
        "sinks.base": True,
        "pickle": True,
        "faust": False,
        "faust.App": False,
        "redis": False,
        "a": True,
        "c": True,
    }
    relative = {
        each.module for each in _imports(ast.parse("from . import x\nfrom .y import z").body, ["leadline"], True)
    }
    assert relative == {"leadline", "leadline.x", "leadline.y", "leadline.y.z"}
