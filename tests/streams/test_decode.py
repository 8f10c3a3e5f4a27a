"""Bytes to events or to a reason: every reason in several shapes, and the laws that hold for any bytes at all."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.events import Change, Label, Prediction
from streams.core.decode import Decoder
from streams.core.decoded import Decoded
from streams.core.request_keys import request_keys
from streams.core.rfc3339 import parse_rfc3339
from streams.core.stage import Record

NOW = 1_735_689_600.0
KINDS = (Prediction, Label, Change)

PREDICTION: dict[str, Any] = {
    "request_id": "r-1",
    "model_id": "m",
    "model_version": "1",
    "timestamp": NOW,
    "score": 0.5,
    "features": {"age": 41.0, "sex": "f", "insured": True, "weight": None},
    "segments": {"site": "north"},
}
LABEL: dict[str, Any] = {"request_id": "r-1", "label": True, "timestamp": NOW}


def record(value: bytes | str | None, offset: int = 0, at: float = NOW) -> Record:
    return Record(offset, None, value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value, at)


def decode(kind: Any, records: Any, *, max_bytes: int = 1_048_576, max_future_s: float = 300.0) -> Decoded[Any]:
    return Decoder(kind, max_bytes).decode(records, max_future_s)


def taken(result: Decoded[Any]) -> list[int]:
    """Offsets of the events' records."""
    return [result.record(at).offset for at in range(len(result))]


def reason_of(kind: Any, value: bytes | str | None, **limits: Any) -> str | None:
    """The reason of the fault, None if the event is taken."""
    result = decode(kind, [record(value)], **limits)
    assert len(result) + len(result.faults) == 1
    return result.faults[0].reason if result.faults else None


def prediction(**changes: Any) -> str:
    return json.dumps({**PREDICTION, **changes})


def raw_prediction(**texts: str) -> str:
    """A prediction with some values given as JSON text, as no JSON library would write them."""
    members = {name: json.dumps(value) for name, value in PREDICTION.items()} | texts
    return "{" + ",".join(f'"{name}":{text}' for name, text in members.items()) + "}"


def label(**changes: Any) -> str:
    return json.dumps({**LABEL, **changes})


def without(event: dict[str, Any], field: str) -> str:
    return json.dumps({name: value for name, value in event.items() if name != field})


REJECTED = [
    ("tombstone", Prediction, None),
    ("tombstone", Label, None),
    ("invalid_utf8", Prediction, b"\xff\xfe"),
    (
        "invalid_utf8",
        Prediction,
        prediction(model_id="m\N{LATIN SMALL LETTER E WITH ACUTE}").encode().replace(b"\\u00e9", b"\xe9"),
    ),
    ("invalid_utf8", Label, b'{"request_id":"\xc3\x28","label":1,"timestamp":1}'),
    ("invalid_utf8", Label, b'{"request_id":"\xed\xa0\x80","label":1,"timestamp":1}'),
    ("malformed_json", Prediction, b""),
    ("malformed_json", Prediction, b"   "),
    ("malformed_json", Prediction, "{"),
    ("malformed_json", Prediction, prediction()[:-1]),
    ("malformed_json", Prediction, prediction() + "}"),
    ("malformed_json", Prediction, prediction() + prediction()),
    ("malformed_json", Prediction, prediction().replace('"', "'")),
    ("malformed_json", Prediction, "\ufeff" + prediction()),
    ("malformed_json", Prediction, raw_prediction(score="0.5,")),
    ("malformed_json", Prediction, raw_prediction(score="+0.5")),
    ("malformed_json", Prediction, raw_prediction(score=".5")),
    ("malformed_json", Prediction, raw_prediction(score="00.5")),
    ("malformed_json", Prediction, raw_prediction(score="0x10")),
    ("malformed_json", Prediction, raw_prediction(request_id='"tab\there"')),
    ("malformed_json", Label, "undefined"),
    ("malformed_json", Label, prediction().encode("utf-16-le")),
    ("not_an_object", Prediction, "[]"),
    ("not_an_object", Prediction, "[" + prediction() + "]"),
    ("not_an_object", Prediction, "null"),
    ("not_an_object", Prediction, "1"),
    ("not_an_object", Prediction, "1.5"),
    ("not_an_object", Prediction, '"text"'),
    ("not_an_object", Label, "true"),
    ("too_deep", Prediction, "[" * 100_000),
    ("too_deep", Prediction, raw_prediction(features="[" * 100_000 + "]" * 100_000)),
    ("too_deep", Prediction, raw_prediction(unknown='{"a":' * 100_000 + "1" + "}" * 100_000)),
    ("duplicate_key", Prediction, prediction()[:-1] + ',"score":0.9}'),
    ("duplicate_key", Prediction, prediction()[:-1] + ', "score" : 0.9}'),
    ("duplicate_key", Prediction, prediction()[:-1] + ',"sc\\u006fre"\n:\t0.9}'),
    ("duplicate_key", Prediction, raw_prediction(features='{"age":1,"age":2}')),
    ("duplicate_key", Prediction, raw_prediction(features='{"a":1,"\\u0061" :2}')),
    ("duplicate_key", Prediction, raw_prediction(segments='{"site":"north","site":"south"}')),
    ("duplicate_key", Prediction, raw_prediction(unknown='[{"x":1,"x":1}]')),
    ("duplicate_key", Prediction, raw_prediction(latency_ms="null")[:-1] + ',"latency_ms":1}'),
    ("duplicate_key", Prediction, raw_prediction(probes='{"l":{"mean":1,"mean":2}}')),
    ("duplicate_key", Label, '{"request_id":"a","label":1,"label":0,"timestamp":1735689600}'),
    (
        "duplicate_key",
        Label,
        '{"request_id":"a","label":1,"timestamp":"2025-01-01T00\\u003a00\\u003a00Z","label":0,"label":0}',
    ),
    ("duplicate_key", Prediction, raw_prediction(timestamp='"2025-01-01T00\\u003a00:00Z"')[:-1] + ',"score":0.9}'),
    (
        "duplicate_key",
        Prediction,
        raw_prediction(timestamp='"2025-01-01T00\\u003A00\\u003A00+00\\u003A00"', features='{"a":1,"a":2,"a":3,"a":4}'),
    ),
    ("lone_surrogate", Prediction, raw_prediction(request_id='"\\ud800"')),
    ("lone_surrogate", Prediction, raw_prediction(features='{"a":"\\udc00"}')),
    ("lone_surrogate", Prediction, raw_prediction(features='{"\\ud800x":1}')),
    ("lone_surrogate", Prediction, raw_prediction(unknown='"\\ud800\\ud800"')),
    ("lone_surrogate", Label, '{"request_id":"a","label":"\\udfff","timestamp":1}'),
    ("not_finite", Prediction, raw_prediction(score="NaN")),
    ("not_finite", Prediction, raw_prediction(score="Infinity")),
    ("not_finite", Prediction, raw_prediction(score="-Infinity")),
    ("not_finite", Prediction, raw_prediction(score="1e400")),
    ("not_finite", Prediction, raw_prediction(score="-1e400")),
    ("not_finite", Prediction, raw_prediction(features='{"a":1e999}')),
    ("not_finite", Prediction, raw_prediction(features='{"a":NaN}')),
    ("not_finite", Prediction, raw_prediction(timestamp="1e400")),
    ("not_finite", Prediction, raw_prediction(unknown="1e400")),
    ("not_finite", Prediction, raw_prediction(embedding="[1.0,NaN]")),
    ("not_finite", Label, '{"request_id":"a","label":NaN,"timestamp":1}'),
    ("integer_too_large", Prediction, raw_prediction(score="1" + "0" * 400)),
    ("integer_too_large", Prediction, raw_prediction(score="9" * 5000)),
    ("integer_too_large", Prediction, raw_prediction(features='{"a":' + "9" * 400 + "}")),
    ("integer_too_large", Prediction, raw_prediction(unknown="18446744073709551616")),
    ("missing_field", Prediction, "{}"),
    ("missing_field", Prediction, without(PREDICTION, "request_id")),
    ("missing_field", Prediction, without(PREDICTION, "model_id")),
    ("missing_field", Prediction, without(PREDICTION, "model_version")),
    ("missing_field", Prediction, without(PREDICTION, "timestamp")),
    ("missing_field", Prediction, without(PREDICTION, "score")),
    ("missing_field", Label, without(LABEL, "label")),
    ("missing_field", Label, without(LABEL, "request_id")),
    ("wrong_type", Prediction, prediction(request_id=None)),
    ("wrong_type", Prediction, prediction(request_id=17)),
    ("wrong_type", Prediction, prediction(request_id="x" * 513)),
    ("wrong_type", Prediction, prediction(model_id="x" * 201)),
    ("wrong_type", Prediction, prediction(model_version=["1"])),
    ("wrong_type", Prediction, prediction(score="0.5")),
    ("wrong_type", Prediction, prediction(score=None)),
    ("wrong_type", Prediction, prediction(score=True)),
    ("wrong_type", Prediction, prediction(score={"a": "much"})),
    ("wrong_type", Prediction, prediction(features=[1, 2])),
    ("wrong_type", Prediction, prediction(features={"a": [1]})),
    ("wrong_type", Prediction, prediction(features={"a": {"b": 1}})),
    ("wrong_type", Prediction, prediction(segments={"site": 1})),
    ("wrong_type", Prediction, prediction(stage="test")),
    ("wrong_type", Prediction, prediction(latency_ms="12")),
    ("wrong_type", Prediction, prediction(timestamp=None)),
    ("wrong_type", Prediction, prediction(timestamp=[NOW])),
    ("wrong_type", Prediction, prediction(timestamp=True)),
    ("wrong_type", Label, label(label=None)),
    ("wrong_type", Label, label(label=[1])),
    ("wrong_type", Label, label(values={"revenue": "12"})),
    ("empty_id", Prediction, prediction(request_id="")),
    ("empty_id", Prediction, prediction(model_id="")),
    ("empty_id", Prediction, prediction(model_version="")),
    ("empty_id", Label, label(request_id="")),
    ("timestamp_unreadable", Prediction, prediction(timestamp="")),
    ("timestamp_unreadable", Prediction, prediction(timestamp="yesterday")),
    ("timestamp_unreadable", Prediction, prediction(timestamp="2025-01-01T00:00:00")),
    ("timestamp_unreadable", Prediction, prediction(timestamp="2025-01-01")),
    ("timestamp_unreadable", Prediction, prediction(timestamp="2025-13-01T00:00:00Z")),
    ("timestamp_unreadable", Prediction, prediction(timestamp="2025-02-30T00:00:00Z")),
    ("timestamp_unreadable", Prediction, prediction(timestamp="2025-01-01T25:00:00Z")),
    ("timestamp_unreadable", Prediction, prediction(timestamp="1735689600")),
    ("timestamp_unreadable", Prediction, prediction(timestamp="２０２５-01-01T00:00:00Z")),
    ("timestamp_in_milliseconds", Prediction, prediction(timestamp=NOW * 1e3)),
    ("timestamp_in_milliseconds", Label, label(timestamp=int(NOW * 1e3))),
    ("timestamp_in_microseconds", Prediction, prediction(timestamp=NOW * 1e6)),
    ("timestamp_in_nanoseconds", Prediction, prediction(timestamp=int(NOW * 1e9))),
    ("timestamp_in_nanoseconds", Label, label(timestamp=NOW * 1e9)),
    ("timestamp_in_future", Prediction, prediction(timestamp=NOW + 301)),
    ("timestamp_in_future", Prediction, prediction(timestamp="2026-01-01T00:00:00Z")),
    ("timestamp_in_future", Label, label(timestamp=NOW + 1e8)),
    ("timestamp_negative", Prediction, prediction(timestamp=-1)),
    ("timestamp_negative", Label, label(timestamp="1969-12-31T23:59:59Z")),
]


@pytest.mark.parametrize(("reason", "kind", "value"), REJECTED)
def test_bad_input_becomes_a_reason(reason: str, kind: Any, value: bytes | str | None) -> None:
    assert reason_of(kind, value) == reason


def test_every_documented_reason_of_decoding_has_an_example() -> None:
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
    table = text.split("## What is rejected")[1].split("## From Python")[0]
    documented = {
        name
        for row in table.splitlines()
        if row.startswith("| `")
        for name in row.split("|")[1].replace("`", "").replace(" ", "").split(",")
    }
    shown = {reason for reason, _, _ in REJECTED} | {"oversized"}
    assert documented - shown <= {"duplicate", "label_unusable"}
    assert shown <= documented


@pytest.mark.parametrize("size", [0, 1, 100])
def test_a_message_past_the_limit_is_oversized_and_one_at_the_limit_is_not(size: int) -> None:
    text = prediction(entity_id="x" * size)
    assert reason_of(Prediction, text, max_bytes=len(text)) is None
    assert reason_of(Prediction, text, max_bytes=len(text) - 1) == "oversized"


TAKEN = [
    (Prediction, prediction()),
    (Prediction, f"  {prediction()}\n"),
    (Prediction, prediction(prediction=None, features=None, segments=None, stage=None, runtime=None)),
    (Prediction, prediction(unknown={"deep": [{"a": 1}, {"a": 2}]}, other=None)),
    (Prediction, prediction(score={"a": 0.25, "b": 0.75})),
    (Prediction, prediction(score=0)),
    (Prediction, prediction(score=1e300)),
    (Prediction, prediction(score=-9223372036854775807)),
    (Prediction, prediction(entity_id="a:b::c", prediction=":")),
    (Prediction, prediction(features={"a:b": "c:d", "é": "😀", "": ""})),
    (Prediction, raw_prediction(request_id='"\\ud83d\\ude00"')),
    (Prediction, raw_prediction(features='{"a":1,"A":2,"\\u0041a":3}')),
    (Prediction, prediction(timestamp="2025-01-01T00:00:00Z")),
    (Prediction, raw_prediction(timestamp='"2025-01-01T00\\u003a00:00Z"')),
    (Prediction, prediction(timestamp="2025-01-01T01:00:00.250+01:00")),
    (Prediction, prediction(timestamp="2024-12-31t23:00:00z")),
    (Prediction, prediction(timestamp=NOW + 300)),
    (Prediction, prediction(timestamp=0)),
    (
        Prediction,
        prediction(embedding=[0.1, 0.2], probes={"l1": {"mean": 0.1, "has_nan": True}}, resources={"cpu_s": 1}),
    ),
    (
        Prediction,
        prediction(
            stage="canary", runtime={"python": "3.12"}, pipeline_fingerprint="f:1", latency_ms=3, confidence=0.5
        ),
    ),
    (Label, label()),
    (Label, label(label="readmitted: yes", values={"revenue_eur": 12.5, "cost": 0}, definition_version="v:2")),
    (Label, label(label=3)),
    (Change, json.dumps({"model_id": "m", "kind": "deploy", "timestamp": NOW, "version": "2"})),
]


@pytest.mark.parametrize(("kind", "value"), TAKEN)
def test_a_valid_event_is_taken_however_it_is_written(kind: Any, value: str) -> None:
    assert reason_of(kind, value) is None


def test_events_records_times_and_faults_keep_their_order_and_go_together() -> None:
    records = [
        record(prediction(request_id="a", timestamp=NOW - 1), 5),
        record("nonsense", 6),
        record(prediction(request_id="b", timestamp="2024-12-31T23:59:58Z"), 7),
        record(None, 8),
    ]
    result = decode(Prediction, records)
    assert [result.event(at).request_id for at in range(2)] == ["a", "b"]
    assert result.keys == request_keys(["a", "b"])
    assert taken(result) == [result.offset(at) for at in range(2)] == [5, 7]
    assert result.times.tolist() == [NOW - 1, NOW - 2]
    assert [(fault.record.offset, fault.reason) for fault in result.faults] == [(6, "malformed_json"), (8, "tombstone")]


def test_a_detail_is_bounded_whatever_was_sent() -> None:
    long = "x" * 100_000
    for value in (prediction(timestamp=long), f'{{"{long}":1,"{long}":2}}', long, prediction(stage=long), "9" * 50_000):
        (fault,) = decode(Prediction, [record(value)]).faults
        assert len(fault.detail) <= 300


# -- laws ---------------------------------------------------------------------------------------------------------------

_garbage = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.text(alphabet='{}[]":,0123456789.eE+-\\untrlfas \n', max_size=120).map(str.encode),
)


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    """A valid event with some bytes changed, cut out or put in."""
    text = bytearray(
        draw(st.sampled_from([prediction(), label(), raw_prediction(timestamp='"2025-01-01T00:00:00Z"')])).encode()
    )
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(text) - 1))
        length = draw(st.integers(0, 3))
        text[at : at + length] = draw(
            st.one_of(st.binary(max_size=3), st.sampled_from([b'"', b":", b"{", b"\\ud800", b"1e999", b"null"]))
        )
        if not text:
            break
    return bytes(text)


@given(st.lists(st.one_of(st.none(), _garbage, _damaged()), max_size=8), st.sampled_from(KINDS))
def test_no_bytes_raise_and_every_record_ends_in_one_place(values: list[bytes | None], kind: Any) -> None:
    records = [record(value, offset) for offset, value in enumerate(values)]
    result = decode(kind, records)
    ends = taken(result) + [fault.record.offset for fault in result.faults]
    assert sorted(ends) == list(range(len(values)))
    assert all(math.isfinite(when) and 0 <= when <= NOW + 300 for when in result.times)


_names = st.one_of(st.sampled_from(["a", "age", "score", "b:c", "é", ""]), st.text(max_size=4))
_scalars = st.one_of(st.none(), st.booleans(), st.floats(-1e6, 1e6), st.integers(-(2**62), 2**62), st.text(max_size=6))


def _escaped(draw: st.DrawFn, text: str) -> str:
    """A JSON string in which any character may be written as an escape."""
    written = ""
    for character in text:
        plain = json.dumps(character, ensure_ascii=draw(st.booleans()))[1:-1]
        unit = character.encode("utf-16-be")
        escape = "".join(f"\\u{unit[at]:02x}{unit[at + 1]:02X}" for at in range(0, len(unit), 2))
        written += escape if draw(st.booleans()) else plain
    return f'"{written}"'


def _object(draw: st.DrawFn, members: list[tuple[str, str]]) -> str:
    space = st.sampled_from(["", " ", "\n", "\t ", "\r\n"])
    inner = ",".join(
        f"{draw(space)}{_escaped(draw, name)}{draw(space)}:{draw(space)}{text}{draw(space)}" for name, text in members
    )
    return "{" + inner + "}"


@st.composite
def _written(draw: st.DrawFn) -> tuple[str, bool]:
    """A prediction in any formatting, and whether one key of one object stands twice."""
    place = draw(st.sampled_from(["none", "top", "features", "segments", "unknown", "probe", "score", "runtime"]))

    def members(values: dict[str, Any], name: str) -> str:
        pairs = [
            (key, _escaped(draw, value) if isinstance(value, str) else json.dumps(value))
            for key, value in values.items()
        ]
        if place == name:
            at = draw(st.integers(0, len(pairs) - 1))
            pairs += [(pairs[at][0], draw(st.sampled_from([pairs[at][1], "null"])))] * draw(st.integers(1, 4))
            pairs = draw(st.permutations(pairs))
        return _object(draw, pairs)

    features = draw(st.dictionaries(_names, _scalars, min_size=1, max_size=4))
    stamp = draw(
        st.sampled_from(['"2025-01-01T00:00:00Z"', _escaped(draw, "2025-01-01T01:00:00.5+01:00"), "1735689600.0", "0"])
    )
    top = {
        "request_id": _escaped(draw, draw(st.text(min_size=1, max_size=5))),
        "model_id": '"m"',
        "model_version": '"1"',
        "timestamp": stamp,
        "score": members({"yes": 0.5, "no": 0.5}, "score") if place == "score" else "0.5",
        "features": members(features, "features"),
        "segments": members({"site": "north", "unit": draw(st.text(max_size=4))}, "segments"),
        "probes": '{"layer":' + members({"mean": 0.5, "std": 1.0}, "probe") + "}",
        "runtime": members({"python": "3.12"}, "runtime"),
        "unknown": "[" + members({"x": 1, "y:": ":"}, "unknown") + "]",
        "prediction": draw(st.sampled_from(["null", "1", '"a:b"', "true"])),
        "latency_ms": draw(st.sampled_from(["null", "12.5"])),
    }
    kept = draw(
        st.sets(st.sampled_from(["features", "segments", "probes", "runtime", "unknown", "prediction", "latency_ms"]))
    )
    needed = {"request_id", "model_id", "model_version", "timestamp", "score", {"probe": "probes"}.get(place, place)}
    pairs = [(name, text) for name, text in top.items() if name in kept or name in needed]
    if place == "top":
        at = draw(st.integers(0, len(pairs) - 1))
        pairs += [pairs[at]] * draw(st.integers(1, 3))
        pairs = draw(st.permutations(pairs))
    return _object(draw, pairs), place != "none"


@given(_written())
def test_a_key_that_stands_twice_is_never_accepted_whatever_the_formatting(case: tuple[str, bool]) -> None:
    text, twice = case
    reason = reason_of(Prediction, text.encode("utf-8", "surrogatepass"))
    if twice:
        assert reason in {"duplicate_key", "lone_surrogate", "wrong_type"}
    else:
        assert reason is None


@given(st.floats(0, 4e9), st.integers(-23, 23), st.integers(0, 59))
def test_a_time_with_an_offset_is_read_to_the_microsecond(seconds: float, hours: int, minutes: int) -> None:
    from datetime import UTC, datetime, timedelta, timezone

    moment = datetime.fromtimestamp(seconds, UTC)
    offset = timedelta(hours=hours, minutes=minutes if hours >= 0 else -minutes)
    text = moment.astimezone(timezone(offset)).isoformat()
    if moment.year < 9999:
        assert parse_rfc3339(text) == pytest.approx(seconds, abs=1e-6)


def test_a_stamp_is_held_against_the_clock_of_its_own_record() -> None:
    result = decode(
        Prediction, [record(prediction(timestamp=NOW), 0, NOW - 1000), record(prediction(timestamp=NOW), 1, NOW)]
    )
    assert [fault.reason for fault in result.faults] == ["timestamp_in_future"]
    assert taken(result) == [1]
