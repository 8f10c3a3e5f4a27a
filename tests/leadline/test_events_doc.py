"""`docs/events.md` against the code: a contract that people build against may not drift from what is decoded."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from leadline.events import Change, Label, Prediction
from leadline.partition import murmur2
from leadline.publisher_queue import DROP_REASONS
from leadline.publisher_values import INVALID_REASONS

TEXT = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    found = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found.group(1)


def first_column(text: str) -> set[str]:
    cells = re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([a-z0-9_]+)`", cell)}


@pytest.mark.parametrize(("title", "struct"), [("Prediction", Prediction), ("Label", Label), ("Change", Change)])
def test_the_tables_name_every_field_and_mark_the_required_ones(title: str, struct: type[msgspec.Struct]) -> None:
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in section(title).splitlines()
        if line.startswith("| `")
    ]
    assert [row[0].strip("`") for row in rows] == list(struct.__struct_fields__)
    required = {field.name for field in msgspec.structs.fields(struct) if field.required}
    assert {row[0].strip("`") for row in rows if row[2] == "required"} == required


def test_the_examples_decode() -> None:
    found = re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    prediction, label = found.group(1).strip().splitlines()
    assert (
        msgspec.json.decode(prediction, type=Prediction).request_id == msgspec.json.decode(label, type=Label).request_id
    )


def test_every_reason_of_the_publisher_is_explained() -> None:
    assert first_column(section("From Python")) == DROP_REASONS
    assert first_column(section("What is rejected")) >= INVALID_REASONS


def test_the_hash_that_people_check_against_is_right() -> None:
    found = re.search(r'murmur2\(b"(\w+)"\)` is (-?\d+)', TEXT)
    assert found is not None
    assert murmur2(found.group(1).encode()) == int(found.group(2))
