"""`docs/schemas/` says what the code says."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from leadline.alert import Alert, Undelivered
from leadline.events import json_schemas
from leadline.schemas import FOLDER, all_schemas, render, write

MEND = "run `python -m leadline.schemas` and look at the difference: it is a change of the contract"


@pytest.mark.parametrize("name", json_schemas())
def test_the_schema_file_of_a_wire_struct_equals_the_struct(name: str) -> None:
    assert json.loads((FOLDER / f"{name}.json").read_text()) == json_schemas()[name], MEND


@pytest.mark.parametrize(("name", "model"), [("alert", Alert), ("undelivered", Undelivered)])
def test_the_schema_file_of_a_model_equals_the_model(name: str, model: type[Alert | Undelivered]) -> None:
    assert json.loads((FOLDER / f"{name}.json").read_text()) == model.model_json_schema(), MEND


def test_the_folder_holds_the_contracts_and_nothing_else() -> None:
    expected = {"prediction", "label", "change", "rejected", "digest", "alert", "undelivered"}
    assert {path.stem for path in FOLDER.glob("*.json")} == expected == set(all_schemas())


def test_the_writer_writes_what_is_committed(tmp_path: Path) -> None:
    for path in write(tmp_path):
        assert path.read_text() == (FOLDER / path.name).read_text(), MEND


@pytest.mark.parametrize("name", all_schemas())
def test_every_schema_is_a_valid_schema_and_renders_the_same_twice(name: str) -> None:
    schema = all_schemas()[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert render(schema) == render(all_schemas()[name])
