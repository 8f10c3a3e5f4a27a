"""The alert's JSON is pinned: `golden/` holds what version 1 looks like, for good."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from leadline.alert import Alert, Evidence, Scope
from leadline.schemas import FOLDER
from tests.sinks.samples import alert, full_alert

GOLDEN = Path(__file__).parent / "golden"
WRITTEN = {"alert_v1_open.json": alert(), "alert_v1_resolved.json": full_alert()}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_golden_alert_is_what_we_write_today(name: str) -> None:
    assert json.loads(WRITTEN[name].model_dump_json()) == json.loads((GOLDEN / name).read_text())


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("alert_v1_*.json")), ids=lambda path: path.stem)
def test_a_golden_alert_is_read_and_written_back_unchanged(path: Path) -> None:
    raw = path.read_bytes()
    read = Alert.model_validate_json(raw)
    assert Alert.model_validate_json(read.model_dump_json()) == read
    for key, value in json.loads(raw).items():
        assert json.loads(read.model_dump_json())[key] == value


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("alert_v1_*.json")), ids=lambda path: path.stem)
def test_a_golden_alert_satisfies_the_published_schema(path: Path) -> None:
    schema = json.loads((FOLDER / "alert.json").read_text())
    jsonschema.validate(json.loads(path.read_text()), schema)


def test_fields_of_a_newer_writer_are_ignored() -> None:
    raw = json.loads(alert().model_dump_json())
    assert Alert.model_validate({**raw, "mood": "bad", "scope": {**raw["scope"], "planet": "earth"}}) == alert()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_figure_that_is_not_finite_becomes_null_and_the_alert_can_be_read_again(value: float) -> None:
    told = alert(value=value, reference=value, noise_floor=value, onset_low=value)
    assert (told.value, told.reference, told.noise_floor, told.onset_low) == (None, None, None, None)
    assert Alert.model_validate_json(told.model_dump_json()) == told


@pytest.mark.parametrize("field", ["onset_at", "opened_at", "raised_at"])
def test_a_time_that_is_not_finite_is_an_error(field: str) -> None:
    with pytest.raises(ValidationError):
        Alert.model_validate({**alert().model_dump(), field: float("nan")})


def test_an_alert_is_a_value_and_cannot_be_changed() -> None:
    assert alert() == alert()
    with pytest.raises(ValidationError):
        setattr(alert(), "title", "other")  # noqa: B010 (a type checker already refuses the plain form)


def test_an_error_does_not_quote_the_data() -> None:
    with pytest.raises(ValidationError) as error:
        Evidence.model_validate({"signal": "psi", "subject": "age", "layer": "hunter2", "value": "hunter2", "n": 1})
    assert "hunter2" not in str(error.value)


def test_a_scope_is_told_in_words() -> None:
    assert str(Scope()) == "all traffic"
    assert str(Scope(model_version="3", stage="canary", segment="site=north")) == "version 3, canary, site=north"
