"""The pages under `docs/` against the code that they describe: names, keys, links."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from urllib.parse import unquote

import msgspec
import numpy as np
import pytest

from leadline.config import Config
from leadline.events import Digest
from streams.backtest.backtest import Backtest
from streams.backtest.report import build_report
from streams.baselines.reference_files import build_reference
from streams.core.stage import Record
from streams.counting.layout import Layout, Task
from streams.figures.figures import figures
from streams.figures.group_figures import group_figures
from streams.judge.incidents import Incident, Where
from streams.judge.views import incident_row

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")])
MOST_LINES = 40


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def named(text: str) -> set[str]:
    """Everything that stands in backticks."""
    return {name for quoted in re.findall(r"`([^`\n]+)`", text) for name in re.findall(r"[A-Za-z0-9_]+", quoted)}


def anchors(path: Path) -> set[str]:
    """What a heading is called in a link, as GitHub does."""
    heads = re.findall(r"^#{1,6} (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_file_and_heading_leads_somewhere(path: Path) -> None:
    lost = []
    prose = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = unquote(target).partition("#")
        found = (path.parent / file).resolve() if file else path
        if not found.exists() or (anchor and anchor not in anchors(found)):
            lost.append(target)
    assert lost == []


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "decisions").glob("*.md")), ids=lambda path: path.stem)
def test_a_decision_is_short_and_names_what_it_decided_against(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    for part in ("**Question.**", "**Chosen.**", "**Instead of**", "**Price.**"):
        assert part in text


def columns(task: Task) -> dict[str, list[object]]:
    draw = np.random.default_rng(3)
    score, truth = draw.random(400), draw.random(400)
    table: dict[str, list[object]] = {
        "age": list(draw.normal(60, 9, 400).tolist()),
        "site": [("north", "south")[at % 2] for at in range(400)],
        "score": list(score.tolist()),
        "latency_ms": [5.0] * 400,
        "value__worth": [float(at) for at in range(400)],
    }
    if task == "binary":
        return table | {"label": [float(draw_at < p) for p, draw_at in zip(score, truth, strict=True)]}
    if task == "regression":
        return table | {"score": list((50 * score).tolist()), "label": list((50 * truth).tolist())}
    del table["score"]
    return table | {
        "score__a": list(score.tolist()),
        "score__b": list((1 - score).tolist()),
        "label": [("a", "b")[at % 2] for at in range(400)],
    }


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_the_page_of_the_report_names_every_signal(task: Task) -> None:
    reference = build_reference(columns(task), task=task, business=("worth",))
    vector = reference.cells[None].copy()
    for section in ("absent:age", "confidence_rows", "latency_rows", "delay"):  # what training rows do not say
        vector[reference.layout.offset(section)] = 1.0
    found = {figure.signal for figure in figures(reference, vector, reference.cells[None])}
    assert len(found) > 20
    assert found - named(page("report.md")) == set()


def test_the_page_of_the_report_names_every_gap_between_groups() -> None:
    layout = Layout("binary")
    one, other = np.ones(layout.size), np.full(layout.size, 2.0)
    found = {figure.signal for figure in group_figures(layout, {"site=north": one, "site=south": other})}
    assert len(found) == 4
    assert found - named(page("report.md")) == set()


def test_the_page_of_the_report_names_every_key_and_count() -> None:
    backtest = Backtest(Config())
    events = (
        ("predictions", b'{"request_id":"r","model_id":"m","model_version":"1","timestamp":1000,"score":0.5}'),
        ("labels", b'{"request_id":"r","label":1,"timestamp":1001}'),
    )
    backtest.feed((source, Record(0, None, value, 1001.0)) for source, value in events)
    report = build_report(backtest)
    text = named(page("report.md"))
    assert report["figures"]
    parts = (report, report["parameters"], report["models"][0], report["counts"], report["figures"][0])
    assert {key for part in parts for key in part} - text == set()


def test_the_page_of_the_report_names_every_key_of_an_incident() -> None:
    texts = {"id": "", "model_id": "m", "signal": "auc", "subject": None, "layer": "outcome", "severity": "warn"}
    values = {field.name: 0 for field in msgspec.structs.fields(Incident) if field.required}
    incident = msgspec.convert({**values, **texts, "where": Where(None, "live", None), "evidence": []}, Incident)
    assert incident_row(incident).keys() - named(page("report.md")) == set()


def test_the_page_of_the_architecture_names_files_that_exist() -> None:
    told = set(re.findall(r"`(\w+\.py)`", page("architecture.md")))
    known = {
        path.name
        for folder in ("leadline", "detectors", "streams", "sinks", "tests")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert len(told) > 30
    assert told - known == set()


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_the_page_of_digests_names_every_section_and_field(task: Task) -> None:
    layout = Layout(task, (("age", 12),), 12, ("a", "b"), ("worth",), ("dense",), ("cpu_s",), True)
    text = named(page("digests.md"))
    assert {name.partition(":")[0] for name in layout.slots} - text == set()
    assert set(Digest.__struct_fields__) - text == set()


def test_every_error_of_the_operations_page_exists() -> None:
    table = re.search(r"^## Refusals$(.*?)^## ", page("operations.md"), re.MULTILINE | re.DOTALL)
    assert table is not None
    told = {
        name for line in re.findall(r"^\| (`[^|]+)\|", table[1], re.MULTILINE) for name in re.findall(r"`(\w+)`", line)
    }
    sources = [*(ROOT / "streams").rglob("*.py"), *(ROOT / "leadline").rglob("*.py")]
    classes = {
        node.name
        for path in sources
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef)
    }
    assert len(told) > 10
    assert told - classes == set()
