"""The snapshot envelope: what goes in comes out, and damage is always named."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.base import CorruptState, ForeignState, State, fingerprint

FIELDS = {
    "flag": True,
    "count": -(2**62),
    "number": 0.1,
    "name": "Größe",
    "raw": b"\x00\xff",
    "table": np.arange(6, dtype=np.int64).reshape(2, 3),
    "empty": np.zeros((0, 4), dtype=np.float64),
}
SAMPLE = State("sample", 3, fingerprint("sample", {"a": 1}), FIELDS)


def test_what_goes_in_comes_out() -> None:
    again = State.from_bytes(SAMPLE.to_bytes())
    assert (again.kind, again.version, again.fingerprint) == ("sample", 3, SAMPLE.fingerprint)
    assert again.flag("flag") is True
    assert again.integer("count") == -(2**62)
    assert again.number("number") == 0.1
    assert again.fields["name"] == "Größe"
    assert again.raw("raw") == b"\x00\xff"
    np.testing.assert_array_equal(again.array("table", np.int64, (2, 3)), FIELDS["table"])
    assert again.array("empty", np.float64, (0, 4)).shape == (0, 4)
    assert again.to_bytes() == SAMPLE.to_bytes()


def test_every_flipped_bit_and_every_cut_is_a_corrupt_state() -> None:
    raw = SAMPLE.to_bytes()
    for at in range(len(raw)):
        for bit in range(8):
            bad = bytearray(raw)
            bad[at] ^= 1 << bit
            with pytest.raises(CorruptState):
                State.from_bytes(bytes(bad))
        with pytest.raises(CorruptState):
            State.from_bytes(raw[:at])
    with pytest.raises(CorruptState):
        State.from_bytes(raw + b"\0")


@given(st.binary(max_size=200))
def test_a_sound_checksum_over_nonsense_is_still_a_corrupt_state(payload: bytes) -> None:
    head = SAMPLE.to_bytes()
    body = head[:8] + len(payload).to_bytes(4, "little") + head[12:28] + b"sample" + payload
    raw = body + zlib.crc32(body).to_bytes(4, "little")
    try:
        State.from_bytes(raw)
    except CorruptState:
        return


def test_a_field_of_another_type_or_shape_is_a_corrupt_state() -> None:
    with pytest.raises(CorruptState):
        SAMPLE.integer("flag")
    with pytest.raises(CorruptState):
        SAMPLE.number("count")
    with pytest.raises(CorruptState):
        SAMPLE.array("table", np.int64, (3, 2))
    with pytest.raises(CorruptState):
        SAMPLE.array("table", np.float64, (2, 3))
    with pytest.raises(CorruptState):
        SAMPLE.raw("missing")


def test_a_snapshot_of_something_else_is_foreign() -> None:
    SAMPLE.require("sample", 3, SAMPLE.fingerprint)
    for kind, version, mark in [
        ("other", 3, SAMPLE.fingerprint),
        ("sample", 4, SAMPLE.fingerprint),
        ("sample", 3, fingerprint("sample", {"a": 2})),
    ]:
        with pytest.raises(ForeignState):
            SAMPLE.require(kind, version, mark)


def test_a_fingerprint_sees_every_parameter_and_its_type() -> None:
    marks = {fingerprint("k", {"a": value}) for value in (1, 1.0, True, "1", b"1", np.array([1]), np.array([1.0]))}
    assert len(marks) == 7
    assert fingerprint("k", {"a": 1, "b": 2}) == fingerprint("k", {"b": 2, "a": 1})
    assert fingerprint("k", {"a": 1}) != fingerprint("j", {"a": 1})
