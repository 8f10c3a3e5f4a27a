"""The laws that every registered detector keeps. Entries are found in the registry: a new kind is tried by being
there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from detectors.base import (
    BadValues,
    CorruptState,
    Detector,
    Entry,
    ForeignState,
    State,
    UnknownKind,
    Verdict,
    config_of,
    registry,
)
from detectors.sequential import SequentialDetector
from tests.detectors.data import DATA_SETS, step

ENTRIES = registry()
CUTS = (0, 1, 2, 31, 64, 100, 333, 999, 1_000, 1_001, 1_500, 1_999)

pytestmark = pytest.mark.parametrize("kind", sorted(ENTRIES))


def batches(values: npt.NDArray[np.float64], size: int = 37) -> Iterator[npt.NDArray[np.float64]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def feed(detector: Detector, entry: Entry, values: npt.NDArray[np.float64], size: int = 37) -> list[Verdict | None]:
    return [detector.update(entry.adapt(batch)) for batch in batches(values, size)]


def through_bytes(detector: Detector, entry: Entry) -> Detector:
    return type_of(entry).build(State.from_bytes(detector.snapshot().to_bytes()))


def type_of(entry: Entry) -> Any:
    return entry.example()


def same(a: list[Verdict | None], b: list[Verdict | None]) -> bool:
    return repr(a) == repr(b)  # repr of a float is exact, and NaN equals NaN in it


def wide(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A stream that forces detections: its second half jumps to the other end."""
    return np.where(np.arange(values.size) < values.size // 2, 0.1, 0.95) + 0.01 * (values - 0.5)


def bad_inputs(entry: Entry) -> Iterator[Any]:
    good = entry.adapt(step(50))
    for poison in (np.nan, np.inf, -np.inf):
        if isinstance(good, np.ndarray) and good.dtype.kind == "f":
            bad = good.copy()
            bad.flat[bad.size // 2] = poison
            yield bad
        elif isinstance(good, tuple):
            for at, part in enumerate(good):
                if isinstance(part, np.ndarray) and part.dtype.kind == "f":
                    bad = part.copy()
                    bad.flat[bad.size // 2] = poison
                    yield (*good[:at], bad, *good[at + 1 :])
    yield from ("0.5", ["a", "b"], None, [None, 0.5], [[[0.5]]], object(), {"x": 1})


@pytest.mark.parametrize("name", DATA_SETS)
def test_the_same_input_gives_the_same_verdicts(kind: str, name: str) -> None:
    entry, values = ENTRIES[kind], DATA_SETS[name]()
    one, two = entry.example().build(), entry.example().build()
    assert same(feed(one, entry, values), feed(two, entry, values))
    assert one.snapshot().to_bytes() == two.snapshot().to_bytes()


@pytest.mark.parametrize("name", ["heavy_tail", "step", "all_ties"])
def test_restored_at_any_prefix_the_future_is_the_same(kind: str, name: str) -> None:
    entry = ENTRIES[kind]
    for values in (DATA_SETS[name](), wide(DATA_SETS[name]())):
        for cut in CUTS:
            whole = entry.example().build()
            feed(whole, entry, values[:cut])
            again = through_bytes(whole, entry)
            assert same(feed(whole, entry, values[cut:]), feed(again, entry, values[cut:]))
            assert whole.snapshot().to_bytes() == again.snapshot().to_bytes()


def test_restored_right_after_a_detection_the_future_is_the_same(kind: str) -> None:
    entry, values = ENTRIES[kind], wide(step())
    whole, restored = entry.example().build(), []
    for at in range(len(values)):
        batch = entry.adapt(values[at : at + 1])
        verdict = whole.update(batch)
        assert all(same([verdict], [one.update(batch)]) for one in restored)
        if verdict is not None and verdict.fires and len(restored) < 3:
            restored.append(through_bytes(whole, entry))
    assert restored or not isinstance(whole, SequentialDetector)
    assert {one.snapshot().to_bytes() for one in restored} <= {whole.snapshot().to_bytes()}


def test_bad_input_leaves_the_state_byte_identical(kind: str) -> None:
    entry = ENTRIES[kind]
    detector = entry.example().build()
    feed(detector, entry, step())
    before = detector.snapshot().to_bytes()
    for bad in bad_inputs(entry):
        with pytest.raises(BadValues):
            detector.update(bad)
        assert detector.snapshot().to_bytes() == before


def test_a_snapshot_is_a_copy_that_later_input_does_not_touch(kind: str) -> None:
    entry = ENTRIES[kind]
    detector = entry.example().build()
    feed(detector, entry, step(500))
    state = detector.snapshot()
    before = state.to_bytes()
    feed(detector, entry, step(500, seed=9))
    assert state.to_bytes() == before
    feed(entry.example().build(state), entry, step(500, seed=9))
    assert state.to_bytes() == before


def test_memory_is_bounded(kind: str) -> None:
    entry = ENTRIES[kind]
    detector, sizes = entry.example().build(), []
    for seed in range(6):
        for name in DATA_SETS:
            feed(detector, entry, DATA_SETS[name](5_000, seed=seed), 5_000)
            sizes.append(len(detector.snapshot().to_bytes()))
    assert max(sizes) < 64 * 1024
    assert max(sizes) <= 2 * max(sizes[: len(DATA_SETS)])


def test_corrupt_bytes_give_a_typed_error(kind: str) -> None:
    entry = ENTRIES[kind]
    detector = entry.example().build()
    feed(detector, entry, step())
    raw = detector.snapshot().to_bytes()
    rng = np.random.default_rng(1)
    for at in rng.integers(0, len(raw), 200).tolist():
        bad = bytearray(raw)
        bad[at] ^= int(rng.integers(1, 256))
        with pytest.raises(CorruptState):
            State.from_bytes(bytes(bad))
        with pytest.raises(CorruptState):
            State.from_bytes(raw[:at])


def test_a_sound_envelope_with_a_field_missing_or_changed_gives_a_typed_error(kind: str) -> None:
    entry = ENTRIES[kind]
    detector = entry.example().build()
    feed(detector, entry, step(300))
    state = detector.snapshot()
    for name in state.fields:
        lacking = {key: value for key, value in state.fields.items() if key != name}
        with pytest.raises(CorruptState):
            entry.example().build(State(state.kind, state.version, state.fingerprint, lacking))
        other = {**state.fields, name: "another type"}
        with pytest.raises(CorruptState):
            entry.example().build(State(state.kind, state.version, state.fingerprint, other))


def test_a_snapshot_of_another_kind_version_or_configuration_is_refused(kind: str) -> None:
    entry = ENTRIES[kind]
    state = entry.example().build().snapshot()
    assert state.kind == kind
    for other in (
        State("another", state.version, state.fingerprint, state.fields),
        State(state.kind, state.version + 1, state.fingerprint, state.fields),
        State(state.kind, state.version, bytes(16), state.fields),
    ):
        with pytest.raises(ForeignState):
            entry.example().build(other)


def test_the_kind_finds_its_configuration(kind: str) -> None:
    assert config_of(kind) is ENTRIES[kind].config
    with pytest.raises(UnknownKind):
        config_of(kind + "-unheard-of")
