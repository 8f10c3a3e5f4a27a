"""Events of one shape are read faster, and never otherwise: what a batch says is what its records say one by one."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.events import Label, Prediction
from streams.core import decode as module
from streams.core.decode import Decoder
from streams.core.decoded import Decoded
from streams.core.shapes import LONGEST_PAUSE, Shapes
from streams.core.stage import Record
from streams.core.table import Table

NOW = 1_735_689_600.0
BASE: dict[str, Any] = {
    "request_id": "svc:1",
    "model_id": "m",
    "model_version": "v:2",
    "timestamp": NOW,
    "score": 0.25,
    "prediction": 1,
    "features": {"age": 41.5, "a:b": 3, "sex": "f", "insured": True, "weight": None},
    "segments": {"site": "north", "unit": "1:2"},
    "latency_ms": 12.5,
    "trace": "00:ab",
    "note": None,
}


def records(values: list[bytes | None]) -> list[Record]:
    return [Record(offset, None, value, NOW) for offset, value in enumerate(values)]


def bodies(n: int, **changes: Any) -> list[bytes]:
    return [json.dumps({**BASE, "request_id": f"svc:{at}", **changes}).encode() for at in range(n)]


def said(result: Decoded[Any]) -> list[Any]:
    """All that a batch says, event by event."""
    told = [
        (
            result.record(at).offset,
            result.event(at),
            result.times[at],
            result.keys[at],
            result.whose.values[result.who[at]] if len(result.who) else None,
            [plain(result.column(name)[at]) for name in result.kind.__struct_fields__ if name not in module.APART],
        )
        for at in range(len(result))
    ]
    return [told, [(fault.record.offset, fault.reason) for fault in result.faults]]


def plain(value: Any) -> Any:
    return float(value) if isinstance(value, np.floating) else value


def one_by_one(kind: Any, values: list[bytes | None]) -> list[Any]:
    """The same by a decoder that has seen no other record."""
    told: list[Any] = [[], []]
    for record in records(values):
        decoder = Decoder(kind)
        decoder._shapes._left = 10**9  # asks the general decoder alone
        for list_of, found in zip(told, said(decoder.decode([record])), strict=True):
            list_of += found
    return told


def test_a_batch_of_one_shape_is_read_by_it_and_says_the_same() -> None:
    values = bodies(1200)
    decoder: Decoder[Prediction] = Decoder(Prediction)
    result = decoder.decode(records(list(values)))
    assert isinstance(result.column("features"), Table)
    assert isinstance(result.column("score"), np.ndarray)
    assert said(result) == one_by_one(Prediction, list(values))


_text = st.one_of(st.sampled_from(["a", "b:c", "é", '"', "\\", "\\u003a", ""]), st.text(max_size=4))
_scalar = st.one_of(st.none(), st.booleans(), st.floats(-1e9, 1e9), st.integers(-(2**70), 2**70), _text)
_change = st.one_of(
    st.tuples(st.sampled_from(sorted(BASE)), _scalar),
    st.tuples(st.sampled_from(["features", "segments"]), st.dictionaries(_text, _scalar, max_size=3)),
    st.tuples(st.just("score"), st.dictionaries(_text, st.floats(0, 1), max_size=3)),
    st.tuples(
        st.sampled_from(["resources", "context", "runtime", "extra"]), st.dictionaries(_text, _scalar, max_size=2)
    ),
    st.tuples(st.just("embedding"), st.lists(st.floats(-1, 1), max_size=3)),
    st.tuples(
        st.just("timestamp"), st.sampled_from(["2024-12-31T23:59:59Z", "2024-12-31T23:59:59+01:00", NOW + 1e6, -1])
    ),
)


@st.composite
def _batches(draw: st.DrawFn) -> list[bytes | None]:
    """Events of one random shape, a few of them changed, damaged, or with a key twice."""
    base = BASE | dict(draw(st.lists(_change, max_size=3)))
    for name in draw(st.lists(st.sampled_from(sorted(BASE)), max_size=2)):
        base.pop(name, None)
    ascii_only = draw(st.booleans())
    values: list[bytes | None] = []
    for at in range(draw(st.integers(1, 8))):
        event = {**base, **({"request_id": f"r{at}"} if "request_id" in base else {})}
        if draw(st.integers(0, 9)) == 0:
            name, value = draw(_change)
            event[name] = value
        text = json.dumps(event, ensure_ascii=ascii_only)
        if draw(st.integers(0, 9)) == 0 and "," in text:
            repeated = draw(
                st.sampled_from(['"score":0.5', '"age":1', '"unheard":2', '"model\\u005fid":"m"', '"x:y":"z:"'])
            )
            text = text[:-1] + "," + repeated + "}"
        values.append(text.encode("utf-8", "surrogatepass"))
    return values


@settings(max_examples=400, deadline=None)
@given(_batches(), st.sampled_from([1, 2, 512]))
def test_whatever_the_shape_a_batch_says_what_its_records_say_one_by_one(
    values: list[bytes | None], chunk: int
) -> None:
    before = module.CHUNK
    module.CHUNK = chunk
    try:
        decoder: Decoder[Prediction] = Decoder(Prediction)
        first, again = said(decoder.decode(records(values))), said(decoder.decode(records(values)))
    finally:
        module.CHUNK = before
    assert first == again == one_by_one(Prediction, values)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"request_id": _text, "label": _scalar, "timestamp": st.sampled_from([NOW, NOW + 0.5])},
            optional={"values": st.dictionaries(_text, st.floats(-1e3, 1e3), max_size=2), "definition_version": _text},
        ),
        min_size=1,
        max_size=6,
    )
)
def test_labels_of_any_shape_say_what_they_say_one_by_one(events: list[dict[str, Any]]) -> None:
    values: list[bytes | None] = [json.dumps(event).encode() for event in events]
    assert said(Decoder(Label).decode(records(values))) == one_by_one(Label, values)


def test_a_key_that_stands_twice_is_found_among_events_of_one_shape() -> None:
    values = bodies(600)
    values[300] = values[300][:-1] + b',"score":0.5}'
    result = Decoder(Prediction).decode(records(list(values)))
    assert [(fault.record.offset, fault.reason) for fault in result.faults] == [(300, "duplicate_key")]
    assert len(result) == 599


def test_an_escaped_colon_cannot_hide_a_key_that_stands_twice() -> None:
    # One colon less in the text (an escape), one more by the key: the sum would be right.
    value = json.dumps({**BASE, "model_version": "v"}).replace('"v"', '"v\\u003a2"')
    value = value[:-1] + ',"score":0.5}'
    result = Decoder(Prediction).decode(records([*bodies(3), value.encode()]))
    assert [fault.reason for fault in result.faults] == ["duplicate_key"]


@pytest.mark.parametrize("number", ["18446744073709551616", "-9223372036854775809"])
def test_an_integer_beyond_64_bits_in_an_unknown_field_is_found_whatever_the_others_hold(number: str) -> None:
    values = bodies(5, trace=1.5)
    values[2] = values[2].replace(b'"trace": 1.5', f'"trace": {number}'.encode())
    result = Decoder(Prediction).decode(records(list(values)))
    assert [(fault.record.offset, fault.reason) for fault in result.faults] == [(2, "integer_too_large")]


def test_shapes_that_alternate_are_tried_ever_more_rarely() -> None:
    one, other = bodies(1)[0], json.dumps({**BASE, "stage": "live"}).encode()
    shapes = Shapes(Prediction)
    tried = [shapes.decode([one, other]) is None and shapes._left for _ in range(3 * LONGEST_PAUSE)]
    assert all(count is not False for count in tried)
    assert max(count for count in tried if count is not False) == LONGEST_PAUSE
    shapes._left = 0
    assert shapes.decode([one, one]) is not None
