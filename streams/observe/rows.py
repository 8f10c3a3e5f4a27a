"""One request as one small row: what is kept between a prediction and its label.

A pending row is 32 bytes and one byte a feature: its bin, enough to ask later which features go with wrong predictions. A joined row
has behind that what a corrected label takes back: the business values, their number, the bin of the delay, when the pair was complete, the
label. A label that came first waits as a row of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

PENDING, JOINED, EARLY = 1, 2, 3
LATE_SEEN, TOO_EARLY_SEEN, REVISED = 1, 2, 4

HEADER = np.dtype(
    [
        ("kind", "u1"),
        ("flags", "u1"),
        ("mapping", "<u2"),
        ("combination", "<u4"),
        ("time", "<f8"),
        ("score", "<f8"),
        ("predicted", "<f8"),  # a value of a regression needs all its digits
    ]
)
HEADER_BYTES = HEADER.itemsize
TAIL = np.dtype([("values", "u1"), ("age", "u1"), ("seen", "<f8"), ("label", "<f8")])
TAIL_BYTES = TAIL.itemsize
VALUE_BYTES = 8
NO_AGE = 255
KIND_AT, FLAGS_AT = 0, 1
MAX_WAITING_LABELS = 8


class WaitingLabel(NamedTuple):
    """A label whose prediction has not come. Kept in order of arrival."""

    time: float
    label: float | str | bool
    values: dict[str, float] | None
    definition: str | None = None
    offset: int = -1
    """Where its message stands in the log."""


def pack_predictions(
    times: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float64],
    predicted: npt.NDArray[np.float64],
    combinations: npt.NDArray[np.int64],
    codes: npt.NDArray[np.uint8],
    mapping: int,
    class_scores: npt.NDArray[np.float32] | None,
) -> list[bytes]:
    """Pending rows of n predictions; `codes` is [n, features], `class_scores` [n, classes] of a multiclass model."""
    n = len(times)
    tail = (
        codes if class_scores is None else np.concatenate([codes, class_scores.view(np.uint8).reshape(n, -1)], axis=1)
    )
    packed = np.zeros(n, dtype=np.dtype([("header", HEADER), ("tail", "u1", (tail.shape[1],))]))
    header = packed["header"]
    header["kind"], header["mapping"], header["combination"] = PENDING, mapping, combinations
    header["time"], header["score"], header["predicted"] = times, scores, predicted
    packed["tail"] = tail
    return _cut(packed.tobytes(), packed.dtype.itemsize)


def headers(rows: Sequence[bytes]) -> npt.NDArray[Any]:
    """The headers of rows as one structured array."""
    sizes = set(map(len, rows))
    if len(sizes) == 1:
        return _matrix(rows, sizes.pop())["header"]
    return np.frombuffer(b"".join([row[:HEADER_BYTES] for row in rows]), dtype=HEADER)


def _matrix(rows: Sequence[bytes], size: int) -> npt.NDArray[Any]:
    """Rows of one size as a structured array: `header` and `tail`."""
    kind = np.dtype([("header", HEADER), ("tail", "u1", (size - HEADER_BYTES,))])
    return np.frombuffer(b"".join(rows), dtype=kind)


def tail_bytes(row: bytes) -> int:
    """How many bytes of a row its label takes: none of a pending one."""
    return TAIL_BYTES + VALUE_BYTES * row[-TAIL_BYTES] if row[KIND_AT] == JOINED else 0


def class_scores(rows: Sequence[bytes], classes: int) -> npt.NDArray[np.float32]:
    """[n, classes] of rows of a multiclass model, pending or joined."""
    size = 4 * classes
    ends = [len(row) - tail_bytes(row) for row in rows]
    data = b"".join([row[end - size : end] for row, end in zip(rows, ends, strict=True)])
    return np.frombuffer(data, dtype="<f4").reshape(len(rows), classes)


def join_row(
    row: bytes, label: float, age: int, seen: float, values: Sequence[float] = (), *, revised: bool = False
) -> bytes:
    """The joined form of a pending or joined row. `age` is the bin of the first label's delay, -1 for none; `seen` the watermark then."""
    flags = row[FLAGS_AT] & ~LATE_SEEN | (REVISED if revised else 0)
    kept = row[2 : len(row) - tail_bytes(row)] + np.array(values, dtype="<f8").tobytes()
    tail = np.array([(len(values), age if age >= 0 else NO_AGE, seen, label)], dtype=TAIL)
    return bytes((JOINED, flags)) + kept + tail.tobytes()


def join_pending(
    rows: Sequence[bytes],
    labels: npt.NDArray[np.float64],
    ages: npt.NDArray[np.int64],
    seen: npt.NDArray[np.float64],
    values: Sequence[Sequence[float]] | None = None,
) -> list[bytes]:
    """`join_row` of pending rows without flags."""
    sizes = set(map(len, rows))
    if len(sizes) > 1 or values is not None:
        each = zip(rows, labels.tolist(), ages.tolist(), seen.tolist(), values or [()] * len(rows), strict=True)
        return [join_row(*columns) for columns in each]
    old = sizes.pop()
    size = old + TAIL_BYTES
    tails = np.zeros(len(rows), dtype=TAIL)
    tails["age"], tails["seen"], tails["label"] = np.where(ages < 0, NO_AGE, ages), seen, labels
    joined = np.empty((len(rows), size), dtype=np.uint8)
    joined[:, :old] = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), old)
    joined[:, KIND_AT], joined[:, FLAGS_AT] = JOINED, 0
    joined[:, old:] = tails.view(np.uint8).reshape(len(rows), TAIL_BYTES)
    return _cut(joined.tobytes(), size)


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def flag_row(row: bytes, flag: int) -> bytes:
    return row[:FLAGS_AT] + bytes((row[FLAGS_AT] | flag,)) + row[FLAGS_AT + 1 :]


def label_of(row: bytes) -> float:
    """The label of a joined row: 0 or 1, a class index, or a value."""
    return float(np.frombuffer(row[-TAIL_BYTES:], dtype=TAIL)["label"][0])


def age_of(row: bytes) -> int:
    """The bin of a joined row's delay; -1 where none is known."""
    age = row[1 - TAIL_BYTES]
    return -1 if age == NO_AGE else age


def seen_of(row: bytes) -> float:
    """The watermark when a joined row's pair was complete, epoch seconds: a correction counts in that pane's day too."""
    return float(np.frombuffer(row[-TAIL_BYTES:], dtype=TAIL)["seen"][0])


def values_of(row: bytes) -> tuple[float, ...]:
    """The business values that a joined row's labels stated, in the model's order; NaN for one that they left out."""
    end = len(row) - TAIL_BYTES
    given: list[float] = np.frombuffer(row[end - VALUE_BYTES * row[end] : end], dtype="<f8").tolist()
    return tuple(given)


def time_of(row: bytes) -> float:
    """Event time of the prediction or, of a waiting row, of its first label; epoch seconds."""
    if row[KIND_AT] == EARLY:
        return unpack_waiting(row)[0].time
    return float(_TIME.unpack_from(row, 8)[0])


_TIME = struct.Struct("<d")
_encode = msgspec.msgpack.Encoder().encode
_waiting = msgspec.msgpack.Decoder(list[tuple[float, float | str | bool, dict[str, float] | None, str | None, int]])


def pack_waiting(labels: Sequence[WaitingLabel]) -> bytes:
    """Labels that came first. Beyond eight the oldest but one goes: the first says when, the last says what."""
    kept = [*labels[:1], *labels[-(MAX_WAITING_LABELS - 1) :]] if len(labels) > MAX_WAITING_LABELS else labels
    return bytes((EARLY,)) + _encode([tuple(label) for label in kept])


def unpack_waiting(row: bytes) -> list[WaitingLabel]:
    return [WaitingLabel(*item) for item in _waiting.decode(row[1:])]
