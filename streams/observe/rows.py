"""One request as one small row: what is kept between a prediction and its label.

A pending row is 20 bytes and one byte a feature: its bin, enough to ask later which features go with wrong predictions. A joined row
has behind that what a corrected label takes back: the business values, the bin of the delay, the pane in which the pair was complete,
the label. A label that came first waits as a row of its own.

    0 kind, flags and form | 1 combination (3 bytes) | 4 time (7 bytes, microseconds) | 11 score | 19 predicted class
    20 predicted value (form WIDE alone) | codes | class scores | joined: values and their number (where labels state some), tail

A pending row of 30 bytes, a joined one of 44 and a key of 14 fill 32, 48 and 16 with the bytes that Redis adds.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

PENDING, JOINED, EARLY = 1, 2, 3
LATE_SEEN, TOO_EARLY_SEEN, REVISED = 4, 8, 16
_KIND, _FLAGS, _FORM, _VALUED = 3, LATE_SEEN | TOO_EARLY_SEEN | REVISED, 96, 128
_CLASS, _SCORE, WIDE = 0, 32, 64
"""How `predicted` is kept: a class below 255 in one byte, as the score itself, or as a number of eight bytes."""
NO_CLASS = 255

COMBINATION, TIME, SCORE, PREDICTED = slice(1, 4), slice(4, 11), slice(11, 19), 19
HEADER_BYTES = 20
MOST_COMBINATIONS = 2**24
TICKS_PER_S = 1_000_000
PANE_BYTES = 5
TAIL = np.dtype([("age", "u1"), ("pane", "u1", (PANE_BYTES,)), ("label", "<f8")])
TAIL_BYTES = TAIL.itemsize
VALUE_BYTES = 8
NO_AGE = 255
MAX_WAITING_LABELS = 8
_LABEL = _WIDE = struct.Struct("<d")


class WaitingLabel(NamedTuple):
    """A label whose prediction has not come. Kept in order of arrival."""

    time: float
    label: float | str | bool
    values: dict[str, float] | None
    definition: str | None = None
    offset: int = -1
    """Where its message stands in the log."""


class Heads(NamedTuple):
    """What all rows have, as columns [n]. `flags` and `kind` as the constants above; `time` in epoch seconds."""

    kind: Bytes
    flags: Bytes
    combination: Indices
    time: Floats
    score: Floats
    predicted: Floats

    def at(self, places: Indices) -> Heads:
        """Those of some rows."""
        kind, flags, combination, time, score, predicted = self
        return Heads(kind[places], flags[places], combination[places], time[places], score[places], predicted[places])


def ticks(times: Floats) -> Indices:
    """Epoch seconds as whole microseconds: what event time is kept in."""
    return np.rint(times * TICKS_PER_S).astype(np.int64)


def whole_ticks(times: Floats) -> Floats:
    """The times that rows can hold."""
    return np.asarray(np.rint(times * TICKS_PER_S) / TICKS_PER_S)


def pack_predictions(
    times: Floats,
    scores: Floats,
    predicted: Floats,
    combinations: Indices,
    codes: Bytes,
    class_scores: npt.NDArray[np.float32] | None,
) -> list[bytes]:
    """Pending rows of n predictions; `codes` is [n, features], `class_scores` [n, classes] of a multiclass model."""
    n = len(times)
    form = _form_of(scores, predicted)
    wide = 8 if form == WIDE else 0
    shares = None if class_scores is None else class_scores.astype("<f4").view(np.uint8).reshape(n, -1)
    end = HEADER_BYTES + wide + codes.shape[1]
    packed = np.empty((n, end + (0 if shares is None else shares.shape[1])), dtype=np.uint8)
    packed[:, 0] = PENDING | form
    packed[:, COMBINATION] = _bytes_of(combinations.astype("<i8"))[:, :3]
    packed[:, TIME] = _bytes_of(ticks(times).astype("<i8"))[:, :7]
    packed[:, SCORE] = _bytes_of(scores.astype("<f8"))
    packed[:, PREDICTED] = NO_CLASS
    if form == _CLASS:
        packed[:, PREDICTED] = np.where(np.isfinite(predicted), predicted, NO_CLASS)
    elif form == WIDE:
        packed[:, HEADER_BYTES : HEADER_BYTES + 8] = _bytes_of(predicted.astype("<f8"))
    packed[:, HEADER_BYTES + wide : end] = codes
    if shares is not None:
        packed[:, end:] = shares
    return _cut(packed)


def _form_of(scores: Floats, predicted: Floats) -> int:
    """The shortest form that holds all of them."""
    classes = np.isnan(predicted) | ((predicted >= 0.0) & (predicted < NO_CLASS) & (predicted == np.floor(predicted)))
    if classes.all():
        return _CLASS
    return _SCORE if np.array_equal(scores, predicted, equal_nan=True) else WIDE


def _bytes_of(column: npt.NDArray[np.generic]) -> Bytes:
    return column.view(np.uint8).reshape(len(column), -1)


def _cut(packed: Bytes) -> list[bytes]:
    data, size = packed.tobytes(), packed.shape[1]
    return [data[at : at + size] for at in range(0, len(data), size)]


def heads(rows: Sequence[bytes]) -> Heads:
    """The heads of rows that are pending or joined."""
    n = len(rows)
    sizes = set(map(len, rows))
    size = sizes.pop() if len(sizes) == 1 else HEADER_BYTES
    data = b"".join(rows if not sizes else [row[:HEADER_BYTES] for row in rows])
    table = np.frombuffer(data, dtype=np.uint8).reshape(n, size)
    state = table[:, 0]
    score = _eight(table[:, SCORE]).view(np.float64)[:, 0]
    predicted = table[:, PREDICTED].astype(np.float64)
    predicted[table[:, PREDICTED] == NO_CLASS] = np.nan
    form = state & _FORM
    if form.any():
        predicted = np.where(form == _SCORE, score, predicted)
        for at in np.flatnonzero(form == WIDE).tolist():
            predicted[at] = _WIDE.unpack_from(rows[at], HEADER_BYTES)[0]
    return Heads(
        np.bitwise_and(state, _KIND, dtype=np.uint8),
        np.bitwise_and(state, _FLAGS, dtype=np.uint8),
        _eight(table[:, COMBINATION]).view(np.int64)[:, 0],
        _eight(table[:, TIME]).view(np.int64)[:, 0] / TICKS_PER_S,
        score,
        predicted,
    )


def _eight(columns: Bytes) -> Bytes:
    """[n, 8]: numbers as bytes, the least first, filled up with zeros."""
    whole = np.zeros((len(columns), 8), dtype=np.uint8)
    whole[:, : columns.shape[1]] = columns
    return whole


def kind_of(row: bytes) -> int:
    """PENDING, JOINED or EARLY."""
    return row[0] & _KIND


def has_flag(row: bytes, flag: int) -> bool:
    return bool(row[0] & flag)


def flag_row(row: bytes, flag: int) -> bytes:
    return bytes((row[0] | flag,)) + row[1:]


def combination_of(row: bytes) -> int:
    return int.from_bytes(row[COMBINATION], "little")


def codes_at(row: bytes) -> int:
    """Where the codes of a row begin."""
    return HEADER_BYTES + (8 if row[0] & _FORM == WIDE else 0)


def tail_bytes(row: bytes) -> int:
    """How many bytes of a row its label takes: none of a pending one."""
    if kind_of(row) != JOINED:
        return 0
    return TAIL_BYTES + (1 + VALUE_BYTES * row[-TAIL_BYTES - 1] if row[0] & _VALUED else 0)


def class_scores(rows: Sequence[bytes], classes: int) -> npt.NDArray[np.float32]:
    """[n, classes] of rows of a multiclass model, pending or joined."""
    size = 4 * classes
    ends = [len(row) - tail_bytes(row) for row in rows]
    data = b"".join([row[end - size : end] for row, end in zip(rows, ends, strict=True)])
    return np.frombuffer(data, dtype="<f4").reshape(len(rows), classes)


def join_row(
    row: bytes, label: float, age: int, pane: int, values: Sequence[float] = (), *, revised: bool = False
) -> bytes:
    """The joined form of a pending or joined row. `age` is the bin of the first label's delay, -1 for none; `pane` the pane of arrival
    when the pair was complete."""
    state = row[0] & ~(_KIND | LATE_SEEN | _VALUED) | JOINED | (REVISED if revised else 0)
    kept = row[1 : len(row) - tail_bytes(row)]
    if values:
        state |= _VALUED
        kept += np.array(values, dtype="<f8").tobytes() + bytes((len(values),))
    age_byte = bytes((age if age >= 0 else NO_AGE,))
    return bytes((state,)) + kept + age_byte + pane.to_bytes(PANE_BYTES, "little") + _LABEL.pack(label)


def join_pending(
    rows: Sequence[bytes],
    labels: Floats,
    ages: Indices,
    panes: Indices,
    values: Sequence[Sequence[float]] | None = None,
) -> list[bytes]:
    """`join_row` of pending rows without flags."""
    sizes = set(map(len, rows))
    if len(sizes) > 1 or values is not None:
        each = zip(rows, labels.tolist(), ages.tolist(), panes.tolist(), values or [()] * len(rows), strict=True)
        return [join_row(*columns) for columns in each]
    old = sizes.pop()
    tails = np.zeros(len(rows), dtype=TAIL)
    tails["age"], tails["label"] = np.where(ages < 0, NO_AGE, ages), labels
    tails["pane"] = _bytes_of(panes.astype("<i8"))[:, :PANE_BYTES]
    joined = np.empty((len(rows), old + TAIL_BYTES), dtype=np.uint8)
    joined[:, :old] = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), old)
    joined[:, 0] += JOINED - PENDING
    joined[:, old:] = _bytes_of(tails)
    return _cut(joined)


def label_of(row: bytes) -> float:
    """The label of a joined row: 0 or 1, a class index, or a value."""
    return float(_LABEL.unpack(row[-8:])[0])


def age_of(row: bytes) -> int:
    """The bin of a joined row's delay; -1 where none is known."""
    age = row[-TAIL_BYTES]
    return -1 if age == NO_AGE else age


def pane_of(row: bytes) -> int:
    """The pane of arrival in which a joined row's pair was complete: a correction counts in its day too."""
    return int.from_bytes(row[1 - TAIL_BYTES : -8], "little")


def values_of(row: bytes) -> tuple[float, ...]:
    """The business values that a joined row's labels stated, in the model's order; NaN for one that they left out."""
    if not row[0] & _VALUED:
        return ()
    end = len(row) - TAIL_BYTES - 1
    given: list[float] = np.frombuffer(row[end - VALUE_BYTES * row[end] : end], dtype="<f8").tolist()
    return tuple(given)


def time_of(row: bytes) -> float:
    """Event time of the prediction or, of a waiting row, of its first label; epoch seconds."""
    if kind_of(row) == EARLY:
        return unpack_waiting(row)[0].time
    return int.from_bytes(row[TIME], "little") / TICKS_PER_S


_encode = msgspec.msgpack.Encoder().encode
_waiting = msgspec.msgpack.Decoder(list[tuple[float, float | str | bool, dict[str, float] | None, str | None, int]])


def pack_waiting(labels: Sequence[WaitingLabel]) -> bytes:
    """Labels that came first. Beyond eight the oldest but one goes: the first says when, the last says what."""
    kept = [*labels[:1], *labels[-(MAX_WAITING_LABELS - 1) :]] if len(labels) > MAX_WAITING_LABELS else labels
    return bytes((EARLY,)) + _encode([tuple(label) for label in kept])


def unpack_waiting(row: bytes) -> list[WaitingLabel]:
    return [WaitingLabel(*item) for item in _waiting.decode(row[1:])]
