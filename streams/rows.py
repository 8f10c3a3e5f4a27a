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
    data, size = packed.tobytes(), packed.dtype.itemsize
    return [data[at : at + size] for at in range(0, n * size, size)]


def headers(rows: Sequence[bytes]) -> npt.NDArray[Any]:
    """The headers of rows as one structured array."""
    return np.frombuffer(b"".join([row[:HEADER_BYTES] for row in rows]), dtype=HEADER)


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
    kept = row[2 : len(row) - tail_bytes(row)]
    return bytes((JOINED, flags)) + kept + _pack_tails(np.array([label]), np.array([age]), [seen], [values])[0]


def join_pending(
    rows: Sequence[bytes],
    labels: npt.NDArray[np.float64],
    ages: npt.NDArray[np.int64],
    seen: Sequence[float],
    values: Sequence[Sequence[float]] | None = None,
) -> list[bytes]:
    """`join_row` of pending rows without flags."""
    kind = bytes((JOINED, 0))
    return [kind + row[2:] + tail for row, tail in zip(rows, _pack_tails(labels, ages, seen, values), strict=True)]


def _pack_tails(
    labels: npt.NDArray[np.float64],
    ages: npt.NDArray[np.int64],
    seen: Sequence[float],
    values: Sequence[Sequence[float]] | None,
) -> list[bytes]:
    tails = np.zeros(len(labels), dtype=TAIL)
    tails["label"], tails["age"], tails["seen"] = labels, np.where(ages < 0, NO_AGE, ages), seen
    if values is not None and any(values):
        tails["values"] = [len(given) for given in values]
    data = tails.tobytes()
    packed = [data[at : at + TAIL_BYTES] for at in range(0, len(data), TAIL_BYTES)]
    if values is None or not any(values):
        return packed
    return [np.array(given, dtype="<f8").tobytes() + tail for given, tail in zip(values, packed, strict=True)]


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
    """The business values that a joined row's label stated, in the model's order; NaN for one that it left out."""
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
_waiting = msgspec.msgpack.Decoder(list[tuple[float, float | str | bool, dict[str, float] | None, str | None]])


def pack_waiting(labels: Sequence[WaitingLabel]) -> bytes:
    """Labels that came first. Beyond eight the oldest but one goes: the first says when, the last says what."""
    kept = [*labels[:1], *labels[-(MAX_WAITING_LABELS - 1) :]] if len(labels) > MAX_WAITING_LABELS else labels
    return bytes((EARLY,)) + _encode([tuple(label) for label in kept])


def unpack_waiting(row: bytes) -> list[WaitingLabel]:
    return [WaitingLabel(*item) for item in _waiting.decode(row[1:])]
